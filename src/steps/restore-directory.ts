/** Step: bring a snapshot, or a moment behind it, back as a directory that `mongod` starts on. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest, readRuns } from '../blockstore/manifest.ts';
import { fromTimestamp, toStoredPosition } from '../mongo/positions.ts';
import { fillFiles, proveFiles } from '../restore/files.ts';
import { endProver, proveDbpath } from '../restore/proof.ts';
import { RestoreRun, storedSummary, summaryOfRestore } from '../restore/record.ts';
import { replayEntries } from '../restore/replay.ts';
import { castTargetError, refuseTakenPlace, RestoreTarget } from '../restore/target.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { Progress, RestoreSummary } from '../shared/messages.ts';
import { beginOfChain } from '../oplogstore/batches.ts';
import { compareOptimes, formatOptime, type Optime, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { takeLease } from '../stores/leases.ts';
import type { ManifestRecord } from '../stores/records.ts';
import type { StepContext } from './context.ts';

export interface RestoreParts {
  readonly stores: Stores;
  /** Id of this daemon. */
  readonly daemon: string;
  /** The path of a mongod that can open files of mongod `version` (`x.y.z`) and, if asked, apply entries to them. */
  readonly mongodFor: (version: string, appliesEntries: boolean) => Promise<string>;
  /** Cache of the mongod that applies entries, in GiB. */
  readonly cacheGiB?: number;
  /** Absolute paths of folders that hold Lifeboat's own data: nothing is restored below them. None when left out. */
  readonly ownFolders?: readonly string[];
}

export interface RestoreRequest {
  /** Id of the restore; a rerun with the same id goes on where it stood, or answers what it found. */
  readonly id: string;
  readonly snapshot: string;
  /** The last entry that is applied to it; none is when it is left out. */
  readonly until?: Position;
  /** How many that are. */
  readonly entries?: number;
  /** Absolute path of the directory: absent, empty, or holding this same restore unfinished. */
  readonly path: string;
}

/**
 * Runs of this process by the directory they write to. A run that Temporal gave up may still be at work when its retry
 * begins, and no store can fence the file system: the retry ends it and waits until it is gone. Two processes never
 * meet here, because a daemon's folder is locked and a restore stays on its daemon's queue.
 */
const running = new Map<string, Run>();

interface Run {
  /** Of the restore. */
  readonly id: string;
  readonly stop: AbortController;
  readonly gone: Promise<unknown>;
}

/**
 * Restores `snapshot` into `path`, applies the stored entries up to `until`, proves it (hashes, a started mongod, `validate`
 * of every collection) and hands it over; until then mongod refuses to start on it.
 * @throws LifeboatError `TargetNotEmpty`, `TargetUnusable`, `UnknownSnapshot`, `BlockDamaged`, `BlockMissing`,
 *   `ManifestDamaged`, `RestoreProofFailed`, `ReplayFailed`, `EntriesDamaged`; `FenceLost`; `TargetFull`,
 *   `ProofInterrupted`, `ReplayInterrupted`, `HeadStrained`, `StoreUnavailable` (retryable)
 */
export async function restoreDirectory(
  ctx: StepContext,
  parts: RestoreParts,
  request: RestoreRequest,
): Promise<RestoreSummary> {
  const stop = new AbortController();
  const earlier = running.get(request.path);
  if (earlier && earlier.id !== request.id) {
    throw new LifeboatError('TargetNotEmpty', `restore ${earlier.id} is being written to ${request.path}`);
  }
  earlier?.stop.abort(new LifeboatError('FenceLost', `another run has taken over restore ${request.id}`));
  const work = (earlier?.gone ?? Promise.resolve()).then(() => restoreAlone(endedBy(stop.signal, ctx), parts, request));
  const entry = { id: request.id, stop, gone: work.catch(() => undefined) };
  running.set(request.path, entry);
  try {
    return await work;
  } finally {
    if (running.get(request.path) === entry) running.delete(request.path);
  }
}

/**
 * Ends a run of this process that may still be at work in the directory of an unfinished restore, and takes out of the
 * directory all that it put there. Does nothing to a directory that holds anything else, or a restore that is complete.
 * @throws LifeboatError `TargetUnusable`
 */
