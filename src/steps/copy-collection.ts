/** Copying one collection into slices: reading in sequence, compressing and storing beside it, headers in order. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Binary, ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { toTimestamp } from '../mongo/positions.ts';
import type { ByteBudget } from '../shared/budget.ts';
import { LifeboatError } from '../shared/errors.ts';
import { release } from '../shared/memory.ts';
import type { Optime } from '../shared/optime.ts';
import { untilAborted } from '../shared/signals.ts';
import { CollectionReader, type CollectionReading, type Piece } from '../source/collection-reader.ts';
import type { PinnedMember } from '../source/connect.ts';
import { copyIdentity, readFrom, tokenHolds } from '../source/copy-identity.ts';
import { readFailure } from '../source/failures.ts';
import type { ReadPace } from '../source/read-pace.ts';
import type { SharedMember } from '../source/pinning.ts';
import { settledPosition } from '../source/positions.ts';
import { releaseStored, storeBytes } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { ReadFrom, StoredBytes, SyncCollectionRecord } from '../stores/records.ts';
import { resumePoints, type Chain } from '../syncstore/chain.ts';
import type { CollectionOutcome } from '../syncstore/collections.ts';
import type { FreshSlice, FreshSlices } from '../syncstore/fresh-slices.ts';
import { insertSlice, readChain } from '../syncstore/slices.ts';

/** What the copies of all collections share. */
export interface Copying {
  readonly stores: Stores;
  readonly incarnation: ObjectId;
  readonly epoch: number;
  readonly member: SharedMember;
  /** `beginApplying` of the plan: a slice holds everything up to it. */
  readonly beginApplying: Optime;
  readonly sliceBytes: number;
  readonly budget: ByteBudget;
  readonly fresh: FreshSlices | undefined;
  readonly pace: ReadPace;
  /** Ends everything at once. */
  readonly signal: AbortSignal;
  /** True when no further slice is to be begun. */
  readonly timeIsUp: () => boolean;
  /** Looks, now and then, whether the claim is still the newest. @throws LifeboatError `FenceLost` */
  readonly checkFence: () => Promise<void>;
  /** Host of the member that the plan says to read from now. @throws LifeboatError `FenceLost` */
  readonly plannedReader: () => Promise<string>;
  readonly stored: (bytes: number) => void;
}

export type CollectionToCopy = Pick<SyncCollectionRecord, '_id' | 'db' | 'name'>;

/** How often in a row a reading may fail without a slice stored in between, and how long the first pause is. */
const FAILURES = 6;
const PAUSE_MS = 100;

const NO_CHAIN: Chain = { slices: [], complete: false, nextSeq: 0 };

/** Another writer has stored the slice of the next number. */
class ChainMoved extends Error {}

/**
 * Copies what is missing of a collection. Undefined when the time was up before its end.
 * @param begun whether slices of it may be in the store already
 * @throws LifeboatError `SourceUnavailable` when it cannot be read again and again, `FenceLost`, store errors
 */
export async function copyCollection(
  copying: Copying,
  collection: CollectionToCopy,
  begun: boolean,
): Promise<CollectionOutcome | undefined> {
  const { stores, incarnation, signal } = copying;
  const { uuid } = collection._id;
  let chain = begun ? await readChain(stores, incarnation, uuid) : NO_CHAIN;
  for (let failures = 0; ;) {
    if (chain.complete) return outcomeOf(uuid, chain);
    if (copying.timeIsUp()) return undefined;
    const member = await copying.member.get();
    const stored = { slices: 0 };
    try {
      const end = await extendChain(copying, collection, chain, member, stored);
      if (end === 'dropped') return { uuid, state: 'dropped', documents: 0, bytes: 0 };
    } catch (error) {
      signal.throwIfAborted();
      failures = stored.slices > 0 ? 1 : failures + 1;
      await recover(copying, collection, member, error, failures);
    }
    chain = await readChain(stores, incarnation, uuid);
  }
}

