/** The demo's source: a one-member replica set on this machine, with a shop in it. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MongoClient } from 'mongodb';
import { startMongod, type RunningMongod } from '../mongod/process.ts';

export interface DemoSource {
  readonly uri: string;
  readonly client: MongoClient;
  readonly mongod: RunningMongod;
}

async function freePort(): Promise<number> {
  return new Promise((settle, fail) => {
    const server = createServer();
    server.once('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => settle(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Starts a replica set with a primary under `folder`. */
export async function startDemoSource(binary: string, folder: string): Promise<DemoSource> {
  const port = await freePort();
  const mongod = await startMongod({
    binary,
    dbpath: join(folder, 'source'),
    address: { port },
    cacheGiB: 0.5,
    logPath: join(folder, 'source.log'),
    replSet: 'shop',
    // The proof at the end reads the source as it was at the snapshot; the default keeps 300 s of history.
    setParameters: { minSnapshotHistoryWindowInSeconds: 3600 },
  });
  const direct = await MongoClient.connect(mongod.uri);
  const admin = direct.db('admin');
  await admin.command({ replSetInitiate: { _id: 'shop', members: [{ _id: 0, host: `127.0.0.1:${port}` }] } });
  while ((await admin.command({ hello: 1 }))['isWritablePrimary'] !== true) await delay(50);
  await direct.close();
  const uri = `mongodb://127.0.0.1:${port}/?replicaSet=shop`;
  return { uri, client: await MongoClient.connect(uri), mongod };
}
