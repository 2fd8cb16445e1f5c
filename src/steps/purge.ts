/**
 * Steps: remove all that is stored of a deployment.
 *
 * Begin by writing down what goes, and by raising the epoch of its members: from then on nothing is claimed for it, and
 * nothing written under an older claim. Snapshots go first, header by header, then the blocks that only they referred to,
 * then their parts, which say which blocks those are. Each step finds in the stores how far an earlier run came.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { ObjectId } from 'mongodb';
import { findLeftovers } from '../blockstore/manifest.ts';
import { purgePlanOf, type PurgeFacts } from '../blockstore/purge-plan.ts';
import { storedBytesOf } from '../blockstore/doom.ts';
import { countOnlyOf, sweepBlocksOf, type SweepResult } from '../blockstore/sweep.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromTimestamp } from '../mongo/positions.ts';
import { removeChain } from '../oplogstore/remove.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { PurgePlan } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import { daemonState } from '../stores/daemons.ts';
import { revokeExpiredLeases } from '../stores/leases.ts';
import type { DeploymentRecord, MemberRecord } from '../stores/records.ts';
import { removeSync } from '../syncstore/remove.ts';
import type { StepContext } from './context.ts';

export interface PurgeRequest {
  readonly deployment: string;
  /** Of the run that purges; see DeploymentRecord.purge. */
  readonly run: string;
}

const LOOK_EVERY_MS = 1_000;

// ---- the plan -----------------------------------------------------------------------------------------------------

/**
 * What a purge of the deployment would remove; changes nothing.
 * @throws LifeboatError `NothingStored`
 */
export async function planPurge(ctx: StepContext, stores: Stores, deployment: string): Promise<PurgePlan> {
  return storing(`planning the purge of ${deployment}`, async () => {
    const stored = await storedOf(stores, deployment);
    if (!stored.record && stored.members.length === 0 && stored.snapshots.length === 0) {
      throw new LifeboatError('NothingStored', `nothing is stored of ${deployment}`);
    }
    return purgePlanOf(await factsOf(ctx, stores, deployment, stored));
  });
}

interface Stored {
  readonly record: DeploymentRecord | null;
  readonly members: readonly MemberRecord[];
  /** Those there are, and those that a purge which was interrupted has begun to remove. */
  readonly snapshots: readonly string[];
  readonly incarnations: readonly ObjectId[];
}

async function storedOf(stores: Stores, deployment: string): Promise<Stored> {
  const record = await stores.deployments.findOne({ _id: deployment });
  const members = await stores.members.find({ deployment }).toArray();
  const manifests = await stores.manifests
    .find({ deployment })
    .project<{ _id: string; incarnation: ObjectId }>({ incarnation: 1 })
    .toArray();
  const snapshots = new Set([...(record?.purge?.snapshots ?? []), ...manifests.map(({ _id }) => _id)]);
  const incarnations = new Set(
    [
      ...(record?.purge?.incarnations ?? []),
      ...[...members, ...members.flatMap(({ former = [] }) => former), ...manifests].map(
        ({ incarnation }) => incarnation,
      ),
    ].map((id) => id.toHexString()),
  );
  return {
    record,
    members,
    snapshots: [...snapshots],
    incarnations: [...incarnations].map((hex) => ObjectId.createFromHexString(hex)),
  };
}

async function factsOf(
  ctx: StepContext,
  stores: Stores,
  deployment: string,
  { members, snapshots, incarnations }: Stored,
): Promise<PurgeFacts> {
  const now = await stores.now();
  const manifests = await stores.manifests.find({ deployment }).sort({ 'optime.ts': 1 }).toArray();
  const daemons = await stores.daemons.find({ _id: { $in: members.map(({ owner }) => owner.daemon) } }).toArray();
  const stateOf = new Map(daemons.map((daemon) => [daemon._id, daemonState(daemon, now)]));
  const { signal } = ctx;
  ctx.report({ stage: 'plan', done: 0, total: null, unit: 'blocks', perSecond: null, etaSeconds: null });
  const samples: { blocks: number; bytes: number; of: number }[] = [];
  const blocks = await countOnlyOf(
    { stores, signal },
    snapshots,
    await blocksIn(stores, snapshots),
    async (ids, of) => {
      samples.push({
        blocks: ids.length,
        bytes: await storedBytesOf(stores, undefined, { _id: { $in: [...ids] } }),
        of,
      });
    },
  );
  const inSync = { '_id.incarnation': { $in: [...incarnations] } };
  return {
    deployment,
    snapshots: manifests.map(({ optime, logicalBytes }) => ({ optime: fromTimestamp(optime.ts), logicalBytes })),
    referredBlocks: blocks.referred,
    onlyBlocks: blocks.only,
    samples,
    slices: await sumOf(stores.slices.aggregate(bytesOf(inSync))),
    batches: await sumOf(stores.batches.aggregate(bytesOf(inSync))),
    heads: members.map(({ member, owner }) => ({
      member,
      daemon: owner.daemon,
      state: stateOf.get(owner.daemon) ?? 'unknown',
    })),
    restores: await stores.restores.countDocuments({ deployment }),
    leases: await stores.leases
      .find({ deployment, revoked: false, $expr: { $gte: ['$expiresAt', '$$NOW'] } })
      .toArray(),
  };
}

