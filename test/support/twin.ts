/** A copy of a replica set's member that Lifeboat had no hand in: its files, taken under a lock, started alone. */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { findBinary } from '../../src/embedded/binaries.ts';
import { fromTimestamp } from '../../src/mongo/positions.ts';
import { startMongod, type RunningMongod } from '../../src/mongod/process.ts';
import type { Optime } from '../../src/shared/optime.ts';
import { testFolder } from './folders.ts';
import { freePort, type TestReplicaSet } from './replica-set.ts';

export interface Twin extends AsyncDisposable {
  readonly client: MongoClient;
  readonly mongod: RunningMongod;
  /** It equals the source at this optime. */
  readonly at: Optime;
}

/** Copies the one member of a replica set; writers wait meanwhile. */
export async function startTwin(source: TestReplicaSet): Promise<Twin> {
  const folder = await testFolder();
  const dbpath = join(folder.path, 'twin');
  const admin = source.client.db('admin');
  await admin.command({ fsync: 1, lock: true });
  try {
    const port = new URL(source.uri.replace('mongodb:', 'http:')).port;
    await cp(join(source.folder, `m${port}`), dbpath, { recursive: true });
  } finally {
    await admin.command({ fsyncUnlock: 1 });
  }
  const start = async (setParameters: Record<string, boolean>): Promise<RunningMongod> =>
    startMongod({
      binary: await findBinary('mongod'),
      dbpath,
      address: { port: await freePort() },
      cacheGiB: 0.25,
      logPath: join(folder.path, 'twin.log'),
      setParameters: { ttlMonitorEnabled: false, disableLogicalSessionCacheRefresh: true, ...setParameters },
    });
  // The files hold the last checkpoint; what came behind it is in the oplog alone.
  const recovering = await start({ recoverFromOplogAsStandalone: true, takeUnstableCheckpointOnShutdown: true });
  await recovering.stop();
  const mongod = await start({});
  const client = await MongoClient.connect(mongod.uri);
  // Not the source's newest: recovery takes off entries that had, for all it knows, unwritten ones before them.
  const newest = await client
    .db('local')
    .collection('oplog.rs')
    .findOne({}, { sort: { $natural: -1 } });
  const at = fromTimestamp(newest?.['ts']);
  return {
    client,
    mongod,
    at,
    async [Symbol.asyncDispose]() {
      await client.close();
      mongod.kill('SIGKILL');
      await mongod.exited;
      await folder[Symbol.asyncDispose]();
    },
  };
}
