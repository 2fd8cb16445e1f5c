/**
 * A process that takes, restores, deletes or purges a snapshot, or grooms and kills itself, with SIGKILL, at a place it was told. Run by
 * `crashOf` with one argument: a CrashPlan as JSON.
 */
import { fileURLToPath } from 'node:url';
import { execFile } from 'node:child_process';
import { MongoClient, ObjectId } from 'mongodb';
import { deleteSnapshot } from '../../src/blockstore/delete-snapshot.ts';
import { runGroom } from '../../src/blockstore/groom.ts';
import { findBinary } from '../../src/embedded/binaries.ts';
import type { Progress } from '../../src/shared/messages.ts';
import { ZERO_OPTIME } from '../../src/shared/optime.ts';
import { beginPurge, purgeSnapshots } from '../../src/steps/purge.ts';
import { restoreDirectory, type RestoreRequest } from '../../src/steps/restore-directory.ts';
import { takeSnapshot, type SnapshotParts } from '../../src/steps/take-snapshot.ts';
import { openStores, type Stores } from '../../src/stores/connect.ts';
import { lockMongod, NO_SOURCE, stepContext } from './snapshots.ts';

export interface SnapshotCrash {
  readonly step: 'snapshot';
  readonly store: string;
  readonly head: { readonly uri: string; readonly dbpath: string };
  readonly member: { readonly deployment: string; readonly incarnation: string };
  /** `blocks`: in the middle of the blocks; `commit`: when all is stored but the header. */
  readonly dieAt: 'blocks' | 'commit';
}

export interface RestoreCrash {
  readonly step: 'restore';
  readonly store: string;
  readonly request: RestoreRequest;
  /** The stage of progress to die in, past its middle. */
  readonly dieAt: string;
}

export interface PurgeCrash {
  readonly step: 'purge';
  readonly store: string;
  readonly deployment: string;
  /** The stage of progress to die in, and at which report of it. */
  readonly dieAt: string;
  readonly report: number;
}

/** Dies when the snapshot is marked, and nothing more is known or done. */
export interface DeleteCrash {
  readonly step: 'delete';
  readonly store: string;
  readonly snapshot: string;
}

export interface GroomCrash {
  readonly step: 'groom';
  readonly store: string;
  readonly run: string;
  readonly rangeBlocks: number;
  /** The stage of progress to die in, and at which report of it. */
  readonly dieAt: string;
  readonly report: number;
}

export type CrashPlan = SnapshotCrash | RestoreCrash | PurgeCrash | DeleteCrash | GroomCrash;

/** Longer than any plan takes, in milliseconds. */
const TIMEOUT_MS = 120_000;

/** Runs a plan in a process of its own; resolves to the signal that ended it, null when none did. */
export async function crashOf(plan: CrashPlan): Promise<string | null> {
  const words = [fileURLToPath(import.meta.url), JSON.stringify(plan)];
  return new Promise((settle, fail) => {
    execFile(process.execPath, words, { timeout: TIMEOUT_MS }, (error, _, stderr) => {
      if (error?.signal) settle(error.signal);
      else if (error) fail(new Error(`the process failed instead of dying: ${stderr}`, { cause: error }));
      else settle(null);
    });
  });
}

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  // The signal may take a moment to arrive, and nothing must happen in it.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  throw new Error('SIGKILL did not arrive');
}

function dieIn(stage: string): (progress: Progress) => void {
  return (progress) => {
    if (progress.stage === stage && progress.done > (progress.total ?? 0) * 0.6) die();
  };
}

async function crashSnapshot({ store, head, member, dieAt }: SnapshotCrash): Promise<void> {
  const stores = await openStores({ blockstore: store });
  const client = await MongoClient.connect(head.uri);
  const record = await stores.members.findOne({ _id: `${member.deployment}/rs0` });
  if (!record) throw new Error('no member');
  const second = Math.floor(Date.now() / 1000);
  const parts: SnapshotParts = {
    stores,
    fence: { key: record._id, incarnation: new ObjectId(member.incarnation), epoch: record.owner.epoch },
    head: {
      async lock() {
        const locked = await lockMongod({ client, dbpath: head.dbpath, second, isAlive: () => true });
        return dieAt === 'commit' ? { ...locked, stillHeld: () => die() } : locked;
      },
    },
    deployment: member.deployment,
    member: 'rs0',
    source: record.source,
    daemon: 'd1',
    verification: NO_SOURCE,
  };
  const onReport = dieAt === 'blocks' ? dieIn('snapshot') : () => undefined;
  await takeSnapshot(stepContext(new AbortController().signal, onReport), parts, { minimum: ZERO_OPTIME });
}

async function crashRestore({ store, request, dieAt }: RestoreCrash): Promise<void> {
  const stores = await openStores({ blockstore: store });
  const parts = { stores, daemon: 'd1', mongodFor: () => findBinary('mongod') };
  await restoreDirectory(stepContext(new AbortController().signal, dieIn(dieAt)), parts, request);
}

async function crashPurge({ store, deployment, dieAt, report }: PurgeCrash): Promise<void> {
  const stores = await openStores({ blockstore: store });
  let reports = 0;
  const ctx = stepContext(new AbortController().signal, ({ stage }) => {
    if (stage === dieAt && ++reports === report) die();
  });
  const request = { deployment, run: `dies in ${dieAt}` };
  await beginPurge(stores, request);
  await purgeSnapshots(ctx, stores, request);
}

async function crashDelete({ store, snapshot }: DeleteCrash): Promise<void> {
  const stores = await openStores({ blockstore: store });
  const leases = Object.assign(Object.create(stores.leases) as Stores['leases'], { findOne: () => die() });
  await deleteSnapshot({ ...stores, leases }, { snapshot, windowMs: 0 });
}

async function crashGroom({ store, run, rangeBlocks, dieAt, report }: GroomCrash): Promise<void> {
  const stores = await openStores({ blockstore: store });
  let reports = 0;
  const { signal } = new AbortController();
  const onReport = ({ stage }: Progress): void => {
    if (stage === dieAt && ++reports === report) die();
  };
  await runGroom({ stores, signal, report: onReport, rangeBlocks }, run);
}

const crashes = {
  groom: crashGroom,
  delete: crashDelete,
  snapshot: crashSnapshot,
  restore: crashRestore,
  purge: crashPurge,
} as { readonly [step: string]: (plan: never) => Promise<void> };

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const plan = JSON.parse(process.argv[2] ?? '') as CrashPlan;
  await crashes[plan.step]?.(plan as never);
}
