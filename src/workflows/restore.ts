/** Workflow `restore`: a snapshot, or any moment that entries lead to, brought back as a directory that mongod starts on. */
import {
  CancellationScope,
  CancelledFailure,
  isCancellation,
  setCurrentDetails,
  workflowInfo,
} from '@temporalio/workflow';
import type { DaemonActivities, RestoreWork } from '../activities/types.ts';
import type { Problem, RestoreInput, RestorePoint, RestorePreview, RestoreSummary } from '../shared/messages.ts';
import { workflowIdOf } from '../shared/names.ts';
import { formatOptime } from '../shared/optime.ts';
import { bytes, duration } from '../shared/phrases.ts';
import { reclaiming } from './claiming.ts';
import { daemonText, workDetails } from './details.ts';
import { castFailure, failingWithCode, failureOf } from './failures.ts';
import { restorePlanOf, type RestorePlan } from './input.ts';
import { observing } from './observing.ts';
import { onDaemon, shared } from './options.ts';
import { recordingOn } from './recording.ts';
import { tagDeployment } from './tags.ts';

export async function restore(input: RestoreInput): Promise<RestoreSummary | RestorePreview> {
  const plan = restorePlanOf(input);
  const { deployment, path, daemon } = plan;
  tagDeployment(deployment);
  const id = restoreId(deployment);
  setCurrentDetails(`Restore \`${id}\` of ${wantedText(plan)} into \`${path}\`: looking for a daemon.`);
  const place = await failingWithCode(() =>
    shared().claim({ purpose: 'anywhere', ...(daemon === undefined ? {} : { daemon }) }),
  );
  const { taskQueue, daemon: chosen } = place;
  const where = daemonText(chosen, taskQueue);
  const activities = onDaemon(taskQueue, place.patienceMs);
  const onIt = <T>(ask: () => Promise<T>): Promise<T> => failingWithCode(() => stayingOn(chosen, ask));
  const point = await onIt(() => pointOf(plan, activities));
  if (plan.dryRun) {
    const preview = await onIt(() => activities.previewRestore({ ...point, deployment, path }));
    setCurrentDetails(`Nothing was restored: the result is what restore \`${id}\` would do.`);
    return preview;
  }
  const { snapshot, until, entries } = point;
  const work: RestoreWork = { id, deployment, snapshot, ...(until ? { until, entries } : {}), path };
  const what = `Restore \`${id}\` of ${workText(work)} into \`${path}\``;
  setCurrentDetails(workDetails(`${what}.`, where, null));
  try {
    const summary = await observing(
      activities,
      () => stayingOn(chosen, () => activities.restoreDirectory(work)),
      (sight) => setCurrentDetails(workDetails(`${what}.`, where, { sight, at: new Date().toISOString() })),
    );
    const { optime, durationMs } = summary;
    setCurrentDetails(
      `${what}: done and proven. ${bytes(summary.bytes)} as of ${formatOptime(optime)}, in ${duration(durationMs)}.`,
    );
    return summary;
  } catch (error) {
    // A cancelled activity whose worker has died ends as timed out: that it was cancelled is what counts.
    const isCancelled = CancellationScope.current().consideredCancelled;
    await CancellationScope.nonCancellable(() => abandon(taskQueue, work, isCancelled ? undefined : error));
    throw isCancelled ? new CancelledFailure('the restore was cancelled') : castFailure(error);
  }
}

/** Its files are on that daemon's disk: whatever it does waits for it, unless it was retired. */
function stayingOn<T>(daemon: string, ask: () => Promise<T>): Promise<T> {
  let asked = true;
  return reclaiming(async () => {
    if (!asked) await shared().claim({ purpose: 'anywhere', daemon });
    asked = false;
    return ask();
  });
}

/** From which snapshot it is restored, and up to which entry: found out once, so that every run does the same. */
async function pointOf({ deployment, from }: RestorePlan, activities: DaemonActivities): Promise<RestorePoint> {
  if (from === 'latest') return activities.planRestore({ deployment });
  if ('at' in from) return activities.planRestore({ deployment, ...from });
  return { ...from, until: null, entries: 0, entryBytes: 0 };
}

function wantedText({ from }: RestorePlan): string {
  if (from === 'latest') return 'the newest moment';
  return 'at' in from ? `\`${from.at}\`` : `snapshot \`${from.snapshot}\``;
}

function workText({ snapshot, until, entries = 0 }: RestoreWork): string {
  const base = `snapshot \`${snapshot}\``;
  return until ? `${base} and ${entries} entries up to ${formatOptime(until.ts)}` : base;
}

/** What the command line chose as the id when it started the workflow; else the workflow's own. */
function restoreId(deployment: string): string {
  const { workflowId, firstExecutionRunId } = workflowInfo();
  const prefix = workflowIdOf('restore', deployment, '');
  const chosen = workflowId.startsWith(prefix) ? workflowId.slice(prefix.length) : '';
  return /^[\w.-]+$/.test(chosen) ? chosen : firstExecutionRunId;
}

/** @param error what it failed with; undefined when it was cancelled */
async function abandon(taskQueue: string, work: RestoreWork, error: unknown): Promise<void> {
  const failure = error === undefined || isCancellation(error) ? undefined : failureOf(error);
  const problem: Problem | null = failure ? { ...failure, since: new Date().toISOString() } : null;
  const state = failure ? 'failed' : 'cancelled';
  await recordingOn(taskQueue, (activities) => activities.abandonRestore({ ...work, state, problem }));
}
