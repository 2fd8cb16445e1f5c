/**
 * Running a mongod of our own: a head, the prover of a restore, the embedded blockstore.
 *
 * Whoever starts one owns it and ends it. A mongod outlives a killed worker, so a dbpath may hold one that nobody owns:
 * it is never adopted (it may be in the middle of anything), it is ended, and the dbpath started anew.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { commandLineOf, endProcess, hasFlag, untilLetGo, type FoundProcess } from '../host/processes.ts';
import { LifeboatError } from '../shared/errors.ts';

/** Where a mongod listens: a unix socket, or a port on the loopback interface. */
export type MongodAddress = { readonly socket: string } | { readonly port: number };

export interface MongodOptions {
  /** Path of the binary. */
  readonly binary: string;
  readonly dbpath: string;
  readonly address: MongodAddress;
  /** `--wiredTigerCacheSizeGB`; at least 0.25. Without it a mongod takes half the memory of the machine. */
  readonly cacheGiB: number;
  readonly logPath: string;
  readonly replSet?: string;
  readonly setParameters?: Readonly<Record<string, string | number | boolean>>;
  readonly extraArgs?: readonly string[];
}

export interface MongodExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A mongod that this process started and that has accepted a connection. */
export interface RunningMongod {
  readonly pid: number;
  readonly address: MongodAddress;
  /** `mongodb://…` with directConnection for the driver. */
  readonly uri: string;
  /** Settles when the process has ended, however it ended. */
  readonly exited: Promise<MongodExit>;
  /** Clean shutdown (SIGTERM), SIGKILL after `graceMs`; resolves when the process is gone. */
  stop(graceMs?: number): Promise<MongodExit>;
  kill(signal: NodeJS.Signals): void;
}

/** `HeadStartFailed`, with how the process ended. */
export class MongodEnded extends LifeboatError {
  readonly exit: MongodExit;

  constructor(exit: MongodExit, message: string) {
    super('HeadStartFailed', message);
    this.exit = exit;
  }
}

/** Longest path that a unix socket may have everywhere (research, servers). */
const MAX_SOCKET_PATH = 99;

/**
 * A path for a private socket, in a folder only this user can enter. The name is derived from `key`, so one key has
 * one socket; paths below a dbpath would often be too long.
 */
export async function privateSocketPath(key: string): Promise<string> {
  const folder = join(tmpdir(), `lifeboat-${userInfo().uid}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { uid, mode } = await lstat(folder);
  if (uid !== userInfo().uid) throw new LifeboatError('HeadStartFailed', `${folder} belongs to another user`);
  if ((mode & 0o077) !== 0) await chmod(folder, 0o700);
  const path = join(folder, `${createHash('sha256').update(key).digest('hex').slice(0, 20)}.sock`);
  if (path.length > MAX_SOCKET_PATH) throw new LifeboatError('HeadStartFailed', `the socket path ${path} is too long`);
  return path;
}

function uriOf(address: MongodAddress): string {
  const host = 'socket' in address ? encodeURIComponent(address.socket) : `127.0.0.1:${address.port}`;
  return `mongodb://${host}/?directConnection=true`;
}

function argumentsOf(options: MongodOptions): string[] {
  const { address } = options;
  // With --bind_ip of a socket alone a mongod still opens a second socket in the temporary folder: --nounixsocket.
  const listen =
    'socket' in address
      ? ['--nounixsocket', '--bind_ip', address.socket]
      : ['--nounixsocket', '--bind_ip', '127.0.0.1', '--port', String(address.port)];
  const parameters = Object.entries(options.setParameters ?? {}).flatMap(([k, v]) => ['--setParameter', `${k}=${v}`]);
  return [
    '--dbpath',
    resolve(options.dbpath),
    ...listen,
    '--wiredTigerCacheSizeGB',
    String(Math.max(0.25, options.cacheGiB)),
    '--logpath',
    options.logPath,
    '--logappend',
    ...(options.replSet === undefined ? [] : ['--replSet', options.replSet]),
    ...parameters,
    ...(options.extraArgs ?? []),
  ];
}

/** The log line of a mongod that listens: "Waiting for connections" (mongo, transport_layer_asio.cpp; since 4.4 as JSON). */
const LISTENS = '"id":23016,';

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/**
 * Whether the log says, behind its first `from` bytes, that this very mongod listens. Something else may answer on a
 * port that was free a moment ago, while ours is about to end because of it.
 */
async function saysItListens(logPath: string, from: number): Promise<boolean> {
  const log = await open(logPath).catch(() => undefined);
  if (!log) return false;
  try {
    const bytes = Buffer.alloc(Math.max(0, (await log.stat()).size - from));
    await log.read(bytes, 0, bytes.length, from);
    return bytes.includes(LISTENS);
  } finally {
    await log.close();
  }
}

async function accepts(address: MongodAddress): Promise<boolean> {
  return new Promise((settle) => {
    const socket = 'socket' in address ? connect(address.socket) : connect(address.port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      settle(true);
    });
    socket.once('error', () => {
      socket.destroy();
      settle(false);
    });
  });
}

