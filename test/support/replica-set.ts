/** Real replica sets for tests, on free loopback ports, ended with the test that started them. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MongoClient } from 'mongodb';
import { findBinary } from '../../src/embedded/binaries.ts';
import { majorVersion, mongodVersion } from '../../src/mongod/binary.ts';
import { startMongod, type RunningMongod } from '../../src/mongod/process.ts';
import { testFolder } from './folders.ts';

export interface TestReplicaSet extends AsyncDisposable {
  readonly name: string;
  /** With `replicaSet`, no credentials. */
  readonly uri: string;
  readonly client: MongoClient;
  readonly members: readonly RunningMongod[];
  readonly folder: string;
  /** Starts a member again after it was stopped or killed, on its old port and dbpath; with other arguments if given. */
  restart(index: number, extraArgs?: readonly string[]): Promise<void>;
}

export interface ReplicaSetOptions {
  readonly name?: string;
  readonly members?: number;
  readonly binary?: string;
  readonly setParameters?: Readonly<Record<string, string | number | boolean>>;
  readonly extraArgs?: readonly string[];
  /** Initiates the set as the config servers of a cluster. */
  readonly configsvr?: boolean;
  readonly cacheGiB?: number;
}

/** Below the ports of outgoing connections and of the embedded servers: only other tests take one of these. */
const PORTS = { first: 10_000, count: 10_000 };

async function isFree(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const server = createServer();
    server.once('error', () => settle(false));
    server.listen(port, '127.0.0.1', () => server.close(() => settle(true)));
  });
}

/** A port that nobody has, drawn by lot, so that two tests that look at the same moment do not find the same. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.first + randomInt(PORTS.count);
    if (await isFree(port)) return port;
  }
}

/** Waits until `check` is true; the only way tests wait. */
export async function until(check: () => Promise<boolean> | boolean, what: string, timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`timed out waiting until ${what}`);
    await delay(50);
  }
}

/** Lets a source of version 4.4 remember for minutes what it was, as newer ones do: a proof looks back at it. */
async function historyOf(binary: string): Promise<Record<string, number>> {
  const isOld = majorVersion(await mongodVersion(binary)) === '4.4';
  return isOld ? { maxTargetSnapshotHistoryWindowInSeconds: 300 } : {};
}

/** A replica set with a primary that takes writes. */
export async function startReplicaSet(options: ReplicaSetOptions = {}): Promise<TestReplicaSet> {
  const name = options.name ?? 'rs0';
  const folder = await testFolder();
  const binary = options.binary ?? (await findBinary('mongod'));
  const setParameters = { ...(await historyOf(binary)), ...options.setParameters };
  const ports = await Promise.all(Array.from({ length: options.members ?? 1 }, freePort));
  const start = (port: number, extraArgs = options.extraArgs): Promise<RunningMongod> =>
    startMongod({
      binary,
      dbpath: join(folder.path, `m${port}`),
      address: { port },
      cacheGiB: options.cacheGiB ?? 0.25,
      logPath: join(folder.path, `m${port}.log`),
      replSet: name,
      setParameters,
      ...(extraArgs ? { extraArgs } : {}),
    });
  const members: RunningMongod[] = [];
  let client: MongoClient | undefined;
  const dispose = async (): Promise<void> => {
    await client?.close();
    // Nobody wants the data any more: a clean shutdown would only cost seconds.
    for (const member of members) member.kill('SIGKILL');
    await Promise.all(members.map((member) => member.exited));
    await folder[Symbol.asyncDispose]();
  };
  try {
    for (const port of ports) members.push(await start(port));
    const hosts = ports.map((port) => `127.0.0.1:${port}`);
    const first = await MongoClient.connect(`mongodb://${hosts[0]}/?directConnection=true`);
    await first.db('admin').command({
      replSetInitiate: {
        _id: name,
        ...(options.configsvr ? { configsvr: true } : {}),
        members: hosts.map((host, _id) => ({ _id, host, priority: _id === 0 ? 2 : 1 })),
      },
    });
    await until(
      async () => (await first.db('admin').command({ hello: 1 }))['isWritablePrimary'] === true,
      `${name} has a primary`,
    );
    await first.close();
    const uri = `mongodb://${hosts.join(',')}/?replicaSet=${name}`;
    client = await MongoClient.connect(uri);
    const connected = client;
    await until(async () => {
      const { members: states } = await connected.db('admin').command({ replSetGetStatus: 1 });
      return (states as { state: number }[]).every(({ state }) => state === 1 || state === 2);
    }, `every member of ${name} holds data`);
    return {
      name,
      uri,
      client,
      members,
      folder: folder.path,
      async restart(index, extraArgs) {
        await members[index]?.exited;
        members[index] = await start(ports[index] ?? 0, extraArgs);
      },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}
