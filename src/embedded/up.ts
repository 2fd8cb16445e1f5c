/**
 * The embedded servers of one home: Temporal, a blockstore and a worker, each a process of its own that outlives
 * whoever started it.
 *
 * What runs is read from the machine's processes, never from a stored process id: so it holds after a kill, a reboot,
 * or an `up` that died in the middle. Only the ports are kept, in `up.json`.
 */
import { mkdir, readFile, realpath, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { tryFileLock } from '../host/file-lock.ts';
import { endProcess, findProcesses, flagValue, hasFlag, type FoundProcess } from '../host/processes.ts';
import { RESTORE_DBPATHS } from '../restore/target.ts';
import { LifeboatError } from '../shared/errors.ts';
import { findBinary } from './binaries.ts';
import { becomePrimary, blockstoreUri, startBlockstore } from './blockstore-set.ts';
import { usablePort } from './ports.ts';
import { isReady, NAMESPACE, startTemporalServer } from './temporal-server.ts';
import { isWorkerOf, startWorker, workerAnswers } from './worker-process.ts';

export interface UpState {
  readonly temporal: { readonly address: string; readonly namespace: string; readonly ui: string };
  readonly blockstore: { readonly uri: string };
  /** null when none was asked for, or it has ended. */
  readonly worker: { readonly pid: number } | null;
  /** Absolute, without symbolic links. */
  readonly home: string;
}

export interface UpOptions {
  /** The configuration file that the worker reads; the default one when left out. */
  readonly configFile?: string | undefined;
  /** false: servers only. */
  readonly worker?: boolean;
  /** What the worker gets, without `TEMPORAL_*`: URIs and passwords that the configuration refers to. */
  readonly env?: NodeJS.ProcessEnv;
}

interface Ports {
  readonly temporal: number;
  readonly ui: number;
  readonly blockstore: number;
}

interface Running {
  readonly temporal: FoundProcess | undefined;
  readonly blockstore: FoundProcess | undefined;
  readonly worker: FoundProcess | undefined;
  /** Every mongod in the home but the blockstore's: heads, and those that prove a restore. */
  readonly mongods: readonly FoundProcess[];
}

/** How long `up` and `down` wait for one another, in milliseconds. */
const LOCK_TIMEOUT_MS = 300_000;

/** A worker lets its activities end and closes its heads. */
const WORKER_GRACE_MS = 90_000;
const SERVER_GRACE_MS = 60_000;
/** One that does not answer. */
const SILENT_GRACE_MS = 5_000;

const paths = (home: string) =>
  ({
    ports: join(home, 'up.json'),
    lock: join(home, 'up.lock'),
    temporalDb: join(home, 'temporal.db'),
    blockstore: join(home, 'blockstore'),
    /** Of the worker's dataDir, where the configuration names no other. */
    heads: join(home, 'daemon', 'heads'),
    log: (name: string) => join(home, 'logs', `${name}.log`),
  }) as const;

/**
 * Starts what does not run of the embedded servers of `home` and waits until all answer. Two at once are one.
 * @throws LifeboatError `BinaryMissing`, or `EmbeddedFailed` naming the log of what did not start; what runs by then
 *   goes on running
 */
export async function up(homePath: string, options: UpOptions = {}): Promise<UpState> {
  await mkdir(homePath, { recursive: true, mode: 0o700 });
  const home = await realpath(homePath);
  await mkdir(join(home, 'logs'), { recursive: true });
  return locked(home, async () => {
    let running = await look(home);
    const kept = await readPorts(home);
    const ports = await choosePorts(kept, running);
    if (running.worker && JSON.stringify(kept) !== JSON.stringify(ports)) {
      // It was told the addresses at its start; ended before the new ones are kept, so that no later `up` takes it on.
      await endProcess(running.worker, WORKER_GRACE_MS);
      running = { ...running, worker: undefined };
    }
    await keepPorts(home, ports);
    await Promise.all([ensureTemporal(home, ports, running), ensureBlockstore(home, ports, running)]);
    const state = stateOf(home, ports, null);
    if (options.worker === false) return state;
    return { ...state, worker: { pid: await ensureWorker(state, running, options) } };
  });
}

/**
 * Ends the worker, the mongods it left, Temporal and the blockstore of `home`, in this order. Data is kept.
 * @returns what was ended; nothing when nothing ran
 */
export async function down(homePath: string): Promise<{ readonly ended: readonly string[] }> {
  const home = await realpath(homePath).catch(() => undefined);
  if (home === undefined) return { ended: [] };
  return locked(home, async () => {
    const ended: string[] = [];
    const end = async (name: string, found: FoundProcess | undefined, graceMs: number): Promise<void> => {
      if (found === undefined) return;
      await endProcess(found, graceMs);
      ended.push(name);
    };
    await end('worker', (await look(home)).worker, WORKER_GRACE_MS);
    // Looked for again: the worker has closed its heads, and a killed one has not.
    const left = await look(home);
    await Promise.all(left.mongods.map((mongod) => end('mongod', mongod, SERVER_GRACE_MS)));
    await end('temporal', left.temporal, SERVER_GRACE_MS);
    await end('blockstore', left.blockstore, SERVER_GRACE_MS);
    return { ended };
  });
}

/** What runs in `home`; undefined unless both Temporal and the blockstore do. Makes no connection. */
export async function readUp(homePath: string): Promise<UpState | undefined> {
  const home = await realpath(homePath).catch(() => undefined);
  if (home === undefined) return undefined;
  const ports = await readPorts(home);
  if (ports === undefined) return undefined;
  const { temporal, blockstore, worker } = await look(home);
  if (!temporal || !blockstore) return undefined;
  return stateOf(home, ports, worker ? { pid: worker.pid } : null);
}

/** Where the blockstore of `home` is to be found, and whether it runs; undefined when nothing of `up` runs there. */
export async function findBlockstore(
  homePath: string,
): Promise<{ readonly uri: string; readonly runs: boolean } | undefined> {
  const home = await realpath(homePath).catch(() => undefined);
  const ports = home === undefined ? undefined : await readPorts(home);
  if (home === undefined || ports === undefined) return undefined;
  const { temporal, blockstore, worker } = await look(home);
  if (!temporal && !blockstore && !worker) return undefined;
  return { uri: blockstoreUri(ports.blockstore), runs: blockstore !== undefined };
}

function stateOf(home: string, ports: Ports, worker: UpState['worker']): UpState {
  return {
    temporal: {
      address: `127.0.0.1:${ports.temporal}`,
      namespace: NAMESPACE,
      ui: `http://127.0.0.1:${ports.ui}`,
    },
    blockstore: { uri: blockstoreUri(ports.blockstore) },
    worker,
    home,
  };
}

async function locked<T>(home: string, body: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    const release = tryFileLock(paths(home).lock);
    if (release) {
      try {
        return await body();
      } finally {
        release();
      }
    }
    if (Date.now() > deadline) throw new LifeboatError('EmbeddedFailed', `another up or down of ${home} does not end`);
    await delay(100);
  }
}

