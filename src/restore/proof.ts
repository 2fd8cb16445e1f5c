/**
 * The proof of a restored dbpath: a mongod starts on it, every collection validates, it shuts down cleanly. On the way
 * everything that is not the source's is taken out.
 */
import { readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { MongoClient, type Db } from 'mongodb';
import { endMongodOn, MongodEnded, privateSocketPath, startMongod, type RunningMongod } from '../mongod/process.ts';
import { Meter } from '../shared/meter.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';

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

/** How long its clean shutdown may take, in milliseconds. */
const SHUTDOWN_MS = 10 * 60_000;

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
    // A checkpoint of all that validation read in and recovery changed may take long on a slow disk.
    const { code, signal: killedBy } = await mongod.stop(SHUTDOWN_MS);
    if (killedBy !== null) throw brokenOff(request, `it was ended by ${killedBy}`);
    if (code !== 0) throw new LifeboatError('RestoreProofFailed', `mongod did not shut down cleanly on ${dbpath}`);
  } catch (error) {
    signal.throwIfAborted();
    throw isLifeboatError(error) ? error : await interrupted(mongod, request, error);
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

async function start({ binary, dbpath, logPath, signal }: ProofRequest): Promise<RunningMongod> {
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
    if (!isLifeboatError(error, 'HeadStartFailed')) throw error;
    await blameTheDisk(dbpath);
    // Killed, by a machine out of memory for one: that says nothing of the files.
    if (error instanceof MongodEnded && error.exit.signal !== null) {
      throw brokenOff({ dbpath, logPath }, `it was ended by ${error.exit.signal}`, error);
    }
    throw new LifeboatError('RestoreProofFailed', `mongod does not start on ${dbpath}; its log is ${logPath}`, {
      cause: error,
    });
  }
}

/** What to call it when the mongod of a proof is gone. */
async function interrupted(mongod: RunningMongod, request: ProofRequest, error: unknown): Promise<LifeboatError> {
  mongod.kill('SIGTERM');
  await mongod.exited;
  await blameTheDisk(request.dbpath);
  return brokenOff(request, 'its connection ended', error);
}

function brokenOff(
  { dbpath, logPath }: Pick<ProofRequest, 'dbpath' | 'logPath'>,
  how: string,
  cause?: unknown,
): LifeboatError {
  const message = `the proof of ${dbpath} broke off (${how}); its log is ${logPath}`;
  return new LifeboatError('ProofInterrupted', message, { cause });
}

async function blameTheDisk(dbpath: string): Promise<void> {
  const { bavail, bsize } = await statfs(dbpath);
  if (bavail * bsize < ROOM_TO_START) throw new LifeboatError('TargetFull', `the disk of ${dbpath} is full`);
}

async function examine(mongod: RunningMongod, { dbpath, report }: ProofRequest): Promise<void> {
  const client = new MongoClient(mongod.uri, { serverSelectionTimeoutMS: 30_000 });
  try {
    await client.connect();
    // The head's own records, and the diary of this very start.
    await client.db('local').dropDatabase();
    await client.db('config').dropCollection('system.sessions');
    const names = await collectionsOf(client);
    const meter = new Meter('proof: validate', 'collections', names.length);
    for (const { db, name } of names) {
      const { valid } = await db.command({ validate: name });
      if (valid !== true) {
        throw new LifeboatError(
          'RestoreProofFailed',
          `collection ${db.databaseName}.${name} in ${dbpath} is not valid`,
        );
      }
      report(meter.add(1));
    }
  } finally {
    await client.close();
  }
}

async function collectionsOf(client: MongoClient): Promise<readonly { readonly db: Db; readonly name: string }[]> {
  const { databases } = await client.db('admin').admin().listDatabases({ nameOnly: true });
  const found: { db: Db; name: string }[] = [];
  for (const { name: database } of databases) {
    const db = client.db(database);
    const listed = await db.listCollections({ type: 'collection' }, { nameOnly: true }).toArray();
    found.push(...listed.map(({ name }) => ({ db, name })));
  }
  return found;
}