export async function clearRestore({ id, path }: Pick<RestoreRequest, 'id' | 'path'>): Promise<void> {
  const earlier = running.get(path);
  if (earlier && earlier.id !== id) return;
  earlier?.stop.abort(new LifeboatError('FenceLost', `restore ${id} is being taken back`));
  await earlier?.gone;
  const target = new RestoreTarget(path, id);
  for (const dbpath of target.dbpaths) await endProver(dbpath);
  await target.clear();
}

function endedBy(stop: AbortSignal, ctx: StepContext): StepContext {
  return {
    signal: AbortSignal.any([ctx.signal, stop]),
    report: (progress) => ctx.report(progress),
    logger: ctx.logger,
  };
}

async function restoreAlone(ctx: StepContext, parts: RestoreParts, request: RestoreRequest): Promise<RestoreSummary> {
  const { stores, daemon } = parts;
  const { id, snapshot, until, path } = request;
  ctx.signal.throwIfAborted();
  const { deployment } = await readManifest(stores, snapshot);
  const destination = `dir:${path}`;
  const asked = {
    _id: id,
    deployment,
    snapshot,
    ...(until ? { until: toStoredPosition(until) } : {}),
    destination,
    daemon,
  };
  const run = await RestoreRun.begin(stores, asked);
  const finished = run.record.state === 'done' ? summaryOfRestore(run.record) : null;
  if (finished) return finished;
  try {
    const target = new RestoreTarget(path, id);
    await refuseTakenPlace(path, parts.ownFolders ?? []);
    if (!(await isProven(run, target))) await fillAndProve(ctx, parts, request, run, target);
    return await handOver(run, target);
  } catch (error) {
    const cast = castTargetError(error, path);
    await noteFailure(ctx, run, cast);
    throw cast;
  }
}

/** Whether all that is left to do is moving, or to say that it is done. */
async function isProven(run: RestoreRun, target: RestoreTarget): Promise<boolean> {
  // The summary is written once the files are proven, and before the first of them is moved.
  if (!run.record.summary) return false;
  return (await target.stage()) === 'hand-over' || (await target.isHandedOver());
}

async function fillAndProve(
  ctx: StepContext,
  parts: RestoreParts,
  request: RestoreRequest,
  run: RestoreRun,
  target: RestoreTarget,
): Promise<void> {
  const { stores, daemon } = parts;
  const { snapshot, until } = request;
  const { deployment } = run.record;
  await using lease = await takeLease(stores, { purpose: 'restore', deployment, daemon, snapshot });
  // Read again: only a snapshot that is there after the lease is held by it.
  const manifest = await readManifest(stores, snapshot);
  await checkManifest(stores, manifest);
  const begun = await target.stage();
  if (begun === 'without marks' || begun === 'files') {
    if (until) await requireEntries(stores, manifest);
    // Before hours of copying: it may not be there.
    await parts.mongodFor(manifest.mongodVersion, until !== undefined);
  }
  const signal = AbortSignal.any([ctx.signal, lease.signal, run.signal]);
  const report = (progress: Progress): void => {
    ctx.report(progress);
    run.report(progress);
  };
  await target.take();
  for (const dbpath of target.dbpaths) await endProver(dbpath);
  const stage = await target.stage();
  if (stage === 'files') {
    await run.set({ stage: 'files' });
    const files = { stores, manifest, folder: target.staging, signal, report };
    const { fetchedBlocks, foundBlocks } = await fillFiles(files);
    ctx.logger.info({ restore: run.record._id, fetchedBlocks, foundBlocks }, 'files restored');
    await run.set({ stage: until ? 'replay' : 'proof' });
    await proveFiles(files);
    if (until) await target.beginReplay();
  }
  if (until && stage !== 'replayed') {
    await run.set({ stage: 'replay' });
    await replayOn(target, { ...parts, manifest, until, entries: request.entries ?? 0, signal, report });
    await target.markReplayed();
    ctx.logger.info({ restore: run.record._id, until: formatOptime(until.ts) }, 'entries replayed');
  }
  await run.set({ stage: 'proof' });
  const dbpath = until ? target.replayed : target.staging;
  const binary = await parts.mongodFor(manifest.mongodVersion, false);
  await proveDbpath({ binary, dbpath, logPath: target.proofLog, signal, report });
  signal.throwIfAborted();
  const bytes = until ? await bytesIn(dbpath) : manifest.logicalBytes;
  const summary = await provenSummary(stores, run, {
    optime: until?.ts ?? fromTimestamp(manifest.optime.ts),
    bytes,
    entries: request.entries ?? 0,
  });
  await run.set({ stage: 'hand-over', summary });
  await target.markProven();
}

