/** Workflow `restore`: a snapshot brought back as a directory that mongod starts on. */
import { CancellationScope, isCancellation, setCurrentDetails, workflowInfo } from '@temporalio/workflow';
import type { DaemonActivities, RestoreWork } from '../activities/types.ts';
import type { Problem, RestoreInput, RestoreSummary } from '../shared/messages.ts';
import { workflowIdOf } from '../shared/names.ts';
import { reclaiming } from './claiming.ts';
import { castFailure, failingWithCode, failureOf } from './failures.ts';
import { restorePlanOf } from './input.ts';
import { onDaemon, shared } from './options.ts';
import { tagDeployment } from './tags.ts';

export async function restore(input: RestoreInput): Promise<RestoreSummary> {
  const { deployment, snapshot, path, daemon } = restorePlanOf(input);
  tagDeployment(deployment);
  const work: RestoreWork = { id: restoreId(deployment), deployment, snapshot, path };
  const what = `Restore \`${work.id}\` of snapshot \`${snapshot}\` into \`${path}\``;
  setCurrentDetails(`${what}: looking for a daemon.`);
  const { taskQueue, daemon: chosen } = await failingWithCode(() =>
    shared().claim({ purpose: 'anywhere', ...(daemon === undefined ? {} : { daemon }) }),
  );
  setCurrentDetails(
    `${what} on daemon \`${chosen}\`. It waits on the task queue \`${taskQueue}\` while its worker does not run.`,
  );
  const activities = onDaemon(taskQueue);
  try {
    const summary = await reclaiming(() => activities.restoreDirectory(work));
    setCurrentDetails(`${what}: done, ${summary.bytes} bytes, proven.`);
    return summary;
  } catch (error) {
    await CancellationScope.nonCancellable(() => abandon(activities, work, error));
    throw castFailure(error);
  }
}

/** What the command line chose as the id when it started the workflow; else the workflow's own. */
function restoreId(deployment: string): string {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  const prefix = workflowIdOf('restore', deployment, '');
  const chosen = workflowId.startsWith(prefix) ? workflowId.slice(prefix.length) : '';
  return /^[\w.-]+$/.test(chosen) ? chosen : firstExecutionRunId;
}

async function abandon(activities: DaemonActivities, work: RestoreWork, error: unknown): Promise<void> {
  const failure = isCancellation(error) ? undefined : failureOf(error);
  const problem: Problem | null = failure ? { ...failure, since: new Date().toISOString() } : null;
  await activities.abandonRestore({ ...work, state: failure ? 'failed' : 'cancelled', problem });
}
