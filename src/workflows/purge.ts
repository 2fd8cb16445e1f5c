/** Workflow `purge`: everything that is stored of a deployment removed, and its space freed. */
import { getExternalWorkflowHandle, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { PurgeInput, PurgePlan, PurgeResult } from '../shared/messages.ts';
import { backupWorkflowId, daemonTaskQueue } from '../shared/names.ts';
import { anywhere } from './anywhere.ts';
import { castFailure, failure, wasNotTakenUp, workflowFailure } from './failures.ts';
import { deploymentField, fieldsOf, flagField } from './input.ts';
import { knock } from './messages.ts';
import { onDaemon } from './options.ts';
import { tagDeployment } from './tags.ts';

/** How long a daemon has to remove its head while the purge looks on; it does so later if it must. */
const HEAD_PATIENCE_MS = 30_000;

export async function purge(input: PurgeInput): Promise<PurgePlan | PurgeResult> {
  const fields = fieldsOf('purge', input, ['deployment', 'dryRun']);
  const deployment = deploymentField('purge', fields);
  const dryRun = flagField('purge', fields, 'dryRun');
  tagDeployment(deployment);
  const { startTime, firstExecutionRunId } = workflowInfo();
  if (!dryRun) await refuseRunning(deployment);
  setCurrentDetails(`**${deployment}**: looking for what is stored of it.`);
  const plan = await anywhere((daemon) => daemon.planPurge({ deployment }));
  if (dryRun) return plan;
  const run = { deployment, run: firstExecutionRunId };
  setCurrentDetails(
    `**${deployment}**: ${plan.snapshots.count} snapshots, ${plan.blocks.freed} blocks and all else that is stored of it are being removed.`,
  );
  const { daemons } = await anywhere((daemon) => daemon.beginPurge(run));
  const headsLeftOn: string[] = [];
  for (const daemon of daemons) if (!(await headsGone(daemon))) headsLeftOn.push(daemon);
  const { deletedBlocks, reclaimedBytes } = await anywhere((daemon) => daemon.purgeSnapshots(run));
  await anywhere((daemon) => daemon.purgeRecords(run));
  setCurrentDetails(`**${deployment}**: purged, ${reclaimedBytes} bytes of ${deletedBlocks} blocks freed.`);
  return { ...plan, deletedBlocks, reclaimedBytes, headsLeftOn, durationMs: Date.now() - startTime.getTime() };
}

/** A signal reaches what runs, and nothing else. */
async function refuseRunning(deployment: string): Promise<void> {
  const runs = await getExternalWorkflowHandle(backupWorkflowId(deployment))
    .signal(knock)
    .then(
      () => true,
      () => false,
    );
  if (runs) throw workflowFailure(failure('DeploymentBusy', `the backup of ${deployment} runs`));
}

async function headsGone(daemon: string): Promise<boolean> {
  try {
    await onDaemon(daemonTaskQueue(daemon), HEAD_PATIENCE_MS).discardHeads();
    return true;
  } catch (error) {
    if (wasNotTakenUp(error)) return false;
    throw castFailure(error);
  }
}
