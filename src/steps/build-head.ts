/** Step: build the head of a member from the slices of its initial sync, while they are still being stored. */
import type { Binary } from 'mongodb';
import { overConnections, type HeadConnection } from '../head/connections.ts';
import { loadDocuments, makeCollections, remakeCollection, VERSION_NS, type CollectionToMake } from '../head/load.ts';
import { refuseOddIndexes } from '../head/odd-indexes.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { HeadAttempt, HeadOwner } from '../head/owner.ts';
import { readLoads, writeLoad, type LoadProgress } from '../head/state.ts';
import { Turns } from '../head/turns.ts';
import { makeViews } from '../head/views.ts';
import { fromStoredPosition } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { samePosition } from '../shared/optime.ts';
import { release } from '../shared/memory.ts';
import { EVERYTHING } from '../source/filter.ts';
import { namespaceRule } from '../source/namespaces.ts';
import type { Progress } from '../shared/messages.ts';
import { Meter } from '../shared/meter.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { SyncCollectionRecord, SyncPlan } from '../stores/records.ts';
import { listCollectionsToBuild, type SyncListing } from '../syncstore/collections.ts';
import type { SliceHeader } from '../syncstore/chain.ts';
import { FreshSlices, type FreshSlice } from '../syncstore/fresh-slices.ts';
import { readChain, readSlice } from '../syncstore/slices.ts';
import type { StepContext } from './context.ts';

export interface BuildParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
  /** What the copy of this process has just stored. */
  readonly fresh?: FreshSlices;
}

/** How long to wait for new slices, in milliseconds, and how many unfinished collections to ask about in a round. */
const POLL_MS = 500;
const PENDING_AT_ONCE = 32;

/** How long a turn of the head lasts, about, in milliseconds. */
const TURN_MS = 3_000;
/** A head inserts what comes over one connection on one processor. Of one collection slices are loaded in their order. */
const LOADS_AT_ONCE = 2;

/**
 * Makes the collections and loads the slices that there are, for about `maxMs` milliseconds. Finished when every slice
 * of every collection is loaded and the stop point is known; the head is then `catching-up`.
 * @throws LifeboatError `SliceDamaged`, `SliceMissing`, `IndexFormRefused`, `FenceLost`; `HeadLost`, `DiskFull`, `StoreUnavailable` (retryable)
 */
export async function buildHead(
  ctx: StepContext,
  parts: BuildParts,
  { maxMs }: { readonly maxMs: number },
): Promise<{ readonly finished: boolean }> {
  const deadline = Date.now() + maxMs;
  const attempt = parts.head.attempt('build');
  const headers: SliceHeaders = new Map();
  const tally = new LoadTally();
  const { fresh = new FreshSlices() } = parts;
  using expected = new DisposableStack();
  expected.use(fresh.expect());
  for (;;) {
    const { filled } = fresh;
    if (parts.head.state().stage !== 'loading') return { finished: true };
    const { sync, source } = await readMember(parts.stores, parts.fence);
    if (sync && sync.stage !== 'list') {
      const listing = await listCollectionsToBuild(parts.stores, parts.fence.incarnation, sync.listing);
      await attempt.turn((head) => prepare(head, listing, source.featureCompatibilityVersion), ctx.signal);
      const loader = new Loader(ctx, parts, { attempt, listing, deadline, headers, tally, fresh });
      await loader.load();
      if (sync.stop && loader.isComplete) {
        await attempt.turn((head) => becomeLoaded(head, listing, sync), ctx.signal);
        return { finished: true };
      }
    }
    if (Date.now() > deadline) return { finished: false };
    await fresh.wait(ctx.signal, POLL_MS, filled);
  }
}

/** Everything but documents. Does nothing when it was done before. */
async function prepare(head: OpenHead, { collections }: SyncListing, version: string): Promise<void> {
  await setFeatureCompatibilityVersion(head, version);
  const wanted = collections.filter(({ state }) => state !== 'dropped').map(toMake);
  await refuseOddIndexes(
    head,
    wanted.filter(({ uuid }) => !head.catalog.get(uuid)),
  );
  await makeCollections(head, wanted);
}

/** Features decide what the head writes into its files, and which entries it takes: as the source does. */
async function setFeatureCompatibilityVersion(head: OpenHead, version: string): Promise<void> {
  const { socket } = head;
  const found = await head.readFeatures();
  if (found.version === version && found.targetVersion === undefined) return;
  // From 7.0 on the command wants to be confirmed; before that it refuses to be.
  const confirm = Number.parseInt(head.version, 10) >= 7 ? { confirm: true } : {};
  const reply = await socket.command('admin', { setFeatureCompatibilityVersion: version, ...confirm });
  if (reply.ok) return void (await head.readFeatures());
  head.refuseTrouble(reply);
  const message = `a head of version ${head.version} cannot have the feature compatibility version ${version}`;
  throw new LifeboatError('UnsupportedVersion', message);
}

