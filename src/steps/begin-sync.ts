/** Step: choose the optimes of an initial sync and list what is to be copied (research, mongodb-internals §3). */
import { ObjectId, type Long, type MongoClient, type Timestamp } from 'mongodb';
import type { FeatureVersion } from '../head/feature-version.ts';
import { run, type FirstBatch } from '../mongo/commands.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, toStoredPosition } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, type Position } from '../shared/optime.ts';
import { requireRecordedSet, type PinnedMember, type Source } from '../source/connect.ts';
import { namespaceFilter } from '../source/filter.ts';
import { listDurably, listSource, type ListedCollection, type Listing } from '../source/listing.ts';
import { settledPosition } from '../source/positions.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import type { MemberRecord, SyncCollectionRecord, SyncPlan } from '../stores/records.ts';
import { saveListing, type SyncListing } from '../syncstore/collections.ts';
import { planListed, savePlan } from '../syncstore/plan.ts';
import type { StepContext } from './context.ts';

export interface BeginSyncParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  /** Patterns of what is left out; asked for once, when the optimes are chosen. */
  readonly exclude?: readonly string[];
}

/**
 * Chooses beginFetching and beginApplying, and saves them before anything is listed, so that twins list under one plan; a
 * plan that is there is kept.
 * @throws LifeboatError as beginSync
 */
export async function planSync(ctx: StepContext, parts: BeginSyncParts): Promise<SyncPlan> {
  return withPinned(ctx, parts, (pinned, record) => savedPlan(ctx, parts, pinned, record));
}

/**
 * Chooses the optimes (see planSync), then lists collections and views. A listing that is whole is not made again.
 * @throws LifeboatError `WrongReplicaSet`, `NotAuthorized`, `FenceLost`; `SourceUnavailable`, `SourceNotReady`,
 *   `StoreUnavailable` (retryable); the signal's reason when it is aborted, and then running it again goes on
 */
export async function beginSync(ctx: StepContext, parts: BeginSyncParts): Promise<SyncPlan> {
  const { stores, fence } = parts;
  return withPinned(ctx, parts, async (pinned, record) => {
    const plan = await savedPlan(ctx, parts, pinned, record);
    const filter = namespaceFilter(plan.exclude ?? []);
    const list = (): Promise<Listing> => listSource(pinned.client, filter, ctx.signal);
    const { listed: listing } = await listDurably(pinned.client, list, ctx.signal);
    const id = new ObjectId();
    await saveListing(stores, recordsOf(fence.incarnation, listing), id);
    const { collections, views } = listing;
    ctx.logger.info({ collections: collections.length, views: views.length }, 'listed the source');
    return planListed(stores, fence, plan, id);
  });
}

/** Runs `work` with a member of the source, unless the listing is whole already. */
async function withPinned(
  ctx: StepContext,
  { stores, source, fence }: BeginSyncParts,
  work: (pinned: PinnedMember, record: MemberRecord) => Promise<SyncPlan>,
): Promise<SyncPlan> {
  const record = await readMember(stores, fence);
  requireRecordedSet(source, record.source);
  if (record.sync && record.sync.stage !== 'list') return record.sync;
  const pinned = await source.pinned();
  try {
    return await work(pinned, record);
  } catch (error) {
    ctx.signal.throwIfAborted();
    throw castDriverError(error, 'source', `beginning the initial sync of ${source.name}`);
  } finally {
    await pinned.close();
  }
}

async function savedPlan(
  ctx: StepContext,
  { stores, source, fence, exclude = [] }: BeginSyncParts,
  { client, host }: PinnedMember,
  record: MemberRecord,
): Promise<SyncPlan> {
  if (record.sync) return record.sync;
  const plan = await choosePlan({ client, host }, exclude, ctx.signal);
  const found = await featureVersion(client, plan, ctx.signal);
  // Every later change is an entry that stops the head.
  if (found === undefined) {
    throw new LifeboatError('SourceNotReady', `${source.name} is changing its feature compatibility version`);
  }
  if (found !== record.source.featureCompatibilityVersion) {
    await updateMember(stores, fence, { source: { ...record.source, featureCompatibilityVersion: found } });
  }
  return savePlan(stores, fence, plan);
}

/** The version at the begin of the plan or since; undefined while the source goes from one to another. */
async function featureVersion(
  client: MongoClient,
  { beginApplying }: SyncPlan,
  signal: AbortSignal,
): Promise<string | undefined> {
  const command = {
    find: 'system.version',
    filter: { _id: 'featureCompatibilityVersion' },
    limit: 1,
    singleBatch: true,
    readConcern: { level: 'majority', afterClusterTime: beginApplying.ts },
  };
  const { cursor } = await run<FirstBatch<FeatureVersion>>(client.db('admin'), command, { signal });
  const [found] = cursor.firstBatch;
  return found?.targetVersion === undefined ? found?.version : undefined;
}

/** The order is the server's own (initial_syncer.cpp): only so no open transaction falls between the two optimes. */
async function choosePlan(
  member: Pick<PinnedMember, 'client' | 'host'>,
  exclude: readonly string[],
  signal: AbortSignal,
): Promise<SyncPlan> {
  const { client } = member;
  const first = await settledPosition(client, signal);
  const oldest = await oldestOpenTransaction(client, first, signal);
  const beginFetching = oldest && compareOptimes(oldest.ts, first.ts) < 0 ? oldest : first;
  const beginApplying = await settledPosition(client, signal);
  return {
    beginFetching: toStoredPosition(beginFetching),
    beginApplying: toStoredPosition(beginApplying),
    stop: null,
    stage: 'list',
    openTransaction: oldest !== undefined,
    exclude,
    startedAt: new Date(),
    readFrom: member.host,
  };
}

/** Where the oldest transaction began that has written entries and is not decided. */
async function oldestOpenTransaction(
  client: MongoClient,
  after: Position,
  signal: AbortSignal,
): Promise<Position | undefined> {
  const reply = await run<FirstBatch<{ startOpTime: { ts: Timestamp; t: Long | number } }>>(
    client.db('config'),
    {
      find: 'transactions',
      filter: { state: { $in: ['prepared', 'inProgress'] }, startOpTime: { $exists: true } },
      projection: { startOpTime: 1 },
      sort: { 'startOpTime.ts': 1 },
      limit: 1,
      singleBatch: true,
      // The server refuses any stronger level for this collection (5557800).
      readConcern: { level: 'local', afterClusterTime: toStoredPosition(after).ts },
    },
    { signal },
  );
  const [found] = reply.cursor.firstBatch;
  return found && fromStoredPosition(found.startOpTime);
}

function recordsOf(incarnation: ObjectId, { collections, views }: Listing): SyncListing {
  return {
    collections: collections.map((collection) => collectionRecord(incarnation, collection)),
    views: views.map(({ db, name, type, options }) => ({ _id: { incarnation, db, name }, type, options })),
  };
}

function collectionRecord(incarnation: ObjectId, collection: ListedCollection): SyncCollectionRecord {
  const { uuid, db, name, options, indexes, rule } = collection;
  const state = rule === 'copy' ? 'pending' : 'done';
  return { _id: { incarnation, uuid }, db, name, options, indexes: [...indexes], state, documents: 0, bytes: 0 };
}
