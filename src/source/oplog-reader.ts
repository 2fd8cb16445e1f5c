/** Reading the oplog of a member on from a known entry, at majority: nothing that is read can ever be rolled back. */
import { MongoServerError, type Db } from 'mongodb';
import { documentLength } from '../bson/raw.ts';
import { entryPlace, type EntryRun } from '../mongo/entries.ts';
import { toTimestamp } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, formatOptime, samePosition, type Position } from '../shared/optime.ts';
import type { PinnedMember, Source } from './connect.ts';
import { oldestEntry, primaryWrite } from './positions.ts';
import { RawCursor, type RawBatch } from './raw-cursor.ts';

/** InvalidOptions: what a server answers to a cluster time that it has never heard of. */
const INVALID_OPTIONS = 72;
/** Entries of the first reply. */
const FIRST_BATCH = 1_000;

/** Where to begin. */
export interface OplogReading {
  readonly source: Source;
  readonly member: PinnedMember;
  /** The first entry that is read must be this very one. */
  readonly from: Position;
  /** Raw bytes of one reply, about. */
  readonly replyBytes: number;
  readonly signal: AbortSignal;
}

/** The end of a tailable cursor: its place was lost, and it can only be opened again. */
export class CursorEnded extends Error {}

/** A stream of entries that waits for new ones. */
export class OplogReader implements AsyncDisposable {
  readonly #cursor: RawCursor;
  readonly #replyBytes: number;
  #first: EntryRun | undefined;
  /** Average size of an entry in the last reply, for the size of the next one. */
  #average = 1_024;

  private constructor(cursor: RawCursor, replyBytes: number, first: EntryRun) {
    this.#cursor = cursor;
    this.#replyBytes = replyBytes;
    this.#first = first;
  }

  /**
   * Opens the stream and checks its begin. That it is checked after the entries were fetched matters: what is there then
   * was there before.
   * @throws LifeboatError `OplogGap` when the member's oplog begins after `from`; `SourceRolledBack` when `from` is not
   *   in it although older entries are, or is there with another term; `SourceNotReady` when the member has yet to come
   *   to it (retryable); else the driver's errors
   */
  static async open(reading: OplogReading): Promise<OplogReader> {
    const { source, member, from, signal, replyBytes } = reading;
    const cursor = await openAt(source, member.client.db('local'), from, signal);
    try {
      const first = runOf(await cursor.next());
      if (!first || !samePosition(first.first, from)) throw await absence(reading, first);
      return new OplogReader(cursor, replyBytes, first);
    } catch (error) {
      await cursor[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * The next entries; undefined when none came within `waitMs`. The first run begins with the entry that was asked for.
   * @throws CursorEnded, the driver's errors
   */
  async next(waitMs: number): Promise<EntryRun | undefined> {
    if (this.#first) {
      const first = this.#first;
      this.#first = undefined;
      return this.#noted(first);
    }
    if (this.#cursor.ended) throw new CursorEnded();
    const batchSize = Math.max(1, Math.ceil(this.#replyBytes / this.#average));
    const run = runOf(await this.#cursor.next({ batchSize, maxTimeMS: waitMs }));
    return run && this.#noted(run);
  }

  #noted(run: EntryRun): EntryRun {
    this.#average = run.bytes.length / run.entries;
    return run;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cursor[Symbol.asyncDispose]();
  }
}

async function openAt(source: Source, local: Db, from: Position, signal: AbortSignal): Promise<RawCursor> {
  const ts = toTimestamp(from.ts);
  const command = {
    find: 'oplog.rs',
    filter: { ts: { $gte: ts } },
    tailable: true,
    awaitData: true,
    batchSize: FIRST_BATCH,
    // A member that lags behind is waited for: an entry that it has yet to get is not missing.
    readConcern: { level: 'majority', afterClusterTime: ts },
  };
  try {
    return await RawCursor.open(local, command, signal);
  } catch (error) {
    if (error instanceof MongoServerError && error.code === INVALID_OPTIONS)
      throw await unheardOf(source, from, signal);
    throw error;
  }
}

/**
 * The member knows no cluster time as late as `from`: the primary tells whether the set has gone back behind it. One
 * whose newest entry is of an older term than `from` has yet to hear of its successor.
 */
async function unheardOf(source: Source, from: Position, signal: AbortSignal): Promise<LifeboatError> {
  const last = await primaryWrite(source.client, signal);
  if (!last || last.term < from.term) return notReady(source, from);
  return compareOptimes(last.ts, from.ts) < 0 ? rolledBack(source, from) : notReady(source, from);
}

/** Why the entry that was asked for did not come first. */
async function absence(
  { source, member, from, signal }: OplogReading,
  first: EntryRun | undefined,
): Promise<LifeboatError> {
  if (!first) return notReady(source, from);
  if (compareOptimes(first.first.ts, from.ts) === 0) return rolledBack(source, from);
  const oldest = await oldestEntry(member.client, signal);
  if (oldest && compareOptimes(oldest, from.ts) <= 0) return rolledBack(source, from);
  const begins = oldest ? formatOptime(oldest) : 'nowhere';
  return new LifeboatError(
    'OplogGap',
    `the oplog of ${source.name} begins at ${begins}: entries after ${formatOptime(from.ts)} were lost before they were read`,
  );
}

function rolledBack(source: Source, from: Position): LifeboatError {
  const entry = `${formatOptime(from.ts)} of term ${from.term}`;
  return new LifeboatError('SourceRolledBack', `the oplog of ${source.name} no longer holds the entry ${entry}`);
}

function notReady(source: Source, from: Position): LifeboatError {
  return new LifeboatError('SourceNotReady', `${source.name} has not come to the entry ${formatOptime(from.ts)} yet`);
}

function runOf({ bytes, documents, lastOffset }: RawBatch): EntryRun | undefined {
  if (documents === 0) return undefined;
  const { ts, term } = entryPlace(bytes);
  return { bytes, entries: documents, first: { ts, term }, last: entryPlace(bytes, lastOffset) };
}

/** A run without its first entry; undefined when it has no other. */
export function withoutFirst({ bytes, entries, last }: EntryRun): EntryRun | undefined {
  if (entries === 1) return undefined;
  const rest = bytes.subarray(documentLength(bytes));
  const { ts, term } = entryPlace(rest);
  return { bytes: rest, entries: entries - 1, first: { ts, term }, last };
}
