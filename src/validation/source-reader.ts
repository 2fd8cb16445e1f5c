/** Reading the source as it was at one optime, by UUID, from one member. */
import { MongoServerError, ReadPreference, type Document } from 'mongodb';
import { run } from '../mongo/commands.ts';
import { castDriverError } from '../mongo/errors.ts';
import { toTimestamp } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import type { PinnedMember, Source } from '../source/connect.ts';
import { confirmPosition } from '../source/positions.ts';
import type { ReadPace } from '../source/read-pace.ts';
import { SourceCursor, SourceSilent } from './source-cursor.ts';

/**
 * Server error codes after which the same range may be read at a newer optime. None of them means that there is nothing:
 * a collection that was renamed since answers to its UUID with 246, to its old name with no documents (research,
 * mongodb-internals §7).
 */
const NOT_AT_THAT_TIME = new Map<number, string>([
  [26, 'NamespaceNotFound'],
  [50, 'MaxTimeMSExpired'],
  [72, 'InvalidOptions'],
  [112, 'WriteConflict'],
  [175, 'QueryPlanKilled'],
  [237, 'CursorKilled'],
  [43, 'CursorNotFound'],
  [239, 'SnapshotTooOld'],
  [246, 'SnapshotUnavailable'],
  [251, 'NoSuchTransaction'],
]);

/** The name of what kept a member from reading at an optime, when another optime may do; undefined for any other error. */
export function notAtThatTime(error: unknown): string | undefined {
  if (error instanceof SourceSilent) return 'no reply in time';
  return error instanceof MongoServerError ? NOT_AT_THAT_TIME.get(Number(error.code)) : undefined;
}

/** Prepared transactions block a read for as long as they last. */
const REPLY_MS = 30_000;

/** How a source of some version is best read. */
export interface Pace {
  /** How long the head stands still for one group of ranges, in milliseconds; the range in hand is ended. */
  readonly groupMs: number;
  /** How far the head may be behind the source, in seconds. */
  readonly mostAgeS: number;
  /** How often in a row a collection is tried to be read at an optime of the head. */
  readonly tries: number;
  /** How long the reading of one range may take, and of what is fetched anew of it, where reading is limited; in seconds. */
  readonly rangeSeconds: number;
  readonly repairSeconds: number;
}

/** A source tells of its past for 300 seconds (minSnapshotHistoryWindowInSeconds). */
const PACE: Pace = { groupMs: 3_000, mostAgeS: 100, tries: 5, rangeSeconds: 10, repairSeconds: 60 };
/** One of 4.4 for 5 seconds (maxTargetSnapshotHistoryWindowInSeconds); a transaction that has begun keeps its own. */
const PACE_IN_TRANSACTIONS: Pace = { groupMs: 1_000, mostAgeS: 3, tries: 30, rangeSeconds: 2, repairSeconds: 20 };

/** Databases that no transaction reads (OperationNotSupportedInTransaction, 263). */
const OUTSIDE_TRANSACTIONS = new Set(['admin', 'config']);

/** How a range is read. */
export interface Reading {
  readonly at: Position;
  /** Bytes of a document on average, about. */
  readonly average: number;
  readonly signal: AbortSignal;
}

export interface SourceReaderOptions {
  /** How long one reply is waited for, in milliseconds. */
  readonly replyMs?: number;
  /** How fast documents are read; the source's own limit when left out. */
  readonly readPace?: ReadPace;
}

export class SourceReader implements AsyncDisposable {
  readonly #source: Source;
  readonly #member: PinnedMember;
  /** Before 5.0 a past time can be read inside of transactions only (research, mongodb-internals §7). */
  readonly #inTransaction: boolean;
  readonly #replyMs: number;
  readonly #readPace: ReadPace;

  private constructor(source: Source, member: PinnedMember, inTransaction: boolean, options: SourceReaderOptions) {
    this.#source = source;
    this.#member = member;
    this.#inTransaction = inTransaction;
    this.#replyMs = options.replyMs ?? REPLY_MS;
    this.#readPace = options.readPace ?? source.pace;
  }

  /** @throws LifeboatError `SourceUnavailable` (retryable) */
  static async open(source: Source, options: SourceReaderOptions = {}): Promise<SourceReader> {
    const inTransaction = Number.parseInt(source.identity.version, 10) < 5;
    // A secondary runs no transactions.
    const member = await source.pinned(inTransaction ? await primaryOf(source) : undefined);
    return new SourceReader(source, member, inTransaction, options);
  }

  get pace(): Pace {
    return this.#inTransaction ? PACE_IN_TRANSACTIONS : PACE;
  }

  /** How many bytes may be read in that many seconds; no bound is Infinity. */
  async bytesWithin(seconds: number, signal: AbortSignal): Promise<number> {
    const pace = this.#readPace;
    // The limit is looked at when it is asked for leave.
    const { settle } = await pace.admit(0, signal);
    settle(0);
    return pace.perSecond === null ? Infinity : pace.perSecond * seconds;
  }

  /** Whether a database can be read as it was. What cannot is read as it is, at the optime asked for or later. */
  tellsOfPast(db: string): boolean {
    return !this.#inTransaction || !OUTSIDE_TRANSACTIONS.has(db);
  }

  get member(): PinnedMember {
    return this.#member;
  }

  /** The newest majority position of the source, or `least` when that is newer. */
  async newest(least?: Position): Promise<Position> {
    const newest = await this.#source.majorityPosition();
    return least && (least.ts.t - newest.ts.t || least.ts.i - newest.ts.i) > 0 ? least : newest;
  }

  /** Waits until the member holds everything up to `at`. */
  async reach(at: Position, signal: AbortSignal): Promise<void> {
    await confirmPosition(this.#member.client, at, signal);
  }

  /**
   * Begins to read at `at`, or later where a database does not tell of its past.
   * @param command a `find` without a size of its replies
   * @throws the driver's errors, and what else notAtThatTime knows
   */
  async open(db: string, command: Document, { at, signal, average }: Reading): Promise<SourceCursor> {
    const { client } = this.#member;
    const from = { database: client.db(db), pace: this.#readPace, average, replyMs: this.#replyMs, signal };
    const atClusterTime = toTimestamp(at.ts);
    if (!this.tellsOfPast(db)) {
      return SourceCursor.open(from, {
        ...command,
        readConcern: { level: 'majority', afterClusterTime: atClusterTime },
      });
    }
    if (this.#inTransaction) return SourceCursor.open(from, command, { transactionAt: atClusterTime });
    return SourceCursor.open(from, { ...command, readConcern: { level: 'snapshot', atClusterTime } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#member.close();
  }
}

async function primaryOf({ name, client }: Source): Promise<string> {
  try {
    const hello = await run<{ primary?: string }>(
      client.db('admin'),
      { hello: 1 },
      { readPreference: ReadPreference.primaryPreferred },
    );
    if (hello.primary !== undefined) return hello.primary;
  } catch (error) {
    throw castDriverError(error, 'source', `looking for the primary of ${name}`);
  }
  throw new LifeboatError('SourceNotReady', `${name} has no primary, and its version reads the past on it alone`);
}