function toMake({ _id, db, name, options, indexes }: SyncCollectionRecord): CollectionToMake {
  return {
    uuid: uuidOf(_id.uuid),
    db,
    name,
    options: Buffer.from(options.buffer),
    indexes: indexes.map(({ buffer }) => Buffer.from(buffer)),
  };
}

function uuidOf({ buffer }: Binary): string {
  return Buffer.from(buffer).toString('hex');
}

/** Headers of the slices of collections under way, by UUID in hex: there may be many, and each round asks for them. */
type SliceHeaders = Map<string, SliceHeader[]>;

interface Loading {
  readonly attempt: HeadAttempt;
  readonly listing: SyncListing;
  readonly deadline: number;
  readonly headers: SliceHeaders;
  readonly tally: LoadTally;
  readonly fresh: FreshSlices;
}

class Loader {
  readonly #ctx: StepContext;
  readonly #parts: BuildParts;
  readonly #attempt: HeadAttempt;
  readonly #listing: SyncListing;
  readonly #deadline: number;
  readonly #headers: SliceHeaders;
  readonly #tally: LoadTally;
  readonly #fresh: FreshSlices;
  /** Making a collection reads and changes the head's catalog. */
  readonly #remaking = new Turns();
  #loads = new Map<string, LoadProgress>();
  #complete = true;

  constructor(ctx: StepContext, parts: BuildParts, loading: Loading) {
    this.#ctx = ctx;
    this.#parts = parts;
    this.#attempt = loading.attempt;
    this.#listing = loading.listing;
    this.#deadline = loading.deadline;
    this.#headers = loading.headers;
    this.#tally = loading.tally;
    this.#fresh = loading.fresh;
  }

  /** Whether every slice of every collection was loaded. */
  get isComplete(): boolean {
    return this.#complete;
  }

  /** Loads what there is to load now. */
  async load(): Promise<void> {
    this.#loads = await this.#attempt.turn((head) => readLoads(head.socket), this.#ctx.signal);
    const { collections } = this.#listing;
    const done = collections.filter(({ state }) => state === 'done');
    // In the order in which they are copied.
    const pending = collections
      .filter(({ state }) => state === 'pending')
      .sort((a, b) => (uuidOf(a._id.uuid) < uuidOf(b._id.uuid) ? -1 : 1));
    if (pending.length > 0) this.#complete = false;
    else this.#tally.allStored(done.reduce((sum, { bytes }) => sum + bytes, 0));
    for (const { _id, bytes } of done) {
      const uuid = uuidOf(_id.uuid);
      if (this.#loads.get(uuid)?.complete) this.#tally.found(uuid, bytes);
    }
    const waiting = [...done, ...pending.slice(0, PENDING_AT_ONCE)];
    while (waiting.length > 0) await this.#attempt.turn((head) => this.#loadSome(head, waiting), this.#ctx.signal);
  }

  /** Loads collections for a turn's time, a few beside each other, and leaves those that it did not come to. */
  async #loadSome(head: OpenHead, waiting: SyncCollectionRecord[]): Promise<void> {
    const until = Math.min(Date.now() + TURN_MS, this.#deadline);
    await overConnections(head.socket, LOADS_AT_ONCE, this.#ctx.signal, async (socket, ended) => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        ended.throwIfAborted();
        const outcome = await this.#loadCollection({ head, socket }, next, { until, ended });
        if (outcome === 'as-far-as-stored') this.#complete = false;
        if (outcome === 'out-of-time') waiting.unshift(next);
        if (Date.now() > until) break;
      }
    });
    if (waiting.length === 0 || Date.now() <= this.#deadline) return;
    this.#complete = false;
    waiting.length = 0;
  }