function ended(child: ChildProcess): Promise<MongodExit> {
  return new Promise((settle) => {
    child.once('exit', (code, signal) => settle({ code, signal }));
    child.once('error', () => settle({ code: null, signal: null }));
  });
}

/**
 * Starts a mongod and waits until it accepts a connection.
 * @throws LifeboatError `HeadStartFailed` when it ends before that, naming its log.
 */
export async function startMongod(options: MongodOptions, signal?: AbortSignal): Promise<RunningMongod> {
  await mkdir(options.dbpath, { recursive: true });
  if ('socket' in options.address) await rm(options.address.socket, { force: true });
  const logged = await sizeOf(options.logPath);
  const child = spawn(options.binary, argumentsOf(options), {
    // Its own process group: Ctrl-C in the worker's terminal must not end a head in the middle of a batch.
    detached: true,
    stdio: 'ignore',
  });
  const exited = ended(child);
  let exit: MongodExit | undefined;
  void exited.then((value) => {
    exit = value;
  });
  child.unref();
  const { pid } = child;
  const running: RunningMongod = {
    pid: pid ?? -1,
    address: options.address,
    uri: uriOf(options.address),
    exited,
    kill(name) {
      // It does not keep this process alive while it runs; whoever ends it wants to see it gone.
      child.ref();
      child.kill(name);
    },
    async stop(graceMs = 60_000) {
      if (exit) return exit;
      child.ref();
      child.kill('SIGTERM');
      const forced = setTimeout(() => child.kill('SIGKILL'), graceMs);
      try {
        return await exited;
      } finally {
        clearTimeout(forced);
      }
    },
  };
  while (!(await saysItListens(options.logPath, logged)) || !(await accepts(options.address))) {
    if (exit ?? pid === undefined) {
      const how = exit?.code ?? exit?.signal ?? 'it could not be executed';
      throw new MongodEnded(
        exit ?? { code: null, signal: null },
        `mongod on ${options.dbpath} ended at its start (${how}); its log is ${options.logPath}`,
      );
    }
    if (signal?.aborted) {
      await running.stop();
      signal.throwIfAborted();
    }
    await delay(50);
  }
  return running;
}

/** The process that a mongod has written into its lock file; it may be gone, or be another's by now. */
async function lockOwner(dbpath: string): Promise<number | undefined> {
  const text = await readFile(join(dbpath, 'mongod.lock'), 'utf8').catch(() => '');
  const pid = Number(text.trim());
  return Number.isInteger(pid) && pid > 1 ? pid : undefined;
}

async function foundOn(dbpath: string): Promise<FoundProcess | undefined> {
  const pid = await lockOwner(dbpath);
  if (pid === undefined) return undefined;
  // The number may have come to another process since: only a command line that names this dbpath counts.
  const words = await commandLineOf(pid);
  return words && hasFlag(words, '--dbpath', resolve(dbpath)) ? { pid, words } : undefined;
}

/** The process id of a mongod that runs on `dbpath`, found by the id that mongod writes into its lock file. */
export async function mongodOn(dbpath: string): Promise<number | undefined> {
  return (await foundOn(dbpath))?.pid;
}

/**
 * Ends a mongod that a dead process left on `dbpath` and waits until it is gone, so that its lock on the dbpath is.
 * Does nothing when none runs there.
 */
export async function endMongodOn(dbpath: string, graceMs = 30_000): Promise<void> {
  const found = await foundOn(dbpath);
  if (found) await endProcess(found, graceMs);
  else await untilLetGo(await lockOwner(dbpath));
}
