/** Step: copy the collections of a source into slices. */
import { setTimeout as delay } from 'node:timers/promises';
import type { MongoClient } from 'mongodb';
import { run } from '../mongo/commands.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, toStoredPosition } from '../mongo/positions.ts';
import { ByteBudget } from '../shared/budget.ts';
import { Crew } from '../shared/crew.ts';
import { LifeboatError } from '../shared/errors.ts';
import { Meter } from '../shared/meter.ts';
import { compareOptimes, type Position } from '../shared/optime.ts';
import { requireRecordedSet, type Source } from '../source/connect.ts';
import { namespaceFilter, type NamespaceFilter } from '../source/filter.ts';
import { sourceBytes } from '../source/listing.ts';
import { pinPreferred, SharedMember } from '../source/pinning.ts';
import { confirmPosition, lastWrite } from '../source/positions.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { StoredPosition, SyncPlan } from '../stores/records.ts';
import {
  collectionsWithSlices,
  pendingCollections,
  saveOutcomes,
  type CollectionOutcome,
} from '../syncstore/collections.ts';
import type { FreshSlices } from '../syncstore/fresh-slices.ts';
import { bytesInSlices } from '../syncstore/slices.ts';
import { planCopied, planReadFrom } from '../syncstore/plan.ts';
import type { StepContext } from './context.ts';
import { copyCollection, type CollectionToCopy, type Copying } from './copy-collection.ts';

export interface CopySourceParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  /**
   * How many collections are copied at a time, and how many slices are in memory, about: read, and not stored yet. A
   * number, or what tells the number that holds now: it is asked about once a second.
   */
  readonly slicesInFlight: number | (() => Promise<number>);
  /** Raw BSON in one slice, about; 10 MB when left out. */
  readonly sliceBytes?: number;
  /** Where the head that is built at the same time, in this process, may find slices. */
  readonly fresh?: FreshSlices;
}

export interface CopyResult {
  /** True when all collections are copied and the plan has its stop. */
  readonly finished: boolean;
  readonly slicesStored: number;
  /** Before compression. */
  readonly bytesStored: number;
}

const SLICE_BYTES = 10 * 1024 * 1024;

/** How often the claim is looked at, in milliseconds. */
const FENCE_CHECK_MS = 2_000;

/** How soon another number of slices in flight takes effect, in milliseconds. */
const RESIZE_MS = 1_000;

/** How often a stop point is looked for, and the pause in between, in milliseconds. */
const STOP_ATTEMPTS = 5;
const STOP_PAUSE_MS = 500;

/** Outcomes that are saved in one write; what a crash loses of them is found again from the slices. */
const OUTCOMES = 100;

/**
 * Copies for about `maxMs`: slices that were begun are stored, no further ones are begun. It may be run again at any
 * time, and beside a twin of itself: what is stored is not read again but for the slices in flight.
 *
 * Once everything is copied the plan gets its stop: an entry at or after everything that any slice can hold.
 * @throws LifeboatError `FenceLost`, `WrongReplicaSet`, `NotAuthorized`; `SourceUnavailable`, `SourceNotReady`,
 *   `StoreUnavailable`, `StoreFull` (retryable); the signal's reason when it is aborted, within about a second, and
 *   then slices in flight are stored whole or not at all
 */
export async function copySource(
  ctx: StepContext,
  parts: CopySourceParts,
  { maxMs }: { readonly maxMs: number },
): Promise<CopyResult> {
  const { stores, source, fence } = parts;
  const record = await readMember(stores, fence);
  requireRecordedSet(source, record.source);
  const plan = record.sync;
  if (!plan || plan.stage === 'list')
    throw new LifeboatError('Internal', `${fence.key} has no whole listing to copy by`);
  if (plan.stop) return { finished: true, slicesStored: 0, bytesStored: 0 };

  // One collection that fails ends the others too.
  const failed = new AbortController();
  const signal = AbortSignal.any([ctx.signal, failed.signal]);
  await using member = sharedMember(parts, plan, signal);
  try {
    const tally = await beginTally(ctx, parts, (await member.get()).client, namespaceFilter(plan.exclude ?? []));
    const copying = copyingOf(parts, plan, { member, signal, maxMs, tally });
    const pending = await pendingCollections(stores, fence.incarnation, plan.listing);
    await copyPending(copying, pending, { slicesInFlight: slicesInFlightOf(parts), tick: tally.limitChanged }, failed);
    const left = await pendingCollections(stores, fence.incarnation, plan.listing);
    if (left.length === 0) await planCopied(stores, fence, toStoredPosition(await stopOf(source, member, signal)));
    return { finished: left.length === 0, ...tally.result() };
  } catch (error) {
    ctx.signal.throwIfAborted();
    throw castDriverError(failed.signal.aborted ? failed.signal.reason : error, 'source', `copying ${source.name}`);
  }
}

function sharedMember({ stores, source, fence }: CopySourceParts, plan: SyncPlan, signal: AbortSignal): SharedMember {
  return new SharedMember(
    plan.readFrom,
    async () => pinPreferred(source, await plannedReader(stores, fence), signal),
    ({ host }) => planReadFrom(stores, fence, host),
  );
}

async function plannedReader(stores: Stores, fence: MemberFence): Promise<string> {
  const { sync } = await readMember(stores, fence);
  if (!sync) throw new LifeboatError('FenceLost', `the plan of ${fence.key} is gone`);
  return sync.readFrom;
}

interface Run {
  readonly member: SharedMember;
  readonly signal: AbortSignal;
  readonly maxMs: number;
  readonly tally: Tally;
}

