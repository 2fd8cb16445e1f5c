/** Initial syncs of one source, side by side: ours, the floor, a pipe of mongodump and mongorestore, and mongod's own. */
import { join } from 'node:path';
import { BSON, type Binary, type Timestamp } from 'mongodb';
import { HeadSocket, succeeded } from '../../src/head/socket.ts';
import { privateSocketPath, startMongod } from '../../src/mongod/process.ts';
import { CollectionReader } from '../../src/source/collection-reader.ts';
import { ReadPace } from '../../src/source/read-pace.ts';
import { DATABASE } from '../data.ts';
import { runPipe, type Peers } from '../peers.ts';
import { DEPLOYMENT, watch, type Product } from '../product.ts';
import { CACHE_GIB, startServer, type Server } from '../servers.ts';

/** Seconds since the backup was started. */
export interface OurSync {
  readonly copied: number;
  readonly built: number;
  readonly validated: number;
  readonly routine: number;
}

/** What every measurement here is given. */
export interface SyncBench {
  readonly binary: string;
  /** A folder of this repeat, empty. */
  readonly folder: string;
  readonly source: Server;
  readonly peers: Peers;
}

/** Starts a backup of a product that is up, and watches its records until it is in routine operation. */
export async function ourSync(product: Product): Promise<OurSync> {
  const from = performance.now();
  const seconds = (): number => (performance.now() - from) / 1000;
  await product.run('backup', 'start', DEPLOYMENT);
  const copied = await watch(async () => ((await product.member())?.sync?.stop ? seconds() : undefined));
  const built = await watch(async () => {
    const stage = (await product.member())?.sync?.stage as string | undefined;
    return stage === 'built' || stage === 'validated' ? seconds() : undefined;
  });
  const validated = await watch(async () =>
    (await product.member())?.sync?.stage === 'validated' ? seconds() : undefined,
  );
  const routine = await watch(async () => {
    const record = await product.record('deployments', { _id: DEPLOYMENT });
    if (record?.['problem']) throw new Error(`the backup has a problem: ${String(record['problem'].code)}`);
    return record?.['phase'] === 'routine' ? seconds() : undefined;
  });
  return { copied, built, validated, routine };
}

/**
 * The least that any copy through a client takes: each collection read as raw bytes, inserted as they are while the next
 * reply is read, and its indexes built.
 * @returns seconds
 */
export async function floor({ binary, folder, source }: SyncBench): Promise<number> {
  const path = await privateSocketPath(folder);
  const mongod = await startMongod({
    binary,
    dbpath: join(folder, 'floor'),
    address: { socket: path },
    cacheGiB: CACHE_GIB,
    logPath: join(folder, 'floor.log'),
  });
  try {
    const socket = await HeadSocket.open(path);
    const from = performance.now();
    const db = source.client.db(DATABASE);
    const { lastWrite } = await source.client.db('admin').command({ hello: 1 });
    for (const info of await db.listCollections({ type: 'collection' }).toArray()) {
      const uuid = 'info' in info ? info.info?.uuid : undefined;
      if (uuid) await copyRaw(source, socket, info.name, uuid, (lastWrite as { opTime: { ts: Timestamp } }).opTime.ts);
    }
    const seconds = (performance.now() - from) / 1000;
    socket.close();
    return seconds;
  } finally {
    await mongod.stop();
  }
}

async function copyRaw(
  source: Server,
  socket: HeadSocket,
  name: string,
  uuid: Binary,
  afterClusterTime: Timestamp,
): Promise<void> {
  await using reader = await CollectionReader.open({
    client: source.client,
    db: DATABASE,
    uuid,
    after: null,
    afterClusterTime,
    pieceBytes: 10 * 1024 * 1024,
    pace: new ReadPace(),
    signal: new AbortController().signal,
  });
  let inserting = Promise.resolve();
  while (!reader.ended) {
    const { runs } = await reader.next();
    await inserting;
    inserting = insertRuns(socket, name, runs);
  }
  await inserting;
  const specs = await source.client.db(DATABASE).collection(name).listIndexes().toArray();
  const indexes = specs.filter((spec) => spec.name !== '_id_');
  if (indexes.length > 0) succeeded(await socket.command(DATABASE, { createIndexes: name, indexes }), 'indexes');
}

async function insertRuns(socket: HeadSocket, name: string, runs: readonly Buffer[]): Promise<void> {
  const command = Buffer.from(BSON.serialize({ insert: name, ordered: false }));
  // A run is documents one behind the other, which is what the message takes.
  for (const run of runs)
    succeeded(await socket.raw(DATABASE, command, { field: 'documents', documents: [run] }), 'insert');
}

/**
 * `mongodump --archive | mongorestore --archive` into a standalone, as a head is one.
 * @returns seconds, or undefined where one of them is not installed
 */
export async function dumpPipe(
  { binary, folder, source, peers }: SyncBench,
  workers: number,
): Promise<number | undefined> {
  const [dump, restore] = [peers.get('mongodump'), peers.get('mongorestore')];
  if (dump === undefined || restore === undefined) return undefined;
  await using target = await startServer({ binary, folder, name: `pipe${workers}` });
  return await runPipe(
    [dump, [`--uri=${source.uri}`, `--db=${DATABASE}`, '--archive', '--quiet']],
    [restore, [`--uri=${target.uri}`, '--archive', '--quiet', `--numInsertionWorkersPerCollection=${workers}`]],
  );
}

/**
 * A second member of the source's set, from nothing until it is a secondary; it is taken out again.
 * @returns seconds
 */
export async function ownInitialSync({ binary, folder, source }: SyncBench): Promise<number> {
  const replSet = 'src';
  await using target = await startServer({ binary, folder, name: 'second', replSet, initiate: false });
  const admin = source.client.db('admin');
  const { config } = (await admin.command({ replSetGetConfig: 1 })) as { config: SetConfig };
  const from = performance.now();
  const second = { _id: 1, host: target.host, votes: 0, priority: 0 };
  const grown = { ...config, version: config.version + 1, members: [...config.members, second] };
  await admin.command({ replSetReconfig: grown });
  await watch(async () => {
    const { members } = (await admin.command({ replSetGetStatus: 1 })) as { members: readonly { stateStr: string }[] };
    return members[1]?.stateStr === 'SECONDARY' ? true : undefined;
  });
  const seconds = (performance.now() - from) / 1000;
  await admin.command({ replSetReconfig: { ...config, version: grown.version + 1 } });
  return seconds;
}

interface SetConfig {
  readonly version: number;
  readonly members: readonly object[];
}
