/**
 * The proof of a restored dbpath: a mongod starts on it, every collection validates, it shuts down cleanly. On the way
 * everything that is not the source's is taken out.
 */
import { readdir, rm, statfs } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { MongoClient, type Db } from 'mongodb';
import {
  endMongodOn,
  MongodEnded,
  privateSocketPath,
  startMongod,
  type MongodExit,
  type RunningMongod,
} from '../mongod/process.ts';
import { isSound } from '../mongo/validate-reply.ts';
import { Meter } from '../shared/meter.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';
import { together } from '../shared/signals.ts';

export interface ProofRequest {
  readonly binary: string;
  readonly dbpath: string;
  /** Outside the dbpath; kept when the proof fails. */
  readonly logPath: string;
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

/** A start needs some for a journal; with less than this the disk is to blame for one that fails, in bytes. */
const ROOM_TO_START = 512 * 1024 * 1024;

/** A shutdown writes a checkpoint, which takes a slow disk its time, in milliseconds. */
export const SHUTDOWN_MS = 600_000;

/** What a mongod leaves in its dbpath that does not belong to the data, after a clean shutdown. */
const LEFT_BY_MONGOD = ['mongod.lock', 'WiredTiger.lock', 'diagnostic.data', '_tmp'];
const SPARE_JOURNAL = /^WiredTiger(Prep|Tmp)log\./;

/**
 * Ends the mongod that a killed run may have left on its files. To be called before any of them is touched: its lock
 * file, by which it is found, is one of them. What it had not written yet is nothing anybody needs.
 */
export async function endProver(dbpath: string): Promise<void> {
  await endMongodOn(dbpath, 0);
}

/**
 * Proves a dbpath and leaves it as a clean shutdown does, without anything of Lifeboat or of `local` in it.
 * @throws LifeboatError `RestoreProofFailed`; `TargetFull` and `ProofInterrupted` (retryable)
 */
export async function proveDbpath(request: ProofRequest): Promise<void> {
  const { dbpath, signal } = request;
  const mongod = await start(request);
  const stopEarly = (): void => mongod.kill('SIGTERM');
  signal.addEventListener('abort', stopEarly);
  try {
    if (signal.aborted) stopEarly();
    await examine(mongod, request);
    const exit = await mongod.stop(SHUTDOWN_MS);
    if (exit.code !== 0) throw await verdict(request, exit, 'did not shut down cleanly');
  } catch (error) {
    signal.throwIfAborted();
    if (isLifeboatError(error)) throw error;
    throw await verdict(request, await mongod.stop(SHUTDOWN_MS), 'ended in the middle of the proof', error);
  } finally {
    signal.removeEventListener('abort', stopEarly);
    await mongod.stop();
  }
  for (const name of LEFT_BY_MONGOD) await rm(join(dbpath, name), { recursive: true, force: true });
  const journal = join(dbpath, 'journal');
  for (const name of (await readdir(journal)).filter((found) => SPARE_JOURNAL.test(found))) {
    await rm(join(journal, name), { force: true });
  }
}

async function start(request: ProofRequest): Promise<RunningMongod> {
  const { binary, dbpath, logPath, signal } = request;
  try {
    return await startMongod(
      {
        binary,
        dbpath,
        address: { socket: await privateSocketPath(`proof of ${dbpath}`) },
        cacheGiB: 0.25,
        logPath,
        setParameters: {
          // A prover must not change what it proves.
          ttlMonitorEnabled: false,
          disableLogicalSessionCacheRefresh: true,
          diagnosticDataCollectionEnabled: false,
        },
      },
      signal,
    );
  } catch (error) {
    if (!(error instanceof MongodEnded)) throw error;
    throw await verdict(request, error.exit, 'does not start', error);
  }
}

/** How a mongod dies of what it found, or of itself: by these, or with an exit code. */
const CRASHES = new Set(['SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGSEGV', 'SIGTRAP']);

/**
 * What the end of a mongod on restored files says of them. A full disk ends it in many ways, so that is asked first. One that somebody
 * killed, the kernel for want of memory above all, has judged nothing and is asked again; only one that gave up by itself
 * has.
 */
export async function verdict(
  { dbpath, logPath }: Pick<ProofRequest, 'dbpath' | 'logPath'>,
  exit: MongodExit,
  how: string,
  cause?: unknown,
  kinds: VerdictKinds = { gaveUp: 'RestoreProofFailed', interrupted: 'ProofInterrupted' },
): Promise<LifeboatError> {
  if (await isDiskFull(dbpath)) return new LifeboatError('TargetFull', `the disk of ${dbpath} is full`, { cause });
  const gaveUp = exit.signal === null ? exit.code !== 0 : CRASHES.has(exit.signal);
  const kind = gaveUp ? kinds.gaveUp : kinds.interrupted;
  return new LifeboatError(kind, `mongod ${how} on ${dbpath}; its log is ${logPath}`, { cause });
}

/** What it is called when a mongod gave up by itself, and when somebody ended it. */
export interface VerdictKinds {
  readonly gaveUp: ErrorName;
  readonly interrupted: ErrorName;
}

async function isDiskFull(dbpath: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(dbpath);
  return bavail * bsize < ROOM_TO_START;
}

/** A server checks a collection on one processor. */
const CHECKS_AT_ONCE = Math.min(4, Math.max(2, availableParallelism()));

async function examine(mongod: RunningMongod, { dbpath, report, signal }: ProofRequest): Promise<void> {
  const client = new MongoClient(mongod.uri, { serverSelectionTimeoutMS: 30_000 });
  try {
    await client.connect();
    // The head's own records, and the diary of this very start.
    await client.db('local').dropDatabase();
    await client.db('config').dropCollection('system.sessions');
    const collections = await collectionsOf(client);
    const meter = new Meter('proof: validate', 'collections', collections.length);
    const waiting = collections.values();
    const check = async (ended: AbortSignal): Promise<void> => {
      for (const { db, name } of waiting) {
        ended.throwIfAborted();
        if (!isSound(await db.command({ validate: name }))) {
          const what = `collection ${db.databaseName}.${name} in ${dbpath} is not valid`;
          throw new LifeboatError('RestoreProofFailed', what);
        }
        report(meter.add(1));
      }
    };
    await together(
      signal,
      Array.from({ length: CHECKS_AT_ONCE }, () => check),
    );
  } finally {
    await client.close();
  }
}

/** The largest first: one of them alone at the end would be waited for on one processor. */
async function collectionsOf(client: MongoClient): Promise<readonly { readonly db: Db; readonly name: string }[]> {
  const { databases } = await client.db('admin').admin().listDatabases({ nameOnly: true });
  const found: { db: Db; name: string; bytes: number }[] = [];
  for (const { name: database } of databases) {
    const db = client.db(database);
    const listed = await db.listCollections({ type: 'collection' }, { nameOnly: true }).toArray();
    for (const { name } of listed) {
      const { totalSize } = await db.command({ collStats: name });
      found.push({ db, name, bytes: Number(totalSize) });
    }
  }
  return found.toSorted((a, b) => b.bytes - a.bytes);
}
