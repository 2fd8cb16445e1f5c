/** `lifeboat restores`: what became of each. */
import type { Client, WorkflowHandle } from '@temporalio/client';
import { fromTimestamp } from '../../mongo/positions.ts';
import { LifeboatError } from '../../shared/errors.ts';
import type { Problem, Progress } from '../../shared/messages.ts';
import type { Optime } from '../../shared/optime.ts';
import { workflowIdOf } from '../../shared/names.ts';
import type { RestoreRecord } from '../../stores/records.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { withStores } from '../stores.ts';
import { promptly, unlessNotFound, withTemporal } from '../temporal.ts';
import { bytes, duration, fields, optime, progressText, table, time } from '../text.ts';

/** A restore as the command line shows it; times are ISO 8601. */
interface RestoreView {
  readonly id: string;
  readonly deployment: string;
  readonly snapshot: string;
  /** The last entry that is applied to it; null when none is. */
  readonly until: Optime | null;
  readonly destination: string;
  readonly daemon: string;
  readonly state: RestoreRecord['state'];
  readonly stage: RestoreRecord['stage'];
  readonly progress: Progress | null;
  readonly problem: Problem | null;
  readonly startedAt: string;
  readonly endedAt: string | null;
  /** Null until it is done, like those below. */
  readonly optime: Optime | null;
  readonly bytes: number | null;
  readonly entriesReplayed: number | null;
  readonly durationMs: number | null;
  readonly verified: boolean | null;
}

export async function showRestores(context: CliContext): Promise<Outcome> {
  const records = await withStores(context, (stores) => stores.restores.find({}).sort({ startedAt: 1 }).toArray());
  const restores = records.map(viewOf);
  return { result: { restores }, text: restores.length === 0 ? 'Nothing was restored yet.' : restoresTable(restores) };
}

export async function showRestore(context: CliContext, id: string): Promise<Outcome> {
  const record = await findRestore(context, id);
  if (!record) throw new LifeboatError('UnknownRestore', `there is no restore ${id}`);
  const view = viewOf(record);
  return { result: view, text: restoreText(view) };
}

/** Ends a restore that runs; what it wrote stays a directory on which mongod refuses to start. */
export async function cancelRestore(context: CliContext, id: string): Promise<Outcome> {
  const record = await findRestore(context, id);
  if (record && record.state !== 'running') {
    throw new LifeboatError('UnknownRestore', `restore ${id} does not run any more: it is ${record.state}`);
  }
  return withTemporal(context, (temporal) =>
    promptly(temporal, async () => {
      const handle = await runningRestore(temporal.client, id, record?.deployment);
      if (!handle) throw new LifeboatError('UnknownRestore', `no restore ${id} runs`);
      await handle.cancel();
      const { workflowId, runId } = await handle.describe();
      return { result: { workflowId, runId, id }, text: `Restore ${id} is being cancelled.` };
    }),
  );
}

function findRestore(context: CliContext, id: string): Promise<RestoreRecord | null> {
  return withStores(context, (stores) => stores.restores.findOne({ _id: id }));
}

/** The workflow of a restore. One that still waits for its daemon has no record, and one of the UI an id of its own. */
async function runningRestore(
  client: Client,
  id: string,
  deployment: string | undefined,
): Promise<WorkflowHandle | undefined> {
  if (deployment !== undefined) {
    const handle = client.workflow.getHandle(workflowIdOf('restore', deployment, id));
    const description = await unlessNotFound(() => handle.describe());
    if (description?.status.name === 'RUNNING') return handle;
  }
  for await (const { workflowId, runId } of client.workflow.list({
    query: `WorkflowType = 'restore' AND ExecutionStatus = 'Running'`,
  })) {
    if (workflowId.endsWith(`/${id}`) || runId === id) return client.workflow.getHandle(workflowId, runId);
  }
  return undefined;
}

function viewOf(record: RestoreRecord): RestoreView {
  const { _id: id, deployment, snapshot, destination, daemon, state, stage, progress, problem, summary } = record;
  return {
    id,
    deployment,
    snapshot,
    until: record.until ? fromTimestamp(record.until.ts) : null,
    destination,
    daemon,
    state,
    stage,
    progress,
    problem: problem && { ...problem, since: problem.since.toISOString() },
    startedAt: record.startedAt.toISOString(),
    endedAt: record.endedAt?.toISOString() ?? null,
    optime: summary && fromTimestamp(summary.optime),
    bytes: summary?.bytes ?? null,
    entriesReplayed: summary?.entriesReplayed ?? null,
    durationMs: summary?.durationMs ?? null,
    verified: summary?.verified ?? null,
  };
}

function restoresTable(restores: readonly RestoreView[]): string {
  return table(
    ['ID', 'DEPLOYMENT', 'STATE', 'STARTED', 'DESTINATION'],
    restores.map(({ id, deployment, state, startedAt, destination }) => [
      id,
      deployment,
      state,
      time(startedAt),
      destination,
    ]),
  );
}

function restoreText(view: RestoreView): string {
  return fields([
    ['restore', view.id],
    ['deployment', view.deployment],
    ['snapshot', view.snapshot],
    ['moment', view.until && optime(view.until)],
    ['destination', view.destination],
    ['daemon', view.daemon],
    ['state', view.state === 'running' ? `running (${view.stage})` : view.state],
    ['progress', view.progress && progressText(view.progress)],
    ['problem', view.problem && `${view.problem.code} ${view.problem.message}`],
    ['remedy', view.problem?.fix],
    ['started', time(view.startedAt)],
    ['ended', view.endedAt && time(view.endedAt)],
    ['optime', view.optime && optime(view.optime)],
    ['size', view.bytes === null ? null : bytes(view.bytes)],
    ['replayed', view.entriesReplayed ? `${view.entriesReplayed} oplog entries` : null],
    ['took', view.durationMs === null ? null : duration(view.durationMs)],
    ['verified', view.verified === null ? null : view.verified ? 'yes' : 'NO'],
  ]);
}
