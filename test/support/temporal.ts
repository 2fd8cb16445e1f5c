/** A real Temporal server for one test file: its own port, its state in memory, ended with the test. */
import { join } from 'node:path';
import { once } from 'node:events';
import { Client, Connection } from '@temporalio/client';
import { findBinary } from '../../src/embedded/binaries.ts';
import { NAMESPACE, startTemporalServer } from '../../src/embedded/temporal-server.ts';
import { testFolder } from './folders.ts';
import { freePort } from './replica-set.ts';

export interface TestTemporal extends AsyncDisposable {
  readonly address: string;
  readonly namespace: string;
  readonly client: Client;
  readonly pid: number;
  /** What a process needs in its environment to use this server. */
  readonly env: Readonly<Record<'TEMPORAL_ADDRESS' | 'TEMPORAL_NAMESPACE', string>>;
}

export interface TestTemporalOptions {
  /** Such as `{'limit.historyCount.suggestContinueAsNew': 20}`. */
  readonly dynamicConfig?: Readonly<Record<string, string | number | boolean>>;
}

/** A server with our search attributes, and a client on it. */
export async function startTestTemporal(options: TestTemporalOptions = {}): Promise<TestTemporal> {
  const folder = await testFolder();
  const server = await startTemporalServer({
    binary: await findBinary('temporal'),
    port: await freePort(),
    logPath: join(folder.path, 'temporal.log'),
    ...options,
  });
  const { address, pid, child } = server;
  const connection = await Connection.connect({ address });
  return {
    address,
    namespace: NAMESPACE,
    client: new Client({ connection, namespace: NAMESPACE }),
    pid,
    env: { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: NAMESPACE },
    async [Symbol.asyncDispose]() {
      await connection.close();
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit');
        child.ref();
        child.kill('SIGKILL');
        await ended;
      }
      await folder[Symbol.asyncDispose]();
    },
  };
}
