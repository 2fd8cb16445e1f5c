/**
 * Step: make a head again from a snapshot, where its files are gone with a disk or with a daemon.
 *
 * The files of a snapshot hold the head's own records too, so what they make is the head as it stood there, position
 * and all. The stored entries bring it on from there: the source's data is not read again.
 */
import { IS_SNAPSHOT, isGood, readManifest, readRuns } from '../blockstore/manifest.ts';
import type { HeadDirectory } from '../head/directory.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition } from '../mongo/positions.ts';
import { beginOfChain } from '../oplogstore/batches.ts';
import { fillFiles, proveFiles } from '../restore/files.ts';
import { syncFolder } from '../restore/target.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import { compareOptimes, formatOptime, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { takeLease } from '../stores/leases.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { ManifestRecord, MemberRecord } from '../stores/records.ts';
import type { StepContext } from './context.ts';

/** What holds the directories of heads. */
export interface Fillable {
  /** No mongod runs on the directory that this gives, and none can be started on it before `filled`. */
  beginFilling(stores: Stores, fence: MemberFence, snapshot: string): Promise<HeadDirectory>;
  filled(stores: Stores, fence: MemberFence, snapshot: string): Promise<void>;
}

export interface SeedParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly heads: Fillable;
  /** Id of this daemon. */
  readonly daemon: string;
}

/** What makes a snapshot unfit, so that an older one is tried. */
const UNFIT = ['UnknownSnapshot', 'ManifestDamaged', 'BlockMissing', 'BlockDamaged'] as const satisfies ErrorName[];

/** Runs of this process by the member they fill; see restore-directory.ts: nothing but this fences the files. */
const running = new Map<string, { readonly stop: AbortController; readonly gone: Promise<unknown> }>();

/**
 * Fills the head's directory from the newest snapshot of this initial sync that the stored entries go on from. What is
 * on disk already is not fetched again, so it may be run again after any end; a newer run ends an older one.
 * @returns the id of the snapshot
 * @throws LifeboatError `HeadMissing` when there is no such snapshot, with the reason; what is wrong with the newest one
 *   when none of them can be read; `FenceLost`, `HeadForeign`; `DiskFull`, `HeadStartFailed`, `StoreUnavailable` (retryable)
 */
export async function seedHead(ctx: StepContext, parts: SeedParts): Promise<string> {
  const { key } = parts.fence;
  const earlier = running.get(key);
  const stop = new AbortController();
  earlier?.stop.abort(new LifeboatError('FenceLost', `another run fills the head of ${key}`));
  const signal = AbortSignal.any([ctx.signal, stop.signal]);
  const alone: StepContext = { signal, report: (progress) => ctx.report(progress), logger: ctx.logger };
  const work = (earlier?.gone ?? Promise.resolve()).then(() => seedFromNewest(alone, parts));
  const entry = { stop, gone: work.catch(() => undefined) };
  running.set(key, entry);
  try {
    return await work;
  } finally {
    if (running.get(key) === entry) running.delete(key);
  }
}

async function seedFromNewest(ctx: StepContext, parts: SeedParts): Promise<string> {
  const { stores, fence } = parts;
  ctx.signal.throwIfAborted();
  const seeds = await seedsOf(stores, await readMember(stores, fence));
  if ('missing' in seeds) throw new LifeboatError('HeadMissing', `the head of ${fence.key} is gone: ${seeds.missing}`);
  let first: LifeboatError | undefined;
  for (const snapshot of seeds.snapshots) {
    try {
      await seedFrom(ctx, parts, snapshot);
      return snapshot;
    } catch (error) {
      if (!isLifeboatError(error) || !UNFIT.some((kind) => isLifeboatError(error, kind))) throw error;
      ctx.logger.warn({ code: error.code, snapshot }, 'the head cannot be made from this snapshot');
      first ??= error;
    }
  }
  throw first ?? new LifeboatError('HeadMissing', `the head of ${fence.key} is gone, and so is every snapshot of it`);
}

