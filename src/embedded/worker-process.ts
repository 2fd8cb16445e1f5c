/** The worker that `up` runs: the launcher's `worker` in a process of its own. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile, rm, stat } from 'node:fs/promises';
import { devNull } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { commandLineOf } from '../host/processes.ts';
import { LifeboatError } from '../shared/errors.ts';

const LAUNCHER = fileURLToPath(new URL('../../bin/lifeboat.mjs', import.meta.url));

/** How long a worker may take until it polls: from sources it bundles the workflows first. */
const READY_TIMEOUT_MS = 120_000;

export interface WorkerProcessOptions {
  readonly home: string;
  readonly configFile?: string | undefined;
  readonly logPath: string;
  readonly temporal: { readonly address: string; readonly namespace: string };
  readonly blockstoreUri: string;
  readonly env: NodeJS.ProcessEnv;
}

/** `worker.json`: written by a worker once it polls, removed when it ends. */
interface WorkerFile {
  readonly pid: number;
}

/** True for the command line of the worker of `home`. */
export function isWorkerOf(home: string, words: readonly string[]): boolean {
  const at = words.indexOf('worker');
  return (
    at > 0 && words[at + 1] === '--home' && words[at + 2] === home && words[at - 1]?.endsWith('lifeboat.mjs') === true
  );
}

function environmentFor({ env, temporal, blockstoreUri }: WorkerProcessOptions): NodeJS.ProcessEnv {
  // A person's own Temporal, its keys and its profiles are for another server than the embedded one.
  const kept = Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_'));
  return {
    ...Object.fromEntries(kept),
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    TEMPORAL_CONFIG_FILE: devNull,
    LIFEBOAT_BLOCKSTORE_URI: blockstoreUri,
  };
}

/**
 * Starts a worker and waits until it polls. It outlives this process.
 * @returns its process id
 * @throws LifeboatError `EmbeddedFailed` when it ends before that or is not ready in time, naming its log
 */
export async function startWorker(options: WorkerProcessOptions): Promise<number> {
  const file = join(options.home, 'worker.json');
  // One that was killed left it there.
  await rm(file, { force: true });
  const config = options.configFile === undefined ? [] : ['--config', options.configFile];
  const log = openSync(options.logPath, 'a', 0o600);
  const child = spawn(process.execPath, [LAUNCHER, 'worker', '--home', options.home, ...config], {
    detached: true,
    stdio: ['ignore', log, log],
    env: environmentFor(options),
  });
  closeSync(log);
  child.unref();
  // Told by the missing process id; an error that nobody listens to would end us.
  child.once('error', () => undefined);
  const { pid } = child;
  const deadline = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    if (pid !== undefined && (await readyPid(file)) === pid) return pid;
    if (pid === undefined || child.exitCode !== null || child.signalCode !== null) {
      throw new LifeboatError('EmbeddedFailed', `the worker ended at its start; its log is ${options.logPath}`);
    }
    if (Date.now() > deadline) {
      child.kill('SIGTERM');
      throw new LifeboatError('EmbeddedFailed', `the worker is not ready; its log is ${options.logPath}`);
    }
    await delay(50);
  }
}

async function readyPid(file: string): Promise<number | undefined> {
  try {
    return (JSON.parse(await readFile(file, 'utf8')) as WorkerFile).pid;
  } catch {
    return undefined;
  }
}

/** A worker gives its file a new time every second; one that is busy may be late, in milliseconds. */
const ANSWER_TIMEOUT_MS = 20_000;

/**
 * Waits until a worker that runs already polls and gives a sign of life; false when it has ended, or gives none: a process
 * that was stopped, or hangs, is there all the same.
 */
export async function workerAnswers(home: string, pid: number): Promise<boolean> {
  const file = join(home, 'worker.json');
  const pollsBy = Date.now() + READY_TIMEOUT_MS;
  while ((await readyPid(file)) !== pid) {
    if ((await commandLineOf(pid)) === undefined || Date.now() > pollsBy) return false;
    await delay(50);
  }
  const seen = await timeOf(file);
  const answersBy = Date.now() + ANSWER_TIMEOUT_MS;
  while ((await timeOf(file)) === seen) {
    if (Date.now() > answersBy) return false;
    await delay(50);
  }
  return (await readyPid(file)) === pid;
}

async function timeOf(file: string): Promise<bigint | undefined> {
  return stat(file, { bigint: true }).then(
    ({ mtimeNs }) => mtimeNs,
    () => undefined,
  );
}