function bytesOf(filter: object): object[] {
  return [{ $match: filter }, { $group: { _id: null, count: { $sum: 1 }, bytes: { $sum: '$bytes.storedBytes' } } }];
}

async function sumOf(cursor: { toArray(): Promise<unknown[]> }): Promise<{ count: number; bytes: number }> {
  const [sum] = (await cursor.toArray()) as { count: number; bytes: number }[];
  return { count: sum?.count ?? 0, bytes: sum?.bytes ?? 0 };
}

/** About how many blocks the parts of these snapshots name, each as often as it is named. */
async function blocksIn(stores: Stores, snapshots: readonly string[]): Promise<number> {
  const [sum] = await stores.manifestParts
    .aggregate<{ bytes: number }>([
      { $match: { '_id.snapshot': { $in: [...snapshots] } } },
      { $group: { _id: null, bytes: { $sum: { $binarySize: '$hashes' } } } },
    ])
    .toArray();
  return (sum?.bytes ?? 0) / 32;
}

// ---- the purge ----------------------------------------------------------------------------------------------------

/**
 * Writes down what goes, ends every claim on it, and leaves word for the daemons that have heads of it.
 * @returns the daemons that have heads of it
 * @throws LifeboatError `NothingStored`; `SnapshotPinned` when a snapshot is held
 */
export async function beginPurge(stores: Stores, { deployment, run }: PurgeRequest): Promise<readonly string[]> {
  return storing(`beginning the purge of ${deployment}`, async () => {
    const since = await stores.now();
    // The mark first, then what it covers is read: nothing is claimed in between.
    await stores.deployments.updateOne(
      { _id: deployment },
      {
        $set: { 'purge.run': run },
        $setOnInsert: { kind: 'replica-set', phase: 'stopped', phaseSince: since, problem: null },
      },
      { upsert: true },
    );
    await refuseHeld(stores, { deployment, run });
    const stopped = { phase: 'stopped', problem: null } as const;
    await stores.deployments.updateOne({ _id: deployment, 'purge.run': run }, { $set: stopped });
    await stores.members.updateMany({ deployment }, { $inc: { 'owner.epoch': 1 } });
    const { record, members, snapshots, incarnations } = await storedOf(stores, deployment);
    const mark = { run, since: record?.purge?.since ?? since, incarnations, snapshots };
    await stores.deployments.updateOne({ _id: deployment, 'purge.run': run }, { $set: { purge: mark } });
    for (const { member, incarnation, owner } of members) {
      const head = { deployment, member, incarnation };
      await stores.daemons.updateOne({ _id: owner.daemon }, { $addToSet: { discard: head } });
    }
    return [...new Set(members.map(({ owner }) => owner.daemon))];
  });
}

/** Whoever holds a snapshot looks for the mark of a purge after that: of the two one gives way. */
async function refuseHeld(stores: Stores, { deployment, run }: PurgeRequest): Promise<void> {
  const held = await stores.manifests.findOne({ deployment, hold: { $exists: true } }, { projection: { _id: 1 } });
  if (!held) return;
  // One that had begun before has written down what goes.
  const fresh = { _id: deployment, 'purge.run': run, 'purge.snapshots': { $exists: false } };
  await stores.deployments.updateOne(fresh, { $unset: { purge: 1 } });
  throw new LifeboatError('SnapshotPinned', `snapshot ${held._id} is held`);
}

/**
 * Removes the snapshots and the blocks that only they refer to. Work that reads one of them is waited for.
 * @throws LifeboatError `FenceLost` when a newer run has taken over
 */