async function look(home: string): Promise<Running> {
  const { temporalDb, blockstore, heads } = paths(home);
  const isTemporal = (words: readonly string[]): boolean => hasFlag(words, '--db-filename', temporalDb);
  // A person may run a mongod of their own below the home, on what they restored there: that one is left alone.
  const isMongod = (words: readonly string[]): boolean => {
    const dbpath = flagValue(words, '--dbpath') ?? '';
    const isProver = dbpath.startsWith(`${home}/`) && RESTORE_DBPATHS.includes(basename(dbpath));
    return dbpath === blockstore || dbpath.startsWith(`${heads}/`) || isProver;
  };
  const found = await findProcesses((words) => isTemporal(words) || isMongod(words) || isWorkerOf(home, words));
  const mongods = found.filter(({ words }) => isMongod(words));
  return {
    temporal: found.find(({ words }) => isTemporal(words)),
    worker: found.find(({ words }) => isWorkerOf(home, words)),
    blockstore: mongods.find(({ words }) => hasFlag(words, '--dbpath', blockstore)),
    mongods: mongods.filter(({ words }) => !hasFlag(words, '--dbpath', blockstore)),
  };
}

async function readPorts(home: string): Promise<Ports | undefined> {
  try {
    const { temporal, ui, blockstore } = JSON.parse(await readFile(paths(home).ports, 'utf8')) as Partial<Ports>;
    return temporal && ui && blockstore ? { temporal, ui, blockstore } : undefined;
  } catch {
    return undefined;
  }
}

/** The ports of what runs are those of its command line; of what is to be started, the kept ones while nobody has them. */
async function choosePorts(kept: Ports | undefined, running: Running): Promise<Ports> {
  const portOf = (process: FoundProcess | undefined, flag: string): number | undefined => {
    const text = process && flagValue(process.words, flag);
    return text === undefined ? undefined : Number(text);
  };
  const temporal = portOf(running.temporal, '--port') ?? (await usablePort(kept?.temporal));
  const ui = portOf(running.temporal, '--ui-port') ?? (await usablePort(kept?.ui, [temporal]));
  const blockstore = portOf(running.blockstore, '--port') ?? (await usablePort(kept?.blockstore, [temporal, ui]));
  return { temporal, ui, blockstore };
}

async function keepPorts(home: string, ports: Ports): Promise<void> {
  const file = paths(home).ports;
  await writeFile(`${file}.new`, `${JSON.stringify(ports)}\n`);
  await rename(`${file}.new`, file);
}

async function ensureTemporal(home: string, ports: Ports, { temporal }: Running): Promise<void> {
  const { temporalDb, log } = paths(home);
  if (temporal) {
    if (await answers(`127.0.0.1:${ports.temporal}`)) return;
    await endProcess(temporal, SERVER_GRACE_MS);
  }
  await startTemporalServer({
    binary: await findBinary('temporal'),
    port: ports.temporal,
    uiPort: ports.ui,
    dbFile: temporalDb,
    logPath: log('temporal'),
  });
}

/** One that was started by an `up` that died may still be on its way: it gets some time. */
async function answers(address: string): Promise<boolean> {
  const deadline = Date.now() + 20_000;
  while (!(await isReady(address))) {
    if (Date.now() > deadline) return false;
    await delay(100);
  }
  return true;
}

async function ensureBlockstore(home: string, ports: Ports, { blockstore }: Running): Promise<void> {
  const { blockstore: dbpath, log } = paths(home);
  const logPath = log('blockstore');
  if (blockstore) await becomePrimary(ports.blockstore, logPath);
  else await startBlockstore({ binary: await findBinary('mongod'), port: ports.blockstore, dbpath, logPath });
}

async function ensureWorker(state: UpState, { worker }: Running, options: UpOptions): Promise<number> {
  const { home, temporal, blockstore } = state;
  if (worker) {
    if (await workerAnswers(home, worker.pid)) return worker.pid;
    // It gives no sign of life, so it will not end by itself either; its heads are taken over by the next one.
    await endProcess(worker, SILENT_GRACE_MS);
  }
  return startWorker({
    home,
    configFile: options.configFile,
    logPath: paths(home).log('worker'),
    temporal,
    blockstoreUri: blockstore.uri,
    env: options.env ?? process.env,
  });
}