function outcomeOf(uuid: Binary, { slices }: Chain): CollectionOutcome {
  const sum = (field: 'documents' | 'rawBytes'): number => slices.reduce((total, slice) => total + slice[field], 0);
  return { uuid, state: 'done', documents: sum('documents'), bytes: sum('rawBytes') };
}

/** Settles when reading can be tried again; throws what no further try will mend. */
async function recover(
  copying: Copying,
  { db, name }: CollectionToCopy,
  member: PinnedMember,
  error: unknown,
  failures: number,
): Promise<void> {
  const what = `copying ${db}.${name}`;
  if (error instanceof ChainMoved) {
    // A twin of this attempt copies it too. Read from two members, each would begin anew behind the other's slices.
    if ((await copying.plannedReader()) !== member.host) await copying.member.lose(member);
    return;
  }
  const failure = error instanceof LifeboatError ? 'fatal' : readFailure(error);
  if (failure === 'fatal') throw castDriverError(error, 'source', what);
  if (failures >= FAILURES) {
    throw new LifeboatError('SourceUnavailable', `${what}: reading failed ${failures} times in a row`, {
      cause: error,
    });
  }
  if (failure === 'member-lost') await copying.member.lose(member);
  await delay(PAUSE_MS * 2 ** failures, undefined, { signal: copying.signal });
}

/** Reads on where the chain ends, until the end of the collection or of the time. */
async function extendChain(
  copying: Copying,
  collection: CollectionToCopy,
  chain: Chain,
  member: PinnedMember,
  stored: { slices: number },
): Promise<'read' | 'dropped'> {
  // The first reply comes with the opening. What is taken before anything is known is corrected when it is.
  let taken = copying.sliceBytes;
  await copying.budget.take(taken, copying.signal);
  try {
    const opened = await openReader(copying, collection, chain, member);
    if (opened === 'dropped') return 'dropped';
    await using reader = opened.reader;
    const writer = new SliceWriter(copying, collection._id.uuid, opened, chain.nextSeq, stored);
    try {
      while (!writer.failed) {
        const bytes = await passOn(reader, writer, (size) => copying.budget.adjust(size - taken));
        taken = 0;
        if (reader.ended || copying.timeIsUp()) break;
        // Where documents are large, the next piece is as much too large as this one.
        const expected = Math.max(copying.sliceBytes, bytes);
        await copying.budget.take(expected, copying.signal);
        taken = expected;
      }
    } finally {
      // What was read is stored even if reading on fails: it need not be read again.
      await writer.settled(copying.signal);
    }
    await writer.finish();
    return 'read';
  } finally {
    copying.budget.adjust(-taken);
  }
}

/** Reads a piece and has it stored; gives its size only, so that nothing here holds its bytes any longer. */
async function passOn(reader: CollectionReader, writer: SliceWriter, read: (bytes: number) => void): Promise<number> {
  const piece = await reader.next();
  read(piece.bytes);
  writer.add(piece);
  return piece.bytes;
}

interface Opened {
  readonly reader: CollectionReader;
  readonly after: Binary | null;
  readonly readFrom: ReadFrom;
}

/** Opens a reading behind the newest token that still has its record; the collection's start always has. */
async function openReader(
  copying: Copying,
  { _id, db }: CollectionToCopy,
  chain: Chain,
  member: PinnedMember,
): Promise<Opened | 'dropped'> {
  const { beginApplying, sliceBytes, pace, timeIsUp, signal } = copying;
  const { host, client } = member;
  const afterClusterTime = toTimestamp(beginApplying);
  const from = { client, db, uuid: _id.uuid, afterClusterTime };
  const reading = { ...from, pieceBytes: sliceBytes, pace, cutShort: timeIsUp, signal };
  // A token is judged by what the member is now; where there is none, what it was before does for the new ones.
  const copy = chain.slices.length > 0 ? await copyIdentity(client) : member.copy;
  const points = resumePoints(chain, (token) => tokenHolds(token, host, copy));
  for (const after of points) {
    try {
      const reader = await CollectionReader.open({ ...reading, after: after?.buffer ?? null });
      return { reader, after, readFrom: readFrom(host, copy, beginApplying) };
    } catch (error) {
      const failure = readFailure(error);
      if (failure === 'dropped' && (await staysDropped({ ...reading, after: null }))) return 'dropped';
      if (failure !== 'token-gone' || after === null) throw error;
    }
  }
  throw new LifeboatError('Internal', 'a collection has no start');
}

