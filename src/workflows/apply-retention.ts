/** Workflow `applyRetention`: the snapshots of a deployment that no tier keeps are deleted, one by one. */
import { setCurrentDetails } from '@temporalio/workflow';
import type { DaemonActivities } from '../activities/types.ts';
import type { ApplyRetentionInput, RetentionPlan, RetentionResult } from '../shared/messages.ts';
import { anywhere } from './anywhere.ts';
import { failureOf, isKind } from './failures.ts';
import { deploymentField, fieldsOf, flagField } from './input.ts';
import { tagDeployment } from './tags.ts';

export async function applyRetention(input: ApplyRetentionInput): Promise<RetentionPlan | RetentionResult> {
  const fields = fieldsOf('applyRetention', input, ['deployment', 'dryRun']);
  const deployment = deploymentField('applyRetention', fields);
  tagDeployment(deployment);
  if (flagField('applyRetention', fields, 'dryRun')) return anywhere((daemon) => daemon.planRetention({ deployment }));
  const { deleted: ended } = await anywhere((daemon) => daemon.finishDeletions({ deployment }));
  const plan = await anywhere((daemon) => daemon.planRetention({ deployment }));
  const deleted = [...ended];
  const skipped: { id: string; reason: string }[] = [];
  const going = plan.snapshots.filter(({ keptFor }) => keptFor.length === 0);
  for (const { id } of going.toReversed()) {
    setCurrentDetails(
      `**${deployment}**: ${deleted.length} of ${going.length + ended.length} snapshots that no tier keeps are deleted.`,
    );
    const reason = await anywhere((daemon) => removed(daemon, id));
    if (reason === undefined) deleted.push(id);
    else skipped.push({ id, reason });
  }
  setCurrentDetails(detailsOf(plan, deleted, skipped));
  return { ...plan, deleted, skipped };
}

/** Why it stays for now, or undefined when it is deleted. */
async function removed(daemon: DaemonActivities, snapshot: string): Promise<string | undefined> {
  try {
    await daemon.removeSnapshot({ snapshot });
    return undefined;
  } catch (error) {
    const failure = failureOf(error);
    const staying = ['SnapshotInUse', 'SnapshotPinned'] as const;
    if (failure && staying.some((kind) => isKind(failure, kind))) return failure.message;
    // Somebody else has deleted it.
    if (failure && isKind(failure, 'UnknownSnapshot')) return undefined;
    throw error;
  }
}

function detailsOf(
  { deployment, snapshots, keep }: RetentionPlan,
  deleted: readonly string[],
  skipped: RetentionResult['skipped'],
): string {
  if (!keep) return `**${deployment}**: the configuration keeps all ${snapshots.length} snapshots.`;
  const kept = snapshots.length - snapshots.filter(({ keptFor }) => keptFor.length === 0).length;
  const stay = skipped.map(({ reason }) => `- ${reason}`);
  return [
    `**${deployment}**: ${deleted.length} snapshots deleted, ${kept} kept.`,
    ...(stay.length > 0 ? ['', ...stay] : []),
  ].join('\n');
}
