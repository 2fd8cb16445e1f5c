/** Where a member of the source stands, and whether that will last. */
import {
  MongoServerError,
  MongoServerSelectionError,
  ReadPreference,
  type Long,
  type MongoClient,
  type Timestamp,
} from 'mongodb';
import { run, type FirstBatch } from '../mongo/commands.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, fromTimestamp, toTimestamp } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { samePosition, type Position } from '../shared/optime.ts';

interface ServerOpTime {
  readonly ts: Timestamp;
  readonly t: Long | number;
}

interface Hello {
  readonly isWritablePrimary?: boolean;
  /** Without `majorityOpTime` until a member that was just started hears of it. */
  readonly lastWrite: { readonly opTime: ServerOpTime; readonly majorityOpTime?: ServerOpTime };
}

interface LastWrite {
  /** The newest entry that the member has applied. It can be rolled back. */
  readonly last: Position;
  /** The newest entry that the member knows to be on a majority. */
  readonly majority: Position;
}

/**
 * The newest entry of the primary, as it says itself; undefined while none answers as such. Another member's word proves
 * nothing about what is gone: it may merely lag behind.
 * @throws the driver's errors
 */
export async function primaryWrite(client: MongoClient, signal: AbortSignal): Promise<Position | undefined> {
  try {
    const options = { readPreference: ReadPreference.primary, signal };
    const hello = await run<Hello>(client.db('admin'), { hello: 1 }, options);
    return hello.isWritablePrimary === true ? fromStoredPosition(hello.lastWrite.opTime) : undefined;
  } catch (error) {
    if (error instanceof MongoServerSelectionError) return undefined;
    throw error;
  }
}

/** How long a majority may take to come to an entry, in milliseconds. */
const MAJORITY_WAIT_MS = 30_000;

const MAX_TIME_MS_EXPIRED = 50;
/** InvalidOptions: what a server answers to a cluster time that it has never heard of. */
const INVALID_OPTIONS = 72;

/**
 * `hello().lastWrite` of the primary, or of another member while there is none; of its own behind a client of one member.
 * @throws LifeboatError `SourceNotReady`; the driver's errors
 */
export async function lastWrite(client: MongoClient, signal?: AbortSignal): Promise<LastWrite> {
  const options = { readPreference: ReadPreference.primaryPreferred, ...(signal ? { signal } : {}) };
  const hello = await run<Hello>(client.db('admin'), { hello: 1 }, options);
  const { opTime, majorityOpTime } = hello.lastWrite;
  if (!majorityOpTime) throw new LifeboatError('SourceNotReady', 'a member does not know yet what is on a majority');
  return { last: fromStoredPosition(opTime), majority: fromStoredPosition(majorityOpTime) };
}

/**
 * Waits until the member's majority view has come to the optime of `position`, then says whether its oplog holds that
 * very entry: false means that it was rolled back, is too old, or never was.
 * @param client of one member
 * @throws LifeboatError `SourceNotReady` when no majority comes to it
 */
export async function confirmPosition(client: MongoClient, position: Position, signal: AbortSignal): Promise<boolean> {
  const ts = toTimestamp(position.ts);
  try {
    const reply = await run<FirstBatch<ServerOpTime>>(
      client.db('local'),
      {
        find: 'oplog.rs',
        // As a range, the server seeks to it; it scans the oplog for an equality on some versions.
        filter: { ts: { $gte: ts, $lte: ts } },
        projection: { ts: 1, t: 1 },
        limit: 1,
        singleBatch: true,
        maxTimeMS: MAJORITY_WAIT_MS,
        readConcern: { level: 'majority', afterClusterTime: ts },
      },
      { signal },
    );
    const [entry] = reply.cursor.firstBatch;
    return entry !== undefined && samePosition(fromStoredPosition(entry), position);
  } catch (error) {
    if (error instanceof MongoServerError && error.code === INVALID_OPTIONS) return false;
    if (error instanceof MongoServerError && error.code === MAX_TIME_MS_EXPIRED) {
      throw new LifeboatError('SourceNotReady', 'no majority of the source comes to its newest entry', {
        cause: error,
      });
    }
    throw castDriverError(error, 'source', 'waiting for a majority of the source');
  }
}

/**
 * The newest entry of a member, once it is on a majority: from then on a read at majority sees everything up to it.
 * @throws LifeboatError `SourceNotReady` when the member rolls back again and again
 */
export async function settledPosition(client: MongoClient, signal: AbortSignal): Promise<Position> {
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const { last } = await lastWrite(client, signal);
    if (await confirmPosition(client, last, signal)) return last;
  }
  throw new LifeboatError('SourceNotReady', 'the newest entries of the source were rolled back again and again');
}

/** Optime of the oldest entry that a member still holds. */
export async function oldestEntry(client: MongoClient, signal: AbortSignal): Promise<Position['ts'] | undefined> {
  const reply = await run<FirstBatch<{ ts: Timestamp }>>(
    client.db('local'),
    { find: 'oplog.rs', hint: { $natural: 1 }, projection: { ts: 1 }, limit: 1, singleBatch: true },
    { signal },
  );
  const [entry] = reply.cursor.firstBatch;
  return entry && fromTimestamp(entry.ts);
}