/** A drop that this member alone has seen can be rolled back: it counts once the member's newest entry is on a majority. */
async function staysDropped(reading: CollectionReading): Promise<boolean> {
  await settledPosition(reading.client, reading.signal);
  try {
    const reader = await CollectionReader.open(reading);
    await reader[Symbol.asyncDispose]();
    return false;
  } catch (error) {
    if (readFailure(error) === 'dropped') return true;
    throw error;
  }
}

/** Stores slices beside the reading: bytes in parallel, headers one after the other. */
class SliceWriter {
  readonly #copying: Copying;
  readonly #uuid: Binary;
  readonly #readFrom: ReadFrom;
  readonly #stored: { slices: number };
  #after: Buffer | Binary | null;
  #seq: number;
  #chain: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;

  constructor(copying: Copying, uuid: Binary, { after, readFrom }: Opened, seq: number, stored: { slices: number }) {
    this.#copying = copying;
    this.#uuid = uuid;
    this.#readFrom = readFrom;
    this.#after = after;
    this.#seq = seq;
    this.#stored = stored;
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** Begins to store a piece, and gives its bytes back to the budget when that is done. */
  add({ runs, bytes: size, documents, token }: Piece): void {
    const { stores, incarnation, epoch, budget, checkFence, stored, fresh, signal } = this.#copying;
    const [after, seq] = [this.#after, this.#seq];
    this.#after = token;
    this.#seq += 1;
    const packing = packRuns(stores, incarnation, runs);
    packing.catch(() => undefined);
    const store = async (): Promise<void> => {
      await checkFence();
      const { packed, raw } = await packing;
      const slice = {
        id: { incarnation, uuid: this.#uuid, seq },
        after,
        token,
        readFrom: this.#readFrom,
        documents,
        bytes: packed,
        epoch,
      };
      const isStored = await insertSlice(stores, slice);
      releaseStored(slice.bytes);
      if (!isStored) {
        raw.release();
        throw new ChainMoved();
      }
      this.#stored.slices += 1;
      stored(size);
      if (fresh) await fresh.offer(slice.id, raw, signal);
      else raw.release();
    };
    // After a failure nothing further is stored: the chain would have a hole.
    this.#chain = this.#chain
      .then(() => (this.#failure ? undefined : store()))
      .catch((error: unknown) => {
        this.#failure ??= { error: castDriverError(error, 'store', 'storing a slice') };
      })
      .finally(() => budget.adjust(-size));
  }

  /** Waits until everything that was added is stored or has failed; not for long once the signal is aborted. */
  async settled(signal: AbortSignal): Promise<void> {
    await untilAborted(this.#chain, signal);
  }

  /** @throws what storing failed with */
  async finish(): Promise<void> {
    await this.#chain;
    if (this.#failure) throw this.#failure.error;
  }
}

interface Packed {
  readonly packed: StoredBytes;
  readonly raw: FreshSlice;
}

/** Compresses runs as one. */
async function packRuns(stores: Stores, incarnation: ObjectId, runs: readonly Buffer[]): Promise<Packed> {
  const raw = joined(runs);
  return { packed: await storeBytes(stores.sliceParts, incarnation, raw.bytes), raw };
}

/**
 * The memory of a run is not to be released: the driver keeps more of a reply than its documents (the hash of its
 * `$clusterTime`, which goes out with the next command).
 */
function joined(runs: readonly Buffer[]): FreshSlice {
  const [first] = runs;
  if (first && runs.length === 1) return { bytes: first, release: () => undefined };
  const bytes = Buffer.concat(runs);
  return { bytes, release: () => release(bytes) };
}
