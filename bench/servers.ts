/** The servers that are measured with: each a real mongod on this machine, in a folder of the run. */
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { startMongod, type RunningMongod } from '../src/mongod/process.ts';
import { freePort, until } from '../test/support/replica-set.ts';

export interface Server extends AsyncDisposable {
  readonly uri: string;
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly client: MongoClient;
  readonly dbpath: string;
  readonly mongod: RunningMongod;
}

/** Every mongod gets the same, whoever is measured. */
export const CACHE_GIB = 1;

/** A standalone, or a set of one member that was initiated. */
export async function startServer(options: {
  readonly binary: string;
  readonly folder: string;
  readonly name: string;
  readonly replSet?: string;
  readonly initiate?: boolean;
}): Promise<Server> {
  const { binary, folder, name, replSet, initiate = true } = options;
  const port = await freePort();
  const dbpath = join(folder, name);
  const mongod = await startMongod({
    binary,
    dbpath,
    address: { port },
    cacheGiB: CACHE_GIB,
    logPath: join(folder, `${name}.log`),
    ...(replSet === undefined ? {} : { replSet, extraArgs: ['--oplogSize', '4096'] }),
    setParameters: { diagnosticDataCollectionEnabled: false },
  });
  const client = await MongoClient.connect(mongod.uri);
  const host = `127.0.0.1:${port}`;
  if (replSet !== undefined && initiate) {
    const admin = client.db('admin');
    await admin.command({ replSetInitiate: { _id: replSet, members: [{ _id: 0, host }] } });
    await until(async () => (await admin.command({ hello: 1 }))['isWritablePrimary'] === true, `${name} is primary`);
  }
  return {
    uri: mongod.uri,
    host,
    client,
    dbpath,
    mongod,
    async [Symbol.asyncDispose]() {
      await client.close();
      mongod.kill('SIGKILL');
      await mongod.exited;
    },
  };
}
