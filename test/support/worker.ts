/** Worker processes for tests: started, killed, started again. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { workerFile, type WorkerFile } from '../../src/worker.ts';
import { endProcess, findProcesses, hasFlag } from '../../src/host/processes.ts';
import { mongodOn } from '../../src/mongod/process.ts';
import { until } from './replica-set.ts';

const MAIN = fileURLToPath(new URL('./worker-main.ts', import.meta.url));

export interface WorkerSetting {
  readonly configFile: string;
  readonly home: string;
  /** Beside what a process needs anyway; nothing of TEMPORAL_* or LIFEBOAT_* is inherited but the binaries. */
  readonly env: Readonly<Record<string, string>>;
}

export interface WorkerProcess extends AsyncDisposable {
  readonly daemon: string;
  readonly pid: number;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGTERM; the exit code. */
  end(): Promise<number | null>;
}

function cleanEnv(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) =>
      !/^(TEMPORAL_|LIFEBOAT_)/.test(name) || ['LIFEBOAT_MONGOD', 'LIFEBOAT_TEMPORAL', 'LIFEBOAT_CACHE'].includes(name),
  );
  return Object.fromEntries(kept);
}

export function workerLog(home: string): string {
  return join(home, 'worker.log');
}

/** Starts a worker without waiting for it. Its log is added to `worker.log` of its home. */
export function spawnWorker({ configFile, home, env }: WorkerSetting): ChildProcess {
  const log = openSync(workerLog(home), 'a');
  const child = spawn(process.execPath, [MAIN, configFile, home], {
    env: { ...cleanEnv(), ...env },
    stdio: ['ignore', 'ignore', log],
  });
  closeSync(log);
  return child;
}

/** Starts a worker and waits until it polls. */
export async function startWorker(setting: WorkerSetting): Promise<WorkerProcess> {
  const { home } = setting;
  const child = spawnWorker(setting);
  const exited = once(child, 'exit');
  const isReady = async (): Promise<boolean> => {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`the worker ended at its start: ${await readFile(workerLog(home), 'utf8')}`);
    }
    if (!existsSync(workerFile(home))) return false;
    return (JSON.parse(await readFile(workerFile(home), 'utf8')) as WorkerFile).pid === child.pid;
  };
  await until(isReady, 'the worker polls', 60_000);
  const { daemon, pid } = JSON.parse(await readFile(workerFile(home), 'utf8')) as WorkerFile;
  const send = async (signal: NodeJS.Signals): Promise<number | null> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await exited;
    }
    return child.exitCode;
  };
  return {
    daemon,
    pid,
    kill: async () => void (await send('SIGKILL')),
    end: () => send('SIGTERM'),
    [Symbol.asyncDispose]: async () => void (await send('SIGKILL')),
  };
}

/** The dbpath of a head. */
export function headPath(home: string, deployment: string, member: string): string {
  return join(home, 'daemon', 'heads', deployment, member, 'db');
}

/** Ends the head that a killed worker left. One that was only just started has not written its lock file yet. */
export async function endHead(home: string, deployment: string, member: string): Promise<void> {
  const dbpath = headPath(home, deployment, member);
  for (const head of await findProcesses((words) => hasFlag(words, '--dbpath', dbpath))) await endProcess(head, 5_000);
}

/** A connection string of the head's mongod, from that process's own command line. */
export async function headUri(home: string, deployment: string, member: string): Promise<string> {
  const pid = await mongodOn(headPath(home, deployment, member));
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
  return `mongodb://${encodeURIComponent(words[words.indexOf('--bind_ip') + 1] ?? '')}/?directConnection=true`;
}