async function seedFrom(ctx: StepContext, parts: SeedParts, snapshot: string): Promise<void> {
  const { stores, fence, heads, daemon } = parts;
  const { deployment } = await readManifest(stores, snapshot);
  await using lease = await takeLease(stores, { purpose: 'seed', deployment, daemon, snapshot });
  // Read again: only a snapshot that is there after the lease is held by it.
  const manifest = await readManifest(stores, snapshot);
  await checkManifest(stores, manifest);
  const { dbpath, root } = await heads.beginFilling(stores, fence, snapshot);
  const signal = AbortSignal.any([ctx.signal, lease.signal]);
  const files = { stores, manifest, folder: dbpath, signal, report: ctx.report.bind(ctx) };
  try {
    const { fetchedBlocks, foundBlocks } = await fillFiles(files);
    ctx.logger.info({ head: fence.key, snapshot, fetchedBlocks, foundBlocks }, 'head filled from its snapshot');
    await proveFiles(files);
    await syncFolder(dbpath);
    await syncFolder(root);
  } catch (error) {
    throw castDiskError(error, root);
  }
  signal.throwIfAborted();
  await heads.filled(stores, fence, snapshot);
}

/** Damage anywhere in the manifest is found before anything is written. */
async function checkManifest(stores: Stores, manifest: ManifestRecord): Promise<void> {
  for await (const run of readRuns(stores, manifest)) void run;
}

function castDiskError(error: unknown, root: string): unknown {
  if (isLifeboatError(error) || !(error instanceof Error) || !('syscall' in error) || !('code' in error)) return error;
  const code = String(error.code);
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new LifeboatError(full ? 'DiskFull' : 'HeadStartFailed', `${root} cannot be written to (${code})`, {
    cause: error,
  });
}

// ---- what a head can be made from ---------------------------------------------------------------------------------

/** The snapshots that a head can be made from, newest first; or why there is none, for people. */
export type Seeds = { readonly snapshots: readonly string[] } | { readonly missing: string };

type SeedOf = Pick<MemberRecord, 'deployment' | 'member' | 'incarnation' | 'differs'>;

/** Looks into the stores for what a head of this initial sync can be made from. */
export async function seedsOf(stores: Stores, { deployment, member, incarnation, differs }: SeedOf): Promise<Seeds> {
  const begin = await beginOfChain(stores, incarnation);
  try {
    const manifests = await stores.manifests
      .find({ deployment, member, incarnation, ...IS_SNAPSHOT })
      .sort({ 'optime.ts': -1, createdAt: -1 })
      .project<Pick<ManifestRecord, '_id' | 'optime' | 'oplogFrom' | 'verification'>>({
        optime: 1,
        oplogFrom: 1,
        'verification.state': 1,
      })
      .toArray();
    // Made from one that differs, the head would differ as well, and nothing would say so.
    const sound = manifests.filter((one) => isGood(one, differs));
    if (sound.length === 0 && manifests.length > 0) {
      return { missing: 'every snapshot of this initial sync was found to differ from the source' };
    }
    return seedsAmong(
      sound.map(({ _id, oplogFrom }) => ({ id: _id, oplogFrom: fromStoredPosition(oplogFrom) })),
      begin,
    );
  } catch (error) {
    throw castDriverError(error, 'store', `looking for a snapshot of ${deployment}`);
  }
}

/**
 * Which snapshots the stored entries go on from. Pure.
 * @param snapshots newest first
 * @param begin the first stored entry, or null while there is none
 */
export function seedsAmong(
  snapshots: readonly { readonly id: string; readonly oplogFrom: Position }[],
  begin: Position | null,
): Seeds {
  const [newest] = snapshots;
  if (!newest) return { missing: 'no snapshot of this initial sync was taken yet' };
  if (!begin) return { missing: 'no oplog entry of this initial sync is stored' };
  const held = snapshots.filter(({ oplogFrom }) => compareOptimes(begin.ts, oplogFrom.ts) <= 0);
  if (held.length > 0) return { snapshots: held.map(({ id }) => id) };
  const [from, needed] = [formatOptime(begin.ts), formatOptime(newest.oplogFrom.ts)];
  return {
    missing: `the stored oplog begins at ${from}, and snapshot ${newest.id} needs it from ${needed} on (pointInTime.window keeps it)`,
  };
}

/** Whether the stored entries go on from `oplogFrom`; true while none are stored, which says nothing. */
export async function entriesGoOnFrom(stores: Stores, { incarnation }: MemberFence, from: Position): Promise<boolean> {
  const begin = await beginOfChain(stores, incarnation);
  return begin === null || compareOptimes(begin.ts, from.ts) <= 0;
}