function copyingOf(parts: CopySourceParts, plan: SyncPlan, { member, signal, maxMs, tally }: Run): Copying {
  const { stores, source, fence, sliceBytes = SLICE_BYTES } = parts;
  const end = Date.now() + maxMs;
  let checkAt = Date.now() + FENCE_CHECK_MS;
  return {
    stores,
    incarnation: fence.incarnation,
    epoch: fence.epoch,
    member,
    beginApplying: fromStoredPosition(plan.beginApplying).ts,
    sliceBytes,
    budget: new ByteBudget(sliceBytes),
    fresh: parts.fresh,
    pace: source.pace,
    signal,
    timeIsUp: () => Date.now() >= end,
    async checkFence() {
      if (Date.now() < checkAt) return;
      checkAt = Date.now() + FENCE_CHECK_MS;
      await readMember(stores, fence);
    },
    plannedReader: () => plannedReader(stores, fence),
    stored: tally.stored,
  };
}

function slicesInFlightOf({ slicesInFlight }: CopySourceParts): () => Promise<number> {
  return typeof slicesInFlight === 'number' ? () => Promise.resolve(slicesInFlight) : slicesInFlight;
}

/** Several workers take one collection after the other. */
async function copyPending(
  copying: Copying,
  pending: readonly CollectionToCopy[],
  { slicesInFlight, tick }: { readonly slicesInFlight: () => Promise<number>; readonly tick: () => void },
  failed: AbortController,
): Promise<void> {
  const { stores, incarnation, budget, sliceBytes, signal } = copying;
  const begun = await collectionsWithSlices(
    stores,
    incarnation,
    pending.map(({ _id }) => _id.uuid),
  );
  const queue = pending.values();
  let outcomes: CollectionOutcome[] = [];
  const save = async (): Promise<void> => {
    const saving = outcomes;
    outcomes = [];
    if (saving.length > 0) await saveOutcomes(stores, incarnation, saving);
  };
  const copyNext = async (): Promise<boolean> => {
    const { value: collection } = queue.next();
    if (!collection || copying.timeIsUp() || signal.aborted) return false;
    try {
      const outcome = await copyCollection(copying, collection, hasBegun(begun, collection));
      if (outcome) outcomes.push(outcome);
      if (outcomes.length >= OUTCOMES) await save();
      return true;
    } catch (error) {
      failed.abort(error);
      return false;
    }
  };
  const crew = new Crew(copyNext);
  const resize = async (): Promise<void> => {
    const slices = await slicesInFlight();
    budget.setBound(slices * sliceBytes);
    crew.resize(slices);
    tick();
  };
  await resize();
  const resizing = setInterval(() => void resize().catch((error: unknown) => failed.abort(error)), RESIZE_MS);
  try {
    await crew.ended();
  } finally {
    clearInterval(resizing);
  }
  if (!signal.aborted) await save();
  signal.throwIfAborted();
}

function hasBegun(begun: ReadonlySet<string>, { _id }: CollectionToCopy): boolean {
  return begun.has(_id.uuid.toString('hex'));
}

/**
 * The newest entry of the set, once it is on a majority. It is the primary's: slices may have been read from a member
 * that was ahead of the one that is read from now, but a slice holds only what is on a majority, and so on the primary.
 * @throws LifeboatError `SourceNotReady` when the member does not come to it: it may be cut off from that primary
 */
async function stopOf(source: Source, member: SharedMember, signal: AbortSignal): Promise<Position> {
  const { client } = await member.get();
  for (let attempt = 1; attempt <= STOP_ATTEMPTS; attempt += 1) {
    const [primary, own] = await Promise.all([newestOfPrimary(source, signal), lastWrite(client, signal)]);
    const stop = compareOptimes(primary.ts, own.last.ts) >= 0 ? primary : own.last;
    if (await confirmPosition(client, stop, signal)) return stop;
    await delay(STOP_PAUSE_MS, undefined, { signal });
  }
  throw new LifeboatError(
    'SourceNotReady',
    `the member of ${source.name} that is read from does not follow its primary`,
  );
}

async function newestOfPrimary(source: Source, signal: AbortSignal): Promise<Position> {
  type Hello = { lastWrite: { opTime: StoredPosition } };
  const { lastWrite: newest } = await run<Hello>(source.client.db('admin'), { hello: 1 }, { signal });
  return fromStoredPosition(newest.opTime);
}

interface Tally {
  readonly stored: (bytes: number) => void;
  /** Shows the limit of the reading again if it is another one than was shown last. */
  readonly limitChanged: () => void;
  readonly result: () => Pick<CopyResult, 'slicesStored' | 'bytesStored'>;
}

/** Counts what is stored and reports it as part of what the source holds. */
async function beginTally(
  ctx: StepContext,
  parts: CopySourceParts,
  client: MongoClient,
  filter: NamespaceFilter,
): Promise<Tally> {
  const { stores, source, fence } = parts;
  const before = await bytesInSlices(stores, fence.incarnation);
  const total = await sourceBytes(client, filter, ctx.signal);
  const meter = new Meter('copy', 'bytes', total, { done: before });
  let slicesStored = 0;
  let bytesStored = 0;
  let limit: number | null = null;
  const report = (): void => {
    limit = source.pace.perSecond;
    ctx.report({ ...meter.now(), ...(limit === null ? {} : { limitPerSecond: limit }) });
  };
  return {
    stored: (bytes) => {
      slicesStored += 1;
      bytesStored += bytes;
      ctx.count?.('slicesStored', 1);
      ctx.count?.('documentBytesRead', bytes);
      meter.add(bytes);
      report();
    },
    limitChanged: () => {
      if (limit !== source.pace.perSecond) report();
    },
    result: () => ({ slicesStored, bytesStored }),
  };
}
