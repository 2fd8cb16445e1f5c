/** The embedded blockstore: a replica set of one mongod on the loopback interface. */
import { setTimeout as delay } from 'node:timers/promises';
import { MongoClient, MongoServerError, type Document } from 'mongodb';
import { startMongod } from '../mongod/process.ts';
import { LifeboatError } from '../shared/errors.ts';

const SET_NAME = 'lifeboat';
const CACHE_GIB = 0.5;

/** Its oplog is followed by nobody: the least that a mongod takes, instead of a twentieth of the free disk, in MB. */
const OPLOG_MB = 990;

const PRIMARY_TIMEOUT_MS = 120_000;

const NOT_YET_INITIALIZED = 94;

export interface BlockstoreOptions {
  readonly binary: string;
  readonly port: number;
  readonly dbpath: string;
  readonly logPath: string;
}

export function blockstoreUri(port: number): string {
  return `mongodb://127.0.0.1:${port}/?replicaSet=${SET_NAME}`;
}

/**
 * Starts the mongod and waits until it is primary. It outlives this process; whoever starts it ends it.
 * @throws LifeboatError `EmbeddedFailed`, naming its log
 */
export async function startBlockstore(options: BlockstoreOptions): Promise<void> {
  const { binary, port, dbpath, logPath } = options;
  try {
    await startMongod({
      binary,
      dbpath,
      address: { port },
      cacheGiB: CACHE_GIB,
      logPath,
      replSet: SET_NAME,
      setParameters: {
        diagnosticDataCollectionEnabled: false,
        // A set of one has nobody to hand over to: nothing is gained by waiting at the shutdown.
        shutdownTimeoutMillisForSignaledShutdown: 100,
      },
      extraArgs: ['--oplogSize', String(OPLOG_MB)],
    });
  } catch (error) {
    throw new LifeboatError('EmbeddedFailed', `the blockstore's mongod ended at its start; its log is ${logPath}`, {
      cause: error,
    });
  }
  await becomePrimary(port, logPath);
}

/** Makes the running mongod primary of its set, under the address that it has now; does nothing when it is. */
export async function becomePrimary(port: number, logPath: string): Promise<void> {
  const client = new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`, {
    serverSelectionTimeoutMS: 5_000,
  });
  const deadline = Date.now() + PRIMARY_TIMEOUT_MS;
  try {
    for (;;) {
      if (await step(client, `127.0.0.1:${port}`).catch(() => false)) return;
      if (Date.now() > deadline) {
        throw new LifeboatError('EmbeddedFailed', `the blockstore does not become primary; its log is ${logPath}`);
      }
      await delay(50);
    }
  } finally {
    await client.close();
  }
}

async function step(client: MongoClient, host: string): Promise<boolean> {
  const admin = client.db('admin');
  const hello = await admin.command({ hello: 1 });
  if (hello['isWritablePrimary'] === true) return hello['me'] === host;
  const config = await configuration(client);
  if (config === undefined) {
    await admin.command({ replSetInitiate: { _id: SET_NAME, members: [{ _id: 0, host }] } });
  } else if ((config['members'] as Document[])[0]?.['host'] !== host) {
    // It had another port: the set must be told, and a member that does not find itself in it obeys only by force.
    const moved = { ...config, version: Number(config['version']) + 1, members: [{ _id: 0, host }] };
    await admin.command({ replSetReconfig: moved, force: true });
  }
  return false;
}

async function configuration(client: MongoClient): Promise<Document | undefined> {
  try {
    const { config } = await client.db('admin').command({ replSetGetConfig: 1 });
    return config as Document;
  } catch (error) {
    if (error instanceof MongoServerError && error.code === NOT_YET_INITIALIZED) return undefined;
    throw error;
  }
}
