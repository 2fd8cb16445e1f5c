/** `lifeboat backup`: the lifecycle of one deployment. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  defineSearchAttributeKey,
  SearchAttributeType,
  TypedSearchAttributes,
  type SearchAttributePair,
} from '@temporalio/common';
import {
  WorkflowExecutionAlreadyStartedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type WorkflowHandle,
} from '@temporalio/client';
import { unknownDeployment } from '../../config/uris.ts';
import { isLifeboatError, LifeboatError } from '../../shared/errors.ts';
import type {
  BackupInput,
  BackupStatus,
  Phase,
  Problem,
  Progress,
  RestorableRange,
  SnapshotSummary,
} from '../../shared/messages.ts';
import { backupWorkflowId, SearchAttribute, TASK_QUEUE } from '../../shared/names.ts';
import { compareOptimes } from '../../shared/optime.ts';
import { readStatus, readStatuses } from '../../status/backup-status.ts';
import type { CliContext } from '../context.ts';
import { errorFrom, type Outcome } from '../outcome.ts';
import { progressLines, type View } from '../progress.ts';
import { screenOf, type Screen, type Style } from '../screen.ts';
import { withStores } from '../stores.ts';
import { promptly, unlessNotFound, withTemporal, type Temporal } from '../temporal.ts';
import { bytes, duration, fields, optime, table, time } from '../text.ts';
import {
  endingOf,
  failureOfWork,
  follow,
  NO_WORKER_YET,
  startedOutcome,
  watchBeginning,
  type Ending,
  type Ids,
  type WaitFlags,
} from '../work.ts';

/** What `backup` answers its updates and, with more, the query `status`. */
interface PhaseAnswer {
  readonly phase: Phase;
  readonly problem: Problem | null;
}

/** The search attribute that every workflow of a deployment carries. */
export function deploymentAttribute(deployment: string): TypedSearchAttributes {
  const pair: SearchAttributePair = {
    key: defineSearchAttributeKey(SearchAttribute.deployment, SearchAttributeType.KEYWORD),
    value: deployment,
  };
  return new TypedSearchAttributes([pair]);
}

const seeStatus = (name: string): string => `see \`lifeboat backup status ${name}\``;

/** How long a start is watched for what makes it fail at once: a bad URI, a wrong password, a standalone. */
const START_WATCH_MS = 15_000;

export async function startBackup(context: CliContext, name: string, flags: WaitFlags): Promise<Outcome> {
  const config = await context.config();
  if (!config.deployments.has(name)) throw unknownDeployment(config, name);
  return withTemporal(context, async (temporal) => {
    const handle = await launch(temporal, name);
    const ids: Ids = { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id: name };
    return flags.wait
      ? untilRoutine(context, temporal, handle, ids, flags)
      : whenUnderWay(context, temporal, handle, ids);
  });
}

/** For the Temporal UI. Markdown. */
function aboutBackup(name: string): string {
  return [
    `The lifecycle of the deployment \`${name}\`: an initial sync, then routine operation until it is stopped.`,
    'How it stands is said under *Current Details* and by the query `status`; how far each activity is, under *Pending Activities*.',
    'It obeys the updates `pause {"reason": "…"}`, `resume {}`, `resync {"reason": "…"}` and `stop {}`. Cancelling it stops the backup too; its snapshots stay.',
  ].join('\n\n');
}

async function launch(
  temporal: Temporal,
  name: string,
): Promise<WorkflowHandle & { readonly firstExecutionRunId: string }> {
  const input: BackupInput = { deployment: name };
  try {
    return await promptly(temporal, () =>
      temporal.client.workflow.start('backup', {
        workflowId: backupWorkflowId(name),
        taskQueue: TASK_QUEUE,
        args: [input],
        workflowIdConflictPolicy: 'FAIL',
        typedSearchAttributes: deploymentAttribute(name),
        staticSummary: `Backup of ${name}`,
        staticDetails: aboutBackup(name),
      }),
    );
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    throw new LifeboatError('BackupExists', `the backup of ${name} already runs`);
  }
}

async function whenUnderWay(
  context: CliContext,
  temporal: Temporal,
  handle: WorkflowHandle,
  ids: Ids,
): Promise<Outcome> {
  const inspect = async (activities: readonly string[]): Promise<boolean | LifeboatError> => {
    // The oplog is followed from the moment on at which source, stores and mongod were found good.
    if (activities.includes('tailOplog')) return true;
    const problem = (await askPhase(temporal, handle))?.problem;
    return problem ? errorFrom(problem.code, problem.message) : false;
  };
  const { state, failure } = await watchBeginning(temporal, handle, inspect, START_WATCH_MS);
  if (state === 'idle') context.note(NO_WORKER_YET);
  if (state === 'taken' && !failure) await noteTrouble(context, ids.id);
  return startedOutcome(ids, `The backup of ${ids.id} has begun; ${seeStatus(ids.id)}.`, failure);
}