/** Looked for once the lease keeps them. @throws LifeboatError `TimeNotRestorable` */
async function requireEntries(stores: Stores, { _id, incarnation, oplogFrom }: ManifestRecord): Promise<void> {
  const begin = await beginOfChain(stores, incarnation);
  if (begin && compareOptimes(begin.ts, fromTimestamp(oplogFrom.ts)) <= 0) return;
  throw new LifeboatError('TimeNotRestorable', `the entries that lead on from snapshot ${_id} are not stored any more`);
}

interface ReplayParts extends Pick<RestoreParts, 'stores' | 'mongodFor' | 'cacheGiB'> {
  readonly manifest: ManifestRecord;
  readonly until: Position;
  readonly entries: number;
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

async function replayOn(
  target: RestoreTarget,
  { stores, mongodFor, cacheGiB = 0.25, manifest, until, entries, signal, report }: ReplayParts,
): Promise<void> {
  const directory = { root: target.work, dbpath: target.replaying, logPath: target.replayLog };
  const binary = await mongodFor(manifest.mongodVersion, true);
  const { incarnation } = manifest;
  await replayEntries({ stores, incarnation, until, entries, directory, binary, cacheGiB, signal, report });
}

/** How long all files of a dbpath are together, as a snapshot counts them. */
async function bytesIn(dbpath: string): Promise<number> {
  const files = (await readdir(dbpath, { withFileTypes: true })).filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(({ name }) => stat(join(dbpath, name))));
  return sizes.reduce((sum, { size }) => sum + size, 0);
}

/** Damage anywhere in the manifest is found before anything is written. */
async function checkManifest(stores: Stores, manifest: ManifestRecord): Promise<void> {
  for await (const run of readRuns(stores, manifest)) void run;
}

async function provenSummary(
  stores: Stores,
  run: RestoreRun,
  { optime, bytes, entries }: { readonly optime: Optime; readonly bytes: number; readonly entries: number },
): Promise<ReturnType<typeof storedSummary>> {
  const now = await stores.now();
  return storedSummary({
    optime,
    bytes,
    entriesReplayed: entries,
    durationMs: now.getTime() - run.record.startedAt.getTime(),
    verified: true,
  });
}

async function handOver(run: RestoreRun, target: RestoreTarget): Promise<RestoreSummary> {
  await run.set({ stage: 'hand-over' });
  if ((await target.stage()) === 'hand-over') await target.handOver();
  await run.set({ state: 'done', stage: 'done', progress: null, problem: null, endedAt: new Date() });
  const summary = summaryOfRestore(run.record);
  if (!summary) throw new LifeboatError('Internal', `restore ${run.record._id} was handed over without a summary`);
  return summary;
}

/** What can be tried again stays `running`, with its problem; what was stopped from outside has none. */
async function noteFailure(ctx: StepContext, run: RestoreRun, error: unknown): Promise<void> {
  if (ctx.signal.aborted && !isLifeboatError(error)) return;
  // Of an error that nobody foresaw not a word is shown: it may quote anything.
  const known = isLifeboatError(error) ? error : new LifeboatError('Internal', 'unexpected error', { cause: error });
  const { code, message, fix, retryable } = known;
  const before = run.problemBefore;
  const since = before?.code === code ? before.since : new Date();
  const problem = { code, message, fix, since };
  // A lost fence is taken up again by another run.
  const goesOn = retryable || isLifeboatError(known, 'FenceLost');
  const end = goesOn ? {} : { state: 'failed' as const, endedAt: new Date() };
  // The error itself is what the caller needs to know; a later run, or a store that is away, only loses the note of it.
  await run.set({ problem, ...end }).catch(() => undefined);
}
