/** What tests of snapshots and restores share: a head under a real lock, a member to snapshot, a step's context. */
import { randomUUID } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { MongoClient, ObjectId } from 'mongodb';
import { pino } from 'pino';
import { findBinary } from '../../src/embedded/binaries.ts';
import type { LockedHead } from '../../src/head/types.ts';
import { privateSocketPath, startMongod, type RunningMongod } from '../../src/mongod/process.ts';
import { LifeboatError } from '../../src/shared/errors.ts';
import type { Progress } from '../../src/shared/messages.ts';
import type { Optime } from '../../src/shared/optime.ts';
import type { StepContext } from '../../src/steps/context.ts';
import type { SnapshotParts } from '../../src/steps/take-snapshot.ts';
import type { VerificationParts } from '../../src/steps/verify-part.ts';
import type { Stores } from '../../src/stores/connect.ts';
import { testFolder } from './folders.ts';
import { until } from './replica-set.ts';

const NOT_IN_A_SNAPSHOT = /^(mongod\.lock|WiredTiger\.lock|WiredTiger\.backup|journal|diagnostic\.data|_tmp)(\/|$)/;

/** A standalone mongod that is locked with fsyncLock, as a head is. */
export interface LockableMongod extends AsyncDisposable {
  readonly client: MongoClient;
  readonly mongod: RunningMongod;
  readonly dbpath: string;
  /** Every lock is at the next second. */
  lock(minimum: Optime): Promise<LockedHead>;
  restart(): Promise<void>;
}

export async function startLockableMongod(extraArgs: readonly string[] = []): Promise<LockableMongod> {
  const folder = await testFolder();
  const dbpath = join(folder.path, 'head');
  const start = async (): Promise<RunningMongod> =>
    startMongod({
      binary: await findBinary('mongod'),
      dbpath,
      address: { socket: await privateSocketPath(randomUUID()) },
      cacheGiB: 0.25,
      logPath: join(folder.path, 'head.log'),
      setParameters: {
        ttlMonitorEnabled: false,
        disableLogicalSessionCacheRefresh: true,
        diagnosticDataCollectionEnabled: false,
      },
      extraArgs,
    });
  let mongod = await start();
  let client = await MongoClient.connect(mongod.uri);
  let second = Math.floor(Date.now() / 1000);
  return {
    get client() {
      return client;
    },
    get mongod() {
      return mongod;
    },
    dbpath,
    async lock(minimum) {
      second = Math.max(second + 1, minimum.t);
      const holder = mongod;
      return lockMongod({ client, dbpath, second, isAlive: () => holder === mongod && isAlive(holder.pid) });
    },
    async restart() {
      await client.close();
      mongod.kill('SIGKILL');
      await mongod.exited;
      mongod = await start();
      client = await MongoClient.connect(mongod.uri);
    },
    async [Symbol.asyncDispose]() {
      await client.close();
      mongod.kill('SIGKILL');
      await mongod.exited;
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** Locks a mongod with fsyncLock; it is at the first optime of `second`. */
export async function lockMongod(held: {
  readonly client: MongoClient;
  readonly dbpath: string;
  readonly second: number;
  readonly isAlive: () => boolean;
}): Promise<LockedHead> {
  const { client, dbpath, second } = held;
  const admin = client.db('admin');
  await admin.command({ fsync: 1, lock: true });
  const ts = { t: second, i: 1 };
  let released = false;
  return {
    dbpath,
    signal: new AbortController().signal,
    position: { appliedThrough: { ts, term: 1 }, oplogFrom: { ts, term: 1 }, inconsistentUntil: null },
    wallTime: new Date(second * 1000),
    mongodVersion: String((await admin.command({ buildInfo: 1 }))['version']),
    undecided: false,
    exclude: [],
    files: () => filesOf(dbpath),
    stillHeld: () => Promise.resolve(!released && held.isAlive()),
    read: () => Promise.reject(new Error('a mongod that is no head')),
    async release() {
      if (!released && held.isAlive()) await admin.command({ fsyncUnlock: 1 });
      released = true;
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function filesOf(dbpath: string): Promise<{ path: string; bytes: number }[]> {
  const entries = await readdir(dbpath, { recursive: true, withFileTypes: true });
  const files: { path: string; bytes: number }[] = [];
  for (const entry of entries.filter((found) => found.isFile())) {
    const full = join(entry.parentPath, entry.name);
    const path = relative(dbpath, full).split(sep).join('/');
    if (!NOT_IN_A_SNAPSHOT.test(path)) files.push({ path, bytes: (await stat(full)).size });
  }
  return files;
}

/** A context that keeps what was reported and logged. */
export interface TestContext extends StepContext {
  readonly reports: Progress[];
  readonly logs: Readonly<Record<string, unknown>>[];
}

export function stepContext(
  signal: AbortSignal = new AbortController().signal,
  onReport: (progress: Progress) => void = () => undefined,
): TestContext {
  const reports: Progress[] = [];
  const logs: Record<string, unknown>[] = [];
  const write = (line: string): void => void logs.push(JSON.parse(line) as Record<string, unknown>);
  const report = (progress: Progress): void => {
    reports.push(progress);
    onReport(progress);
  };
  return { signal, report, logger: pino({ level: 'info' }, { write }), reports, logs };
}

/** Waits until a stage like that was reported. */
export async function untilStage({ reports }: TestContext, stage: RegExp): Promise<void> {
  await until(() => reports.some((report) => stage.test(report.stage)), `stage ${stage.source}`);
}

/** Of a member whose source is not there: nothing is compared. */
export const NO_SOURCE: VerificationParts = {
  source: () => Promise.reject(new LifeboatError('SourceUnavailable', 'no member of the source answers')),
  readLimit: () => Promise.resolve(null),
  maxMs: 1_000,
  within: 2,
};

/** A claimed member of a deployment, with all that a snapshot of it takes but the head. */
export async function claimedMember(
  stores: Stores,
  deployment = `d${randomUUID().slice(0, 8)}`,
): Promise<Omit<SnapshotParts, 'head'>> {
  const incarnation = new ObjectId();
  const source = { replicaSetId: new ObjectId(), setName: 'rs0', version: '6.0.5', featureCompatibilityVersion: '6.0' };
  const key = `${deployment}/rs0`;
  await stores.members.insertOne({
    _id: key,
    deployment,
    member: 'rs0',
    phase: 'routine',
    source,
    incarnation,
    owner: { daemon: 'd1', epoch: 1, claimedAt: new Date() },
    sync: null,
    head: null,
    seen: null,
    progress: null,
    oplog: null,
    warnings: [],
  });
  return {
    ...{ stores, fence: { key, incarnation, epoch: 1 }, deployment, member: 'rs0', source, daemon: 'd1' },
    verification: NO_SOURCE,
  };
}