  /** All of it is loaded; all that is stored so far; or there was no time for that. */
  async #loadCollection(
    on: HeadConnection,
    collection: SyncCollectionRecord,
    { until, ended }: { readonly until: number; readonly ended: AbortSignal },
  ): Promise<'loaded' | 'as-far-as-stored' | 'out-of-time'> {
    const { stores, fence } = this.#parts;
    const uuid = uuidOf(collection._id.uuid);
    const progress = this.#loads.get(uuid);
    if (progress?.complete) return 'loaded';
    const known = this.#headers.get(uuid) ?? [];
    this.#headers.set(uuid, known);
    const { slices, complete } = await readChain(stores, fence.incarnation, collection._id.uuid, known);
    if (complete) this.#headers.delete(uuid);
    const [first] = slices;
    refuseLostSlices(collection, slices);
    // Without slices it is still to be copied, or one of which no documents are in a backup.
    if (!first) return collection.state === 'done' ? 'loaded' : 'as-far-as-stored';
    const isSameChain = progress?.chain === first.id.seq;
    if (progress && !isSameChain) {
      await this.#remaking.run(() => remakeCollection(on.head, toMake(collection)));
    }
    const from = isSameChain ? progress.next : first.id.seq;
    const waiting = slices.filter(({ id }) => id.seq >= from);
    this.#tally.found(
      uuid,
      slices.reduce((sum, { id, rawBytes }) => (id.seq < from ? sum + rawBytes : sum), 0),
    );
    let ahead = waiting[0] && this.#read(waiting[0]);
    for (const [index, slice] of waiting.entries()) {
      // Read the next one while the head loads this one; whoever waits for it learns of its failure.
      const fetched = await ahead;
      const following = waiting[index + 1];
      ahead = following && Date.now() <= until ? this.#read(following) : undefined;
      ahead?.catch(() => undefined);
      ended.throwIfAborted();
      if (fetched) {
        await this.#loadSlice(on, collection, fetched, {
          chain: first.id.seq,
          next: slice.id.seq + 1,
          complete: complete && !following,
        });
      }
      if (following && !ahead) return 'out-of-time';
    }
    return complete ? 'loaded' : 'as-far-as-stored';
  }

  async #read(header: SliceHeader): Promise<FreshSlice> {
    const held = this.#fresh.take(header.id);
    if (held) return held;
    const bytes = await readSlice(this.#parts.stores, header);
    return { bytes, release: () => release(bytes) };
  }

  async #loadSlice(
    on: HeadConnection,
    { _id, db, name }: SyncCollectionRecord,
    { bytes, release: done }: FreshSlice,
    progress: LoadProgress,
  ): Promise<void> {
    const uuid = uuidOf(_id.uuid);
    const ns = `${db}.${name}`;
    const target = ns === VERSION_NS ? { ns } : on.head.catalog.get(uuid);
    if (!target) throw new LifeboatError('Internal', `${ns} is not on the head of ${this.#parts.fence.key}`);
    await loadDocuments(on, target, bytes);
    // Over the same connection, and behind them: a head's journal keeps the order of its writes.
    await writeLoad(on.socket, uuid, progress);
    this.#loads.set(uuid, progress);
    this.#ctx.report(this.#tally.loaded(bytes.length));
    done();
  }
}

/** What is loaded of the slices. While collections are still being copied nobody knows how much it will be. */
class LoadTally {
  readonly #meter = new Meter('load', 'bytes', null);
  readonly #found = new Set<string>();

  /** Counts, once for each collection, what an earlier run had loaded of it. */
  found(uuid: string, bytes: number): void {
    if (this.#found.has(uuid)) return;
    this.#found.add(uuid);
    this.#meter.skip(bytes);
  }

  loaded(bytes: number): Progress {
    return this.#meter.add(bytes);
  }

  allStored(bytes: number): void {
    this.#meter.total = bytes;
  }
}

/** What was copied is recorded with how much it was: slices that are gone from the end, or all, must not go unnoticed. */
function refuseLostSlices({ db, name, state, documents }: SyncCollectionRecord, slices: readonly SliceHeader[]): void {
  if (state !== 'done' || (slices.length === 0 && namespaceRule(db, name, EVERYTHING) !== 'copy')) return;
  const stored = slices.reduce((sum, slice) => sum + slice.documents, 0);
  if (slices.length > 0 && stored >= documents) return;
  const message = `${db}.${name}: ${documents} documents were copied, and its slices hold ${stored}`;
  throw new LifeboatError('SliceMissing', message);
}

/** All documents are in: from here on entries are applied. */
async function becomeLoaded(head: OpenHead, { views }: SyncListing, sync: SyncPlan): Promise<void> {
  const made = views.map(({ _id, type, options }) => ({
    db: _id.db,
    name: _id.name,
    type,
    options: Buffer.from(options.buffer),
  }));
  await makeViews(head, made);
  const appliedThrough = fromStoredPosition(sync.beginApplying);
  const oplogFrom = fromStoredPosition(sync.beginFetching);
  const inconsistentUntil = sync.stop && fromStoredPosition(sync.stop);
  const position = { appliedThrough, oplogFrom, inconsistentUntil };
  const { exclude = [], openTransaction = false } = sync;
  // Until an entry is applied, which tells.
  const undecided = openTransaction || !samePosition(appliedThrough, oplogFrom);
  await head.save({ ...head.record, stage: 'catching-up', position, undecided, exclude }, { journaled: true });
}
