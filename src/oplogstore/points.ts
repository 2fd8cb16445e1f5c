/** Finding places in the chain of stored entries without reading through it. */
import type { Long, ObjectId, Timestamp } from 'mongodb';
import { documentLength } from '../bson/raw.ts';
import { entryPlace } from '../mongo/entries.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, toTimestamp } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, formatOptime, type Optime, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { beginOfChain, endOfChain, readEntries, type EntryBatch } from './batches.ts';

/** The stored entries of one initial sync. */
export interface Chain {
  readonly first: Position;
  readonly last: Position;
}

/** The chain as it is now, or null while no entry is stored. */
export async function readChain(stores: Stores, incarnation: ObjectId): Promise<Chain | null> {
  const last = await endOfChain(stores, incarnation);
  const first = last && (await beginOfChain(stores, incarnation));
  return first && { first, last };
}

/**
 * The last stored entry at or before an optime.
 * @throws LifeboatError `EntriesMissing` when none is; `EntriesDamaged`; `StoreUnavailable` (retryable)
 */
export async function lastEntryThrough(
  stores: Stores,
  incarnation: ObjectId,
  optime: Optime,
  signal: AbortSignal,
): Promise<Position> {
  const ended = await lastEndThrough(stores, incarnation, optime);
  // The batch behind it is the one that may hold a later one.
  const from = ended ?? (await beginOfChain(stores, incarnation));
  let found = ended;
  if (from) {
    for await (const batch of readEntries(stores, incarnation, from, signal)) {
      const within = positionsIn(batch).filter(({ ts }) => compareOptimes(ts, optime) <= 0);
      found = within.at(-1) ?? found;
      if (compareOptimes(batch.last.ts, optime) > 0) break;
    }
  }
  if (found) return found;
  throw new LifeboatError('EntriesMissing', `no entry at or before ${formatOptime(optime)} is stored`);
}

/** How many entries there are, and about how many bytes. */
export interface EntryCount {
  readonly entries: number;
  readonly bytes: number;
}

/**
 * Counts the stored entries behind `after`, up to and including `through`. Only the batches at the two ends are read.
 * @throws LifeboatError `EntriesMissing`, `EntriesDamaged`; `StoreUnavailable` (retryable)
 */
export async function countEntries(
  stores: Stores,
  incarnation: ObjectId,
  after: Position,
  through: Position,
  signal: AbortSignal,
): Promise<EntryCount> {
  const count = { entries: 0, bytes: 0 };
  if (compareOptimes(after.ts, through.ts) >= 0) return count;
  let isFirst = true;
  for await (const { last, entries, bytes } of outlines(stores, incarnation, after)) {
    signal.throwIfAborted();
    const isLast = compareOptimes(last.ts, through.ts) >= 0;
    const counted =
      isFirst || isLast ? await countWithin(stores, incarnation, { after, last, through }, signal) : entries;
    count.entries += counted;
    count.bytes += Math.round((bytes * counted) / entries);
    if (isLast) break;
    isFirst = false;
  }
  return count;
}

interface Outline {
  readonly last: Position;
  readonly entries: number;
  readonly bytes: number;
}

/** The batches that end behind a position, in order: only what the index holds of them, the records are megabytes. */
async function* outlines(stores: Stores, incarnation: ObjectId, after: Position): AsyncGenerator<Outline, void, void> {
  const found = stores.batches
    .find({ '_id.incarnation': incarnation, 'last.ts': { $gt: toTimestamp(after.ts) } })
    .sort({ 'last.ts': 1, 'last.t': 1 })
    .project<{ last: { ts: Timestamp; t: Long }; entries: number; bytes: { rawBytes: number } }>({
      _id: 0,
      'last.ts': 1,
      'last.t': 1,
      entries: 1,
      'bytes.rawBytes': 1,
    });
  try {
    for await (const { last, entries, bytes } of found) {
      yield { last: fromStoredPosition(last), entries, bytes: bytes.rawBytes };
    }
  } catch (error) {
    throw castDriverError(error, 'store', 'counting stored oplog entries');
  }
}

/** How many entries of the batch that ends at `last` count. */
async function countWithin(
  stores: Stores,
  incarnation: ObjectId,
  { after, last, through }: { readonly after: Position; readonly last: Position; readonly through: Position },
  signal: AbortSignal,
): Promise<number> {
  for await (const batch of readEntries(stores, incarnation, last, signal)) {
    return positionsIn(batch).filter(
      ({ ts }) => compareOptimes(ts, after.ts) > 0 && compareOptimes(ts, through.ts) <= 0,
    ).length;
  }
  throw new LifeboatError('EntriesMissing', `the stored entries up to ${formatOptime(last.ts)} are missing`);
}

function positionsIn({ bytes }: EntryBatch): Position[] {
  const positions: Position[] = [];
  for (let at = 0; at < bytes.length; at += documentLength(bytes, at)) {
    const { ts, term } = entryPlace(bytes, at);
    positions.push({ ts, term });
  }
  return positions;
}

/** The end of the last batch that ends at or before an optime. */
async function lastEndThrough(stores: Stores, incarnation: ObjectId, optime: Optime): Promise<Position | undefined> {
  try {
    const record = await stores.batches.findOne<{ last: { ts: Timestamp; t: Long } }>(
      { '_id.incarnation': incarnation, 'last.ts': { $lte: toTimestamp(optime) } },
      { sort: { 'last.ts': -1, 'last.t': -1 }, projection: { _id: 0, 'last.ts': 1, 'last.t': 1 } },
    );
    return record ? fromStoredPosition(record.last) : undefined;
  } catch (error) {
    throw castDriverError(error, 'store', 'looking for a stored oplog entry');
  }
}
