/** Workflow `snapshot`: one snapshot of a backup in routine operation, at or after the moment it was asked for. */
import { setCurrentDetails } from '@temporalio/workflow';
import type { MemberWork } from '../activities/types.ts';
import type { SnapshotInput, SnapshotSummary } from '../shared/messages.ts';
import { formatOptime, type Optime } from '../shared/optime.ts';
import { bytes, duration } from '../shared/phrases.ts';
import { reclaiming } from './claiming.ts';
import { daemonText, workDetails } from './details.ts';
import { deploymentField, fieldsOf } from './input.ts';
import { observing } from './observing.ts';
import { onDaemon, shared } from './options.ts';
import { tagDeployment } from './tags.ts';

export async function snapshot(input: SnapshotInput): Promise<SnapshotSummary> {
  const deployment = deploymentField('snapshot', fieldsOf('snapshot', input, ['deployment']));
  tagDeployment(deployment);
  let minimum: Optime | undefined;
  return reclaiming(async () => {
    setCurrentDetails(`**${deployment}**: looking for the daemon that owns its head.`);
    const { taskQueue, member, daemon: name, patienceMs } = await shared().claim({ purpose: 'head', deployment });
    if (!member) throw new Error('a running backup has a member');
    const daemon = onDaemon(taskQueue, patienceMs);
    const work: MemberWork = { deployment, member };
    // Asked for once: a snapshot that has to be taken again may be newer, and never need be.
    minimum ??= await daemon.majorityOptime(work);
    const what = `**${deployment}**: a snapshot at or after ${formatOptime(minimum)}.`;
    const where = daemonText(name, taskQueue);
    setCurrentDetails(workDetails(what, where, null));
    const taking = { ...work, minimum, first: false };
    const summary = await observing(
      daemon,
      () => daemon.takeSnapshot(taking),
      (sight) => setCurrentDetails(workDetails(what, where, { sight, at: new Date().toISOString() })),
    );
    setCurrentDetails(
      `**${deployment}**: snapshot \`${summary.id}\` at ${formatOptime(summary.optime)}: ${bytes(summary.logicalBytes)}, of which ${bytes(summary.newStoredBytes)} had to be stored, in ${duration(summary.durationMs)}. ${comparedText(summary)}`,
    );
    return summary;
  });
}

/** A result of an earlier version says nothing of it. */
function comparedText({ verification }: Partial<Pick<SnapshotSummary, 'verification'>>): string {
  switch (verification?.state) {
    case 'equal':
      return `${bytes(verification.bytes)} of its documents were compared with the source, and are equal.`;
    case 'different':
      return `**It differs from the source** in ${verification.different.join(', ')}.`;
    case 'not-compared':
    case undefined:
      return 'Nothing of it was compared with the source.';
  }
}