export async function purgeSnapshots(ctx: StepContext, stores: Stores, request: PurgeRequest): Promise<SweepResult> {
  const { deployment } = request;
  return storing(`removing the snapshots of ${deployment}`, async () => {
    await markOf(stores, request);
    await untilNobodyWorks(ctx, stores, deployment);
    const mark = await markOf(stores, request, await committedSince(stores, request));
    await stores.manifests.deleteMany({ _id: { $in: [...mark.snapshots] } });
    // With what snapshots left that died on the way: their blocks are in question too.
    const snapshots = [...new Set([...mark.snapshots, ...(await findLeftovers(stores, deployment))])];
    const sweep = { stores, signal: ctx.signal, report: ctx.report.bind(ctx) };
    const swept = await sweepBlocksOf(sweep, snapshots, await blocksIn(stores, snapshots));
    await markOf(stores, request);
    await stores.manifestParts.deleteMany({ '_id.snapshot': { $in: snapshots } });
    ctx.logger.info({ deployment, snapshots: snapshots.length, ...swept }, 'snapshots purged');
    return swept;
  });
}

/**
 * Removes everything else, the mark last.
 * @throws LifeboatError `FenceLost` when a newer run has taken over
 */
export async function purgeRecords({ signal }: StepContext, stores: Stores, request: PurgeRequest): Promise<void> {
  const { deployment, run } = request;
  await storing(`removing the records of ${deployment}`, async () => {
    // Run again after its end it finds no mark, and nothing to do.
    if (!(await stores.deployments.findOne({ _id: deployment, 'purge.run': run }))) return;
    const { incarnations, since } = await markOf(stores, request);
    for (const incarnation of incarnations) {
      await removeSync(stores, incarnation);
      await removeChain(stores, incarnation, signal);
      await removeValidations(stores, incarnation);
      await stores.rotations.deleteOne({ _id: incarnation });
    }
    await stores.restores.deleteMany({ deployment, startedAt: { $lte: since } });
    await stores.members.deleteMany({ deployment, incarnation: { $in: [...incarnations] } });
    await stores.deployments.deleteOne({ _id: deployment, 'purge.run': run });
  });
}

/** Reports hold `_id`s of documents. Their parts go first: without its report nobody would find them. */
async function removeValidations(stores: Stores, incarnation: ObjectId): Promise<void> {
  const reports = await stores.validations.find({ incarnation }).project<{ _id: string }>({ _id: 1 }).toArray();
  const ids = reports.map(({ _id }) => _id);
  await stores.validationCollections.deleteMany({ '_id.validation': { $in: ids } });
  await stores.validations.deleteMany({ _id: { $in: ids } });
}

/** The mark of this run, with more snapshots added to it. */
async function markOf(
  stores: Stores,
  { deployment, run }: PurgeRequest,
  more: readonly string[] = [],
): Promise<NonNullable<DeploymentRecord['purge']>> {
  const record = await stores.deployments.findOneAndUpdate(
    { _id: deployment, 'purge.run': run },
    { $addToSet: { 'purge.snapshots': { $each: [...more] } } },
    { returnDocument: 'after' },
  );
  if (record?.purge) return record.purge;
  throw new LifeboatError('FenceLost', `another purge of ${deployment} has taken over`);
}

/** A snapshot that had read its claim before the purge began may have been committed after it; none is any more. */
async function committedSince(stores: Stores, request: PurgeRequest): Promise<readonly string[]> {
  const { incarnations } = await markOf(stores, request);
  const filter = { deployment: request.deployment, incarnation: { $in: [...incarnations] } };
  const found = await stores.manifests.find(filter).project<{ _id: string }>({ _id: 1 }).toArray();
  return found.map(({ _id }) => _id);
}

/** Expired leases are revoked: only a write ends a lease. */
async function untilNobodyWorks(ctx: StepContext, stores: Stores, deployment: string): Promise<void> {
  for (;;) {
    ctx.signal.throwIfAborted();
    await revokeExpiredLeases(stores, deployment);
    const lease = await stores.leases.findOne({ deployment, revoked: false });
    if (!lease) return;
    const stage = `waits for a ${lease.purpose} on ${lease.daemon}`;
    ctx.report({ stage, done: 0, total: null, unit: 'blocks', perSecond: null, etaSeconds: null });
    await delay(LOOK_EVERY_MS, undefined, { signal: ctx.signal });
  }
}

/**
 * Passes unless the deployment is being purged.
 * @throws LifeboatError `PurgeUnderWay`
 */
export async function refusePurging(stores: Stores, deployment: string): Promise<void> {
  const record = await storing(`reading the state of ${deployment}`, () =>
    stores.deployments.findOne({ _id: deployment }, { projection: { 'purge.run': 1 } }),
  );
  if (record?.purge) throw new LifeboatError('PurgeUnderWay', `all that is stored of ${deployment} is being removed`);
}

async function storing<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castDriverError(error, 'store', what);
  }
}
