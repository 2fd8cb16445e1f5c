/** The text that the web UI shows beside a running workflow: what, how far, what is wrong, what to do. */
import type { Sight } from '../activities/types.ts';
import type { Phase, Problem } from '../shared/messages.ts';
import { compareOptimes, formatOptime } from '../shared/optime.ts';
import { duration, progressText, time } from '../shared/phrases.ts';
import { stepOfSync } from '../shared/stages.ts';
import { phaseOf, type Lifecycle } from './lifecycle.ts';

const meanings: Readonly<Record<Phase, string>> = {
  'initial-sync': 'The data is copied from the source; the first snapshot ends it.',
  routine: 'The oplog of the source is followed and applied to the head.',
  paused: 'Nothing is read from the source. Send the update `resume` before its oplog has moved on.',
  'resync-needed':
    'The head cannot be brought to what the source is. Send the update `resync` to begin a new initial sync.',
  failed: 'Mend what is named below, then send the update `resume`.',
  stopped: 'The backup is over; its snapshots can be restored.',
};

/** A sight, and when it was. */
export interface Seen {
  readonly sight: Sight;
  /** ISO 8601. */
  readonly at: string;
}

/** Markdown. */
export function detailsOf(deployment: string, life: Lifecycle, seen: Seen | null): string {
  const phase = phaseOf(life);
  const { problem, reason, claim } = life;
  return paragraphs([
    `**${deployment}**: **${phase}** since ${time(life.since)}. ${meanings[phase]}`,
    problem && problemText(problem),
    // Beside a problem they would only say what led to it.
    ...(problem ? [] : life.warnings.map((warning) => `Warning: ${problemText(warning)}`)),
    life.seed ? 'The head is being made again from its newest snapshot; the oplog is stored meanwhile.' : null,
    seen && sightText(seen, phase === 'initial-sync'),
    positionOf(life),
    reason === null ? null : `Reason given: ${reason}`,
    claim && daemonText(claim.daemon, claim.taskQueue),
  ]);
}

/** What a workflow does that is one piece of work. */
export function workDetails(what: string, daemon: string | null, seen: Seen | null): string {
  return paragraphs([what, seen && sightText(seen, false), daemon]);
}

/** Why nothing happens when nothing does. */
export function daemonText(daemon: string, taskQueue: string): string {
  return `Daemon \`${daemon}\`; while its worker does not run, work waits on the task queue \`${taskQueue}\`.`;
}

function sightText({ sight: { working, trouble }, at }: Seen, isSync: boolean): string | null {
  const lines = working.map((progress) => {
    const step = isSync ? stepOfSync(progress.stage) : undefined;
    return `- ${step ? `step ${step.step} of ${step.of}: ` : ''}${progressText(progress)}`;
  });
  const told = lines.length === 0 ? null : [`At ${time(at)}:`, ...lines].join('\n');
  const text = paragraphs([trouble && `${problemText(trouble)} It is tried again by itself.`, told]);
  return text === '' ? null : text;
}

function problemText({ code, message, fix, since }: Problem): string {
  return `⚠ **${code}** since ${time(since)}: ${message}. **What to do:** ${fix}`;
}

function positionOf({ seen, applied }: Lifecycle): string | null {
  if (!seen) return null;
  if (!applied) return `Oplog stored through ${formatOptime(seen)}.`;
  const behind = compareOptimes(seen, applied) <= 0 ? 0 : seen.t - applied.t;
  const lag = behind === 0 ? 'nothing of it waits' : `${duration(behind * 1000)} behind`;
  return `Oplog stored through ${formatOptime(seen)}, applied through ${formatOptime(applied)}: ${lag}.`;
}

function paragraphs(texts: readonly (string | null)[]): string {
  return texts.filter((text) => text !== null).join('\n\n');
}
