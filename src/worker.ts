/** The worker: this daemon's activities, and workflows. */
import { mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Runtime, Worker, type WorkerOptions as TemporalWorkerOptions } from '@temporalio/worker';
import { pino } from 'pino';
import { Daemon } from './activities/daemon.ts';
import { createDaemonActivities, createSharedActivities } from './activities/index.ts';
import { loadConfig } from './config/load.ts';
import type { Config } from './config/schema.ts';
import { SecretCommands } from './config/secret-command.ts';
import { configuredStores } from './config/uris.ts';
import { usablePort } from './embedded/ports.ts';
import { LifeboatError } from './shared/errors.ts';
import { TASK_QUEUE } from './shared/names.ts';
import type { StoreUris } from './stores/connect.ts';
import { temporalLogger } from './worker-logger.ts';
import { showMetrics, temporalMetrics } from './worker-metrics.ts';
import { Presence } from './worker-presence.ts';
import { connectWorker, requireSearchAttributes, type WorkerConnection } from './worker-temporal.ts';

export interface WorkerOptions {
  /** Without it the default one of the working directory, which need not be there. */
  readonly configFile?: string | undefined;
  /** Where `worker.json` is written, and where the data directory is when the configuration names none. */
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;
  /** Aborted to end the worker: it lets its activities stop, closes its heads cleanly, and returns. */
  readonly signal: AbortSignal;
}

/** `worker.json`: written once the worker polls, removed when it ends. */
export interface WorkerFile {
  readonly pid: number;
  readonly daemon: string;
  /** ISO 8601. */
  readonly readyAt: string;
}

/** How often a worker gives its file a new time, in milliseconds. */
const WORKER_BEAT_MS = 1_000;

export function workerFile(home: string): string {
  return join(home, 'worker.json');
}

/** Every backup keeps up to five activities running, a snapshot or a restore two: room for some fifty deployments. */
const MAX_DAEMON_ACTIVITIES = 256;
/** Cached workflows share one heap. */
const MAX_CACHED_WORKFLOWS = 200;

const timing = {
  // A cancelled activity is told with its next heartbeat: at 2 s a pause takes effect in about that time.
  maxHeartbeatThrottleInterval: '2 seconds',
  defaultHeartbeatThrottleInterval: '2 seconds',
  // The default of 0 gives a short activity no time to end by itself.
  shutdownGraceTime: '2 seconds',
  shutdownForceTime: '60 seconds',
} as const satisfies Partial<TemporalWorkerOptions>;

/**
 * Runs until `signal` is aborted. Once in a process: the SDK's runtime is the process's.
 * @throws LifeboatError `TemporalUnavailable`, `SearchAttributesMissing`, `DaemonLocked`, `DaemonIdTaken`, `MetricsPortTaken`, what the configuration is
 *   refused with, and what a store refuses. Later outages of Temporal, stores and sources are ridden out.
 */
export async function runWorker({ configFile, home, env, signal }: WorkerOptions): Promise<void> {
  const logger = pino({ level: env['LIFEBOAT_LOG_LEVEL'] ?? 'info' }, pino.destination({ dest: 2, sync: true }));
  const { metricsListen } = (await loadConfig({ file: configFile })).daemon;
  const temporalPort = metricsListen === null ? undefined : await usablePort(undefined);
  Runtime.install({
    logger: temporalLogger(logger),
    // Whoever runs the worker decides what ends it.
    shutdownSignals: [],
    telemetryOptions: {
      logging: { filter: { core: 'WARN', other: 'ERROR' }, forward: {} },
      ...(temporalPort === undefined ? {} : { metrics: temporalMetrics(temporalPort) }),
    },
  });
  const commands = new SecretCommands(env);
  const storeUris = (config: Config): Promise<StoreUris> => storesOf(config, env, commands);
  const daemon = await Daemon.open({ configFile, home, env, logger, commands, storeUris });
  try {
    await using shown = new AsyncDisposableStack();
    if (metricsListen !== null && temporalPort !== undefined) {
      shown.use(await showMetrics(daemon, metricsListen, temporalPort));
    }
    const temporal = await connectWorker(env);
    try {
      await requireSearchAttributes(temporal);
      await serve(daemon, temporal, home, signal);
    } finally {
      await temporal.connection.close();
    }
  } finally {
    await daemon.close();
  }
}

