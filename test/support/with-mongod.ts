/** A mongod that runs on a folder, such as a restored one, for as long as a test looks at it. */
import { MongoClient } from 'mongodb';
import { findBinary } from '../../src/embedded/binaries.ts';
import { startMongod, type RunningMongod } from '../../src/mongod/process.ts';
import { freePort } from './replica-set.ts';

export interface WithMongod {
  /** The mongod of the environment when left out. */
  readonly binary?: string;
  readonly replSet?: string;
  /** A free one when left out. */
  readonly port?: number;
}

/** Runs a mongod on a folder while `use` does, and kills it. Its log stands beside the folder. */
export async function withMongod<T>(
  dbpath: string,
  { binary, replSet, port }: WithMongod,
  use: (client: MongoClient, mongod: RunningMongod) => Promise<T>,
): Promise<T> {
  const mongod = await startMongod({
    binary: binary ?? (await findBinary('mongod')),
    dbpath,
    address: { port: port ?? (await freePort()) },
    cacheGiB: 0.25,
    logPath: `${dbpath}.log`,
    ...(replSet === undefined ? {} : { replSet }),
  });
  try {
    await using client = await MongoClient.connect(mongod.uri);
    return await use(client, mongod);
  } finally {
    mongod.kill('SIGKILL');
    await mongod.exited;
  }
}
