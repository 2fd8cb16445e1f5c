/** `lifeboat snapshots`: taken, listed, shown, verified. */
import { findSnapshot, listSnapshots } from '../../blockstore/snapshots.ts';
import { LifeboatError } from '../../shared/errors.ts';
import type { SnapshotInput, SnapshotSummary, VerifyResult, VerifySnapshotInput } from '../../shared/messages.ts';
import { TASK_QUEUE, workflowIdOf } from '../../shared/names.ts';
import type { CliContext } from '../context.ts';
import { errorFrom, type Outcome } from '../outcome.ts';
import { withStores } from '../stores.ts';
import { promptly, withTemporal } from '../temporal.ts';
import { bytes, duration, fields, optime, table, time } from '../text.ts';
import { uniqueId, type WaitFlags } from '../work.ts';
import { deploymentAttribute } from './backup.ts';
import { settle } from './settle.ts';

export async function createSnapshot(context: CliContext, name: string, flags: WaitFlags): Promise<Outcome> {
  const input: SnapshotInput = { deployment: name };
  const id = uniqueId();
  return withTemporal(context, async (temporal) => {
    const handle = await promptly(temporal, () =>
      temporal.client.workflow.start('snapshot', {
        workflowId: workflowIdOf('snapshot', name, id),
        taskQueue: TASK_QUEUE,
        args: [input],
        typedSearchAttributes: deploymentAttribute(name),
        staticSummary: `Snapshot of ${name}`,
      }),
    );
    const ids = { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id };
    return settle<SnapshotSummary>({
      context,
      temporal,
      handle,
      ids,
      flags,
      what: `the snapshot of ${name}`,
      hint: `see \`lifeboat snapshots list ${name}\``,
      outcome: (summary) => ({ result: summary, text: snapshotText(summary) }),
    });
  });
}

export async function showSnapshots(context: CliContext, name: string | undefined): Promise<Outcome> {
  const snapshots = await withStores(context, (stores) => listSnapshots(stores, name));
  const none = name === undefined ? 'There are no snapshots yet.' : `There are no snapshots of ${name} yet.`;
  return { result: { snapshots }, text: snapshots.length === 0 ? none : snapshotsTable(snapshots) };
}

export async function showSnapshot(context: CliContext, id: string): Promise<Outcome> {
  const snapshot = await existingSnapshot(context, id);
  return { result: snapshot, text: snapshotText(snapshot) };
}

/** @throws LifeboatError `UnknownSnapshot` */
export async function existingSnapshot(context: CliContext, id: string): Promise<SnapshotSummary> {
  const snapshot = await withStores(context, (stores) => findSnapshot(stores, id));
  if (!snapshot) throw new LifeboatError('UnknownSnapshot', `there is no snapshot ${id}`);
  return snapshot;
}

/** Reads all of a snapshot; the answer is the result, so it is always waited for. */
export async function verifySnapshot(context: CliContext, id: string, timeout: number | undefined): Promise<Outcome> {
  const { deployment } = await existingSnapshot(context, id);
  const input: VerifySnapshotInput = { snapshot: id };
  const unique = uniqueId();
  return withTemporal(context, async (temporal) => {
    const handle = await promptly(temporal, () =>
      temporal.client.workflow.start('verifySnapshot', {
        workflowId: workflowIdOf('verifySnapshot', deployment, unique),
        taskQueue: TASK_QUEUE,
        args: [input],
        typedSearchAttributes: deploymentAttribute(deployment),
        staticSummary: `Verification of ${id}`,
      }),
    );
    const ids = { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id: unique };
    return settle<VerifyResult>({
      context,
      temporal,
      handle,
      ids,
      flags: { wait: true, timeout },
      what: `the verification of ${id}`,
      hint: `see workflow ${handle.workflowId} in the Temporal UI`,
      outcome: (result) => verified(id, result),
    });
  });
}

function verified(id: string, result: VerifyResult): Outcome {
  const { ok, blocksChecked, bytesChecked, problems } = result;
  const read = `${blocksChecked} blocks, ${bytes(bytesChecked)}`;
  if (ok) return { result, text: `Snapshot ${id} is sound: ${read} read and checked.` };
  const [first] = problems;
  const error = first
    ? errorFrom(
        first.code,
        problems.length === 1 ? first.message : `${first.message} (and ${problems.length - 1} more)`,
      )
    : new LifeboatError('BlockDamaged', `snapshot ${id} is not sound`);
  const text = problems.map(({ code, message }) => `${code} ${message}`).join('\n');
  return { result, text: [`Snapshot ${id} is DAMAGED: ${read} read.`, text].filter(Boolean).join('\n'), error };
}

function snapshotsTable(snapshots: readonly SnapshotSummary[]): string {
  return table(
    ['ID', 'DEPLOYMENT', 'OPTIME', 'SIZE', 'NEW', 'REUSED BLOCKS', 'TOOK'],
    snapshots.map((snapshot) => [
      snapshot.id,
      snapshot.deployment,
      optime(snapshot.optime),
      bytes(snapshot.logicalBytes),
      bytes(snapshot.newStoredBytes),
      String(snapshot.reusedBlocks),
      duration(snapshot.durationMs),
    ]),
    [3, 4, 5, 6],
  );
}

function snapshotText(snapshot: SnapshotSummary): string {
  return fields([
    ['snapshot', snapshot.id],
    ['deployment', snapshot.deployment],
    ['optime', optime(snapshot.optime)],
    ['source wrote it at', time(snapshot.wallTime)],
    ['size', bytes(snapshot.logicalBytes)],
    ['new blocks', `${snapshot.newBlocks}, ${bytes(snapshot.newStoredBytes)} stored`],
    ['reused blocks', String(snapshot.reusedBlocks)],
    ['took', duration(snapshot.durationMs)],
  ]);
}