async function serve(daemon: Daemon, temporal: WorkerConnection, home: string, signal: AbortSignal): Promise<void> {
  const presence = new Presence(daemon);
  await presence.begin();
  const workers = await createWorkers(daemon, temporal);
  const ended = new AbortController();
  const stopping = AbortSignal.any([signal, ended.signal]);
  const shutDown = (): void => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  // When one ends, for whatever reason, the other has no use.
  const running = workers.map((worker) => worker.run().finally(() => ended.abort()));
  stopping.addEventListener('abort', shutDown, { once: true });
  if (stopping.aborted) shutDown();
  const present = presence.keep(stopping);
  let beating: NodeJS.Timeout | undefined;
  try {
    await writeWorkerFile(home, daemon.id);
    beating = setInterval(() => void beat(home), WORKER_BEAT_MS);
    daemon.logger.info(
      { taskQueues: [TASK_QUEUE, daemon.taskQueue], namespace: temporal.namespace },
      'the worker runs',
    );
    // The presence lasts as long as they do, unless another worker has taken the id: its work is no longer this one's.
    await Promise.all([...running, present]);
  } finally {
    ended.abort();
    await Promise.allSettled([...running, present]);
    clearInterval(beating);
    await rm(workerFile(home), { force: true });
    daemon.logger.info('the worker has ended');
  }
}

/** One for the shared queue, with the workflows; one for the queue of this daemon. */
async function createWorkers(daemon: Daemon, { connection, namespace }: WorkerConnection): Promise<Worker[]> {
  const common = { ...timing, connection, namespace, identity: `${daemon.id}@${hostname()}:${process.pid}` };
  return Promise.all([
    Worker.create({
      ...common,
      ...workflowCode(),
      taskQueue: TASK_QUEUE,
      activities: createSharedActivities(daemon),
      maxCachedWorkflows: MAX_CACHED_WORKFLOWS,
    }),
    Worker.create({
      ...common,
      taskQueue: daemon.taskQueue,
      activities: createDaemonActivities(daemon),
      maxConcurrentActivityTaskExecutions: MAX_DAEMON_ACTIVITIES,
    }),
  ]);
}

/** Compiled code runs the bundle that was made with it; sources are bundled at the start. */
function workflowCode(): Pick<TemporalWorkerOptions, 'workflowBundle' | 'workflowsPath'> {
  const here = import.meta.url;
  return here.endsWith('.ts')
    ? { workflowsPath: fileURLToPath(new URL('./workflows/index.ts', here)) }
    : { workflowBundle: { codePath: fileURLToPath(new URL('./workflow-bundle.js', here)) } };
}

async function storesOf(config: Config, env: NodeJS.ProcessEnv, commands: SecretCommands): Promise<StoreUris> {
  const { blockstore = env['LIFEBOAT_BLOCKSTORE_URI'], ...others } = await configuredStores(config, env, commands);
  if (blockstore !== undefined && blockstore !== '') return { blockstore, ...others };
  throw new LifeboatError('ConfigInvalid', `${config.file} names no blockstore, and no embedded one is given`);
}

/** A worker that is stopped, or hangs, leaves its file as it is: `up` tells by that. */
async function beat(home: string): Promise<void> {
  const now = new Date();
  await utimes(workerFile(home), now, now).catch(() => undefined);
}

async function writeWorkerFile(home: string, daemon: string): Promise<void> {
  const content: WorkerFile = { pid: process.pid, daemon, readyAt: new Date().toISOString() };
  const file = workerFile(home);
  await mkdir(home, { recursive: true });
  await writeFile(`${file}.new`, `${JSON.stringify(content)}\n`);
  await rename(`${file}.new`, file);
}