/** Tells what keeps a backup from getting under way, if that is known. */
async function noteTrouble(context: CliContext, name: string): Promise<void> {
  const status = await withStores(context, (stores) => readStatus(stores, name)).catch(() => undefined);
  if (status?.problem && !status.problem.warning)
    context.note(`It is tried again and again: ${status.problem.code} ${status.problem.message}`);
}

const QUERY_TIMEOUT_MS = 4_000;

/** What the workflow says of itself; undefined while no worker answers for it. */
async function askPhase({ client }: Temporal, handle: WorkflowHandle): Promise<PhaseAnswer | undefined> {
  try {
    return await client.withDeadline(Date.now() + QUERY_TIMEOUT_MS, () => handle.query<PhaseAnswer>('status'));
  } catch {
    return undefined;
  }
}

async function untilRoutine(
  context: CliContext,
  temporal: Temporal,
  handle: WorkflowHandle,
  ids: Ids,
  flags: WaitFlags,
): Promise<Outcome> {
  const over = new AbortController();
  const ended: Promise<Ending<PhaseAnswer>> = endingOf(handle.result() as Promise<PhaseAnswer>);
  const phase = decidedPhase(temporal, handle, over.signal).then((result) => ({ result }));
  try {
    const outcome = await follow(
      context,
      flags,
      `the backup of ${ids.id}`,
      Promise.race([phase, ended]),
      () => viewOf(context, ids.id),
      seeStatus(ids.id),
    );
    if ('left' in outcome) return startedOutcome(ids, '', outcome.left);
    if ('failure' in outcome.ended) return startedOutcome(ids, '', outcome.ended.failure);
    const { phase: reached, problem } = outcome.ended.result;
    if (reached !== 'routine') return startedOutcome(ids, '', notRoutine(ids.id, reached, problem));
  } finally {
    over.abort();
    ended.catch(() => undefined);
  }
  const status = await withStores(context, (stores) => readStatus(stores, ids.id));
  return { result: { ...ids, ...status }, text: statusText(status, screenOf(process.stdout, context.env)) };
}

/** The first phase that needs no further waiting: routine, or one that only a person ends. */
async function decidedPhase(temporal: Temporal, handle: WorkflowHandle, over: AbortSignal): Promise<PhaseAnswer> {
  for (;;) {
    const answer = await askPhase(temporal, handle);
    if (answer && answer.phase !== 'initial-sync' && answer.phase !== 'paused') return answer;
    await delay(1_000, undefined, { signal: over });
  }
}

function notRoutine(name: string, phase: Phase, problem: Problem | null): LifeboatError {
  if (problem) return errorFrom(problem.code, problem.message);
  return new LifeboatError('WorkCancelled', `the backup of ${name} is ${phase}`);
}

async function viewOf(context: CliContext, name: string): Promise<View | undefined> {
  const status = await withStores(context, (stores) => readStatus(stores, name));
  // Any other phase ends the wait, or is what the stores remember of an earlier backup.
  return status.phase === 'initial-sync' || status.phase === 'paused' ? viewOfStatus(status) : undefined;
}

export function viewOfStatus({ phase, members, problem }: BackupStatus): View {
  return { phase, working: workingOf(members), trouble: problem && `${problem.code} ${problem.message}` };
}

function workingOf(members: BackupStatus['members']): Progress[] {
  return members.flatMap(({ progress, alongside }) => (progress ? [progress, ...alongside] : []));
}

export type BackupUpdate = 'pause' | 'resume' | 'resync' | 'stop';

/** The workflow waits up to 30 s for the effect, and a worker may have to be found before. */
const UPDATE_TIMEOUT_MS = 45_000;

const done: Readonly<Record<BackupUpdate, string>> = {
  pause: 'is paused: nothing is read from the source until `resume`, and its oplog moves on',
  resume: 'goes on',
  resync: 'begins a new initial sync; its snapshots stay',
  stop: 'is stopped; its snapshots stay',
};

export async function updateBackup(
  context: CliContext,
  update: BackupUpdate,
  name: string,
  reason: string | undefined,
): Promise<Outcome> {
  return withTemporal(context, async (temporal) => {
    const handle = temporal.client.workflow.getHandle(backupWorkflowId(name));
    const description = await promptly(temporal, () => unlessNotFound(() => handle.describe()));
    if (description?.status.name !== 'RUNNING') throw new LifeboatError('NoBackup', `no backup of ${name} runs`);
    const ids: Ids = { workflowId: handle.workflowId, runId: description.runId, id: name };
    const takesReason = update === 'pause' || update === 'resync';
    const input = takesReason ? { reason: reason ?? `lifeboat backup ${update}` } : {};
    try {
      const answer = await temporal.client.withDeadline(Date.now() + UPDATE_TIMEOUT_MS, () =>
        handle.executeUpdate<PhaseAnswer, [object]>(update, { args: [input] }),
      );
      return { result: { ...ids, deployment: name, ...answer }, text: `The backup of ${name} ${done[update]}.` };
    } catch (error) {
      return { result: ids, text: '', error: updateFailure(error, name, update) };
    }
  });
}

