/** The development server of the Temporal CLI: one process with its state in one SQLite file. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { LifeboatError } from '../shared/errors.ts';
import { SearchAttribute } from '../shared/names.ts';

export const NAMESPACE = 'default';

export interface TemporalServerOptions {
  readonly binary: string;
  readonly port: number;
  /** The web UI's; undefined for none. */
  readonly uiPort?: number | undefined;
  /** Where its state is kept; undefined: in memory, lost at its end. */
  readonly dbFile?: string | undefined;
  readonly logPath: string;
  /** The server's dynamic configuration, such as `limit.historyCount.suggestContinueAsNew: 20`. */
  readonly dynamicConfig?: Readonly<Record<string, string | number | boolean>>;
}

export interface TemporalServer {
  readonly pid: number;
  readonly address: string;
  readonly child: ChildProcess;
}

/** How long finished workflows can be looked at: the server's own default is one day. */
const RETENTION = '30 days';

/** How long a start may take: a large state file is opened and checked first. */
const START_TIMEOUT_MS = 120_000;

function argumentsOf(options: TemporalServerOptions): string[] {
  const dynamic = Object.entries(options.dynamicConfig ?? {});
  return [
    ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(options.port)],
    ...(options.uiPort === undefined ? ['--headless'] : ['--ui-port', String(options.uiPort)]),
    ...(options.dbFile === undefined ? [] : ['--db-filename', options.dbFile]),
    ...['--log-level', 'warn', '--log-format', 'json'],
    ...Object.values(SearchAttribute).flatMap((name) => ['--search-attribute', `${name}=Keyword`]),
    ...dynamic.flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${JSON.stringify(value)}`]),
  ];
}

/** Our own servers are told everything on their command line: a person's Temporal settings are for another one. */
function withoutTemporal(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_')));
}

/**
 * Starts a server and waits until its namespace answers and knows the search attributes.
 * It outlives this process; whoever starts it ends it.
 * @throws LifeboatError `EmbeddedFailed` when it ends before that or does not answer, naming its log
 */
export async function startTemporalServer(options: TemporalServerOptions): Promise<TemporalServer> {
  const log = openSync(options.logPath, 'a', 0o600);
  const child = spawn(options.binary, argumentsOf(options), {
    detached: true,
    stdio: ['ignore', log, log],
    env: withoutTemporal(process.env),
  });
  closeSync(log);
  child.unref();
  // Told by the missing process id; an error that nobody listens to would end us.
  child.once('error', () => undefined);
  const { pid } = child;
  const address = `127.0.0.1:${options.port}`;
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    if (pid !== undefined && (await isReady(address))) return { pid, address, child };
    if (pid === undefined || child.exitCode !== null || child.signalCode !== null) {
      throw new LifeboatError(
        'EmbeddedFailed',
        `the Temporal server ended at its start; its log is ${options.logPath}`,
      );
    }
    if (Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new LifeboatError('EmbeddedFailed', `the Temporal server does not answer; its log is ${options.logPath}`);
    }
    await delay(50);
  }
}

/** True when a Temporal server answers there whose namespace is ready to work in; its retention is raised. */
export async function isReady(address: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: 2_000 }).catch(() => undefined);
  if (connection === undefined) return false;
  try {
    return await connection.withDeadline(Date.now() + 5_000, async () => {
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: NAMESPACE });
      if (!Object.values(SearchAttribute).every((name) => name in customAttributes)) return false;
      await connection.workflowService.updateNamespace({
        namespace: NAMESPACE,
        config: { workflowExecutionRetentionTtl: msToTs(RETENTION) },
      });
      return true;
    });
  } catch {
    // Not yet: the namespace and its attributes are made after the port is opened.
    return false;
  } finally {
    await connection.close();
  }
}
