/** The chain of stored oplog entries: extended by one writer at a time, read in order, checked link by link. */
import { type Long, MongoServerError, type ObjectId, type Timestamp } from 'mongodb';
import { documentLength } from '../bson/raw.ts';
import { entryPlace } from '../mongo/entries.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, toStoredPosition, toTimestamp } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, formatOptime, samePosition, ZERO_OPTIME, type Position } from '../shared/optime.ts';
import { loadBytes, storeBytes } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { BatchRecord } from '../stores/records.ts';

const DUPLICATE_KEY = 11000;

/** What the first batch of a chain follows. */
export const CHAIN_START: Position = { ts: ZERO_OPTIME, term: -1 };

/** A run of entries that is not stored yet. */
export interface NewBatch {
  /** The entry that the run follows: the end of the chain, or CHAIN_START. */
  readonly after: Position;
  readonly first: Position;
  readonly last: Position;
  readonly lastWall: Date;
  readonly entries: number;
  /** Concatenated raw entries. */
  readonly bytes: Buffer;
}

/** A run of stored entries. */
export type EntryBatch = Omit<NewBatch, 'after'>;

/**
 * Stores a batch; it is durable when this settles. False when another writer has extended the chain from there.
 * @param epoch the claim it is written under
 */
export async function appendBatch(
  stores: Stores,
  incarnation: ObjectId,
  batch: NewBatch,
  epoch: number,
): Promise<boolean> {
  try {
    const bytes = await storeBytes(stores.batchParts, incarnation, batch.bytes);
    const record: BatchRecord = {
      _id: { incarnation, after: toStoredPosition(batch.after) },
      first: toStoredPosition(batch.first),
      last: toStoredPosition(batch.last),
      lastWall: batch.lastWall,
      entries: batch.entries,
      bytes,
      epoch,
      storedAt: new Date(),
    };
    if (await inserted(stores, record)) return true;
    if (bytes.parts) await stores.batchParts.deleteMany({ '_id.of': bytes.parts.id, incarnation });
    return false;
  } catch (error) {
    throw castDriverError(error, 'store', 'storing oplog entries');
  }
}

async function inserted(stores: Stores, record: BatchRecord): Promise<boolean> {
  try {
    await stores.batches.insertOne(record);
    return true;
  } catch (error) {
    if (error instanceof MongoServerError && error.code === DUPLICATE_KEY) return false;
    throw error;
  }
}

/** The last stored entry, or null while there is none: the position of the stream. */
export async function endOfChain(stores: Stores, incarnation: ObjectId): Promise<Position | null> {
  try {
    const newest = await stores.batches.findOne<{ last: { ts: Timestamp; t: Long } }>(
      { '_id.incarnation': incarnation },
      // Only what the index holds: the record beside it is megabytes.
      { sort: { 'last.ts': -1, 'last.t': -1 }, projection: { _id: 0, 'last.ts': 1, 'last.t': 1 } },
    );
    return newest && fromStoredPosition(newest.last);
  } catch (error) {
    throw castDriverError(error, 'store', 'reading the end of the stored oplog');
  }
}

/** The first stored entry, or null while there is none. */
export async function beginOfChain(stores: Stores, incarnation: ObjectId): Promise<Position | null> {
  try {
    const oldest = await stores.batches.findOne<{ first: { ts: Timestamp; t: Long } }>(
      { '_id.incarnation': incarnation },
      { sort: { 'last.ts': 1, 'last.t': 1 }, projection: { _id: 0, 'first.ts': 1, 'first.t': 1 } },
    );
    return oldest && fromStoredPosition(oldest.first);
  } catch (error) {
    throw castDriverError(error, 'store', 'reading the begin of the stored oplog');
  }
}

/**
 * The stored batches, from the one that holds `from` (the caller skips what is before it) to the end of the chain as it
 * is when that is reached. The next one is fetched while the caller works on one. Nothing at all while the chain is empty.
 * @throws LifeboatError `EntriesMissing` when no batch holds `from` or a link is missing, `EntriesDamaged`;
 *   `StoreUnavailable` (retryable); the signal's reason when it is aborted
 */
