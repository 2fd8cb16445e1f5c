/** The text that the web UI shows beside a running workflow: what, how far, what is wrong, what to do. */
import type { Phase } from '../shared/messages.ts';
import { compareOptimes, formatOptime } from '../shared/optime.ts';
import { phaseOf, type Lifecycle } from './lifecycle.ts';

const meanings: Readonly<Record<Phase, string>> = {
  'initial-sync': 'The data is copied from the source; the first snapshot ends it.',
  routine: 'The oplog of the source is followed and applied to the head.',
  paused: 'Nothing is read from the source. Send the update `resume` before its oplog has moved on.',
  'resync-needed': 'The chain of entries is broken. Send the update `resync` to begin a new initial sync.',
  failed: 'Mend what is named below, then send the update `resume`.',
  stopped: 'The backup is over; its snapshots can be restored.',
};

/** Markdown. */
export function detailsOf(deployment: string, life: Lifecycle): string {
  const phase = phaseOf(life);
  const lines = [`**${deployment}**: ${phase} since ${life.since}`, meanings[phase]];
  if (life.reason !== null) lines.push(`Reason given: ${life.reason}`);
  if (life.claim) {
    lines.push(
      `Daemon \`${life.claim.daemon}\`. Its work waits on the task queue \`${life.claim.taskQueue}\` while its worker does not run; if it is gone for good, another takes over.`,
    );
  }
  const position = positionOf(life);
  if (life.seed) lines.push('The head is being made again from its newest snapshot; the oplog is stored meanwhile.');
  if (position !== undefined) lines.push(position);
  if (life.problem) {
    const { code, message, fix, since } = life.problem;
    lines.push(`**${code}** since ${since}: ${message}. ${fix}`);
  }
  return lines.join('\n\n');
}

function positionOf({ seen, applied }: Lifecycle): string | undefined {
  if (!seen) return undefined;
  if (!applied) return `Oplog stored through ${formatOptime(seen)}.`;
  const behind = compareOptimes(seen, applied) <= 0 ? 0 : seen.t - applied.t;
  return `Oplog stored through ${formatOptime(seen)}, applied through ${formatOptime(applied)} (${behind} s behind).`;
}