function updateFailure(error: unknown, name: string, update: BackupUpdate): LifeboatError {
  const failure = failureOfWork(error);
  if (failure) return failure;
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) {
    return new LifeboatError(
      'TimedOut',
      `no worker carried out ${update} for ${name} in ${duration(UPDATE_TIMEOUT_MS)}`,
      {
        cause: error,
      },
    );
  }
  throw error;
}

/** From the stores alone: it answers when no worker and no Temporal does. */
export async function showStatus(context: CliContext, name: string | undefined): Promise<Outcome> {
  const statuses = await readOneOrAll(context, name);
  const [status] = statuses;
  return name !== undefined && status
    ? { result: status, text: statusText(status, screenOf(process.stdout, context.env)) }
    : { result: { deployments: statuses }, text: statusesText(statuses) };
}

/** @throws LifeboatError `NoBackup`, `UnknownDeployment` when there is none of that name; what `withStores` throws */
export async function readOneOrAll(context: CliContext, name: string | undefined): Promise<BackupStatus[]> {
  if (name === undefined) return withStores(context, readStatuses);
  try {
    return [await withStores(context, (stores) => readStatus(stores, name))];
  } catch (error) {
    const config = await context.config();
    throw isLifeboatError(error, 'NoBackup') && !config.deployments.has(name) ? unknownDeployment(config, name) : error;
  }
}

export function statusesText(statuses: readonly BackupStatus[]): string {
  if (statuses.length === 0) return 'No backup was ever started here.';
  return table(
    ['NAME', 'PHASE', 'FOR', 'LAG', 'LAST SNAPSHOT', 'PROBLEM'],
    statuses.map(({ deployment, phase, since, members, lastSnapshot, problem }) => [
      deployment,
      phase,
      ago(since),
      lagText(members.map(({ lagSeconds }) => lagSeconds)),
      lastSnapshot ? `${ago(lastSnapshot.wallTime)} ago` : '-',
      problem ? `${problem.code} ${problem.message}` : '-',
    ]),
  );
}

function lagText(lags: readonly (number | null)[]): string {
  const known = lags.filter((lag) => lag !== null);
  return known.length === 0 ? '-' : duration(Math.max(...known) * 1000);
}

const phaseStyles: Readonly<Record<Phase, Style>> = {
  'initial-sync': 'cyan',
  routine: 'green',
  paused: 'yellow',
  'resync-needed': 'red',
  failed: 'red',
  stopped: 'dim',
};

/** @param screen where it is shown */
export function statusText(status: BackupStatus, screen: Pick<Screen, 'paint' | 'unicode' | 'columns'>): string {
  const { deployment, kind, phase, since, members, lastSnapshot, restorable, problem } = status;
  const working = workingOf(members);
  const lines = [
    fields([
      ['deployment', `${deployment} (${kind})`],
      ['phase', `${screen.paint(phaseStyles[phase], phase)} since ${time(since)} (${ago(since)})`],
      ['last snapshot', lastSnapshot ? snapshotText(lastSnapshot) : 'none yet'],
      ['restorable', restorableText(restorable)],
      [
        problem?.warning ? 'warning' : 'problem',
        problem &&
          `${screen.paint(problem.warning ? 'yellow' : 'red', problem.code)} ${problem.message} (since ${time(problem.since)}, ${ago(problem.since)})`,
      ],
      ['what to do', problem?.fix],
    ]),
    ...(members.length === 0 ? [] : [membersTable(members)]),
    ...(working.length === 0
      ? []
      : [progressLines(working, phase === 'initial-sync', screen.columns(), screen).join('\n')]),
  ];
  return lines.join('\n\n');
}

function membersTable(members: BackupStatus['members']): string {
  return table(
    ['MEMBER', 'PHASE', 'APPLIED THROUGH', 'LAG', 'DAEMON'],
    members.map((member) => [
      member.name,
      member.phase,
      optime(member.appliedThrough),
      lagText([member.lagSeconds]),
      member.daemon ?? '-',
    ]),
  );
}

function snapshotText({ id, wallTime, logicalBytes }: SnapshotSummary): string {
  return `${id}, ${bytes(logicalBytes)}, ${ago(wallTime)} old`;
}

/** How long ago that was, as this machine's clock has it. */
function ago(iso: string): string {
  return duration(Math.max(0, Math.round((Date.now() - Date.parse(iso)) / 1000)) * 1000);
}

function restorableText(ranges: readonly RestorableRange[]): string {
  const [first, last] = [ranges[0], ranges.at(-1)];
  if (!first || !last) return 'nothing yet';
  if (ranges.length === 1 && compareOptimes(first.from, first.to) === 0) return optime(first.from);
  const stretches = ranges.length === 1 ? '' : `, in ${ranges.length} pieces`;
  return `${optime(first.from)} to ${optime(last.to)}${stretches}`;
}