export async function* readEntries(
  stores: Stores,
  incarnation: ObjectId,
  from: Position,
  signal: AbortSignal,
): AsyncGenerator<EntryBatch, void, void> {
  let coming = fetchFrom(stores, incarnation, from);
  for (;;) {
    signal.throwIfAborted();
    const batch = await coming;
    if (!batch) return;
    coming = fetchAfter(stores, incarnation, batch.last);
    // Its error is for whoever asks for the next one; until then it is nobody's.
    coming.catch(() => undefined);
    yield batch;
  }
}

/**
 * Wall time of a stored entry: the clock of the server that wrote it.
 * @throws LifeboatError `HeadInconsistent` (retryable) while the chain has not come to it; what `readEntries` throws
 */
export async function wallOfEntry(
  stores: Stores,
  incarnation: ObjectId,
  position: Position,
  signal: AbortSignal,
): Promise<Date> {
  const end = await endOfChain(stores, incarnation);
  if (end && compareOptimes(end.ts, position.ts) >= 0) {
    for await (const { bytes } of readEntries(stores, incarnation, position, signal)) {
      for (let at = 0; at < bytes.length; at += documentLength(bytes, at)) {
        const place = entryPlace(bytes, at);
        if (samePosition(place, position)) return place.wall;
      }
      throw new LifeboatError('EntriesMissing', `the entry ${formatOptime(position.ts)} is not among the stored ones`);
    }
  }
  throw new LifeboatError('HeadInconsistent', `the entry ${formatOptime(position.ts)} is not stored yet`);
}

async function fetchFrom(stores: Stores, incarnation: ObjectId, from: Position): Promise<EntryBatch | undefined> {
  try {
    const record = await stores.batches.findOne(
      { '_id.incarnation': incarnation, 'last.ts': { $gte: toTimestamp(from.ts) } },
      { sort: { 'last.ts': 1 } },
    );
    const holds = record && compareOptimes(fromStoredPosition(record.first).ts, from.ts) <= 0;
    if (holds) return await toBatch(stores, record);
    if (
      !record &&
      (await stores.batches.findOne({ '_id.incarnation': incarnation }, { projection: { _id: 1 } })) === null
    ) {
      return undefined;
    }
    throw new LifeboatError('EntriesMissing', `no stored batch holds the entry ${formatOptime(from.ts)}`);
  } catch (error) {
    throw castDriverError(error, 'store', 'reading stored oplog entries');
  }
}

async function fetchAfter(stores: Stores, incarnation: ObjectId, last: Position): Promise<EntryBatch | undefined> {
  const id = { incarnation, after: toStoredPosition(last) };
  try {
    const record = await stores.batches.findOne({ _id: id });
    if (record) return await toBatch(stores, record);
    const end = await endOfChain(stores, incarnation);
    if (!end || compareOptimes(end.ts, last.ts) <= 0) return undefined;
    // The chain goes on: it was extended between the two reads, or a link is missing.
    const extended = await stores.batches.findOne({ _id: id });
    if (extended) return await toBatch(stores, extended);
    throw new LifeboatError('EntriesMissing', `the stored entries after ${formatOptime(last.ts)} are missing`);
  } catch (error) {
    throw castDriverError(error, 'store', 'reading stored oplog entries');
  }
}

async function toBatch(stores: Stores, record: BatchRecord): Promise<EntryBatch> {
  const { lastWall, entries } = record;
  const [first, last] = [fromStoredPosition(record.first), fromStoredPosition(record.last)];
  const bytes = await loadBytes(stores.batchParts, record.bytes);
  if (bytes) return { first, last, lastWall, entries, bytes };
  const which = `${formatOptime(first.ts)} to ${formatOptime(last.ts)}`;
  throw new LifeboatError('EntriesDamaged', `the stored entries from ${which} do not match their checksum`);
}
