/** What a restore would do, without doing any of it. */
import { readdir, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readManifest } from '../blockstore/manifest.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromTimestamp } from '../mongo/positions.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { RestorePoint, RestorePreview } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import { castTargetError, refuseTakenPlace, RestoreTarget } from './target.ts';

export interface PreviewRequest {
  readonly stores: Stores;
  /** Id of this daemon. */
  readonly daemon: string;
  readonly point: RestorePoint;
  /** Absolute path of the directory. */
  readonly path: string;
  /** See RestoreParts. */
  readonly mongodFor: (version: string, appliesEntries: boolean) => Promise<string>;
  readonly ownFolders: readonly string[];
}

/** The journal of a mongod that is started on the files, and what it writes besides, in bytes. */
const BESIDE_THE_FILES = 512 * 2 ** 20;
/** What entries can add to the files: each byte of them may be a document's, and one of an index. */
const GROWTH = 2;
/** Restores by which the next one's time is told. */
const LAST_RESTORES = 10;

/**
 * Looks at everything that a restore needs, on the daemon that would do it.
 * @throws LifeboatError `UnknownSnapshot`; `StoreUnavailable` (retryable). What would stop it is in the answer.
 */
export async function previewRestore(request: PreviewRequest): Promise<RestorePreview> {
  const { stores, daemon, point, path } = request;
  const { snapshot, until, entries, entryBytes } = point;
  const manifest = await readManifest(stores, snapshot);
  const neededBytes = manifest.logicalBytes + GROWTH * entryBytes + BESIDE_THE_FILES;
  const freeBytes = await freeBytesOf(path);
  const problems = [
    await problemOf(() => refuseFilled(path)),
    await problemOf(() => refuseTakenPlace(path, request.ownFolders)),
    await problemOf(() => request.mongodFor(manifest.mongodVersion, until !== null)),
    await problemOf(() => {
      // What the entries add to the files is known when they are applied.
      if (freeBytes === null || freeBytes >= manifest.logicalBytes) return Promise.resolve();
      const what = `the disk of ${path} has ${freeBytes} bytes free, and the files alone take ${manifest.logicalBytes}`;
      throw new LifeboatError('TargetFull', what);
    }),
  ].filter((one) => one !== null);
  return {
    deployment: manifest.deployment,
    snapshot,
    optime: until?.ts ?? fromTimestamp(manifest.optime.ts),
    destination: `dir:${path}`,
    daemon,
    blocks: manifest.blocks,
    bytes: manifest.logicalBytes,
    entriesToReplay: entries,
    entryBytes,
    neededBytes,
    freeBytes,
    mongodVersion: manifest.mongodVersion,
    featureCompatibilityVersion: manifest.source.featureCompatibilityVersion,
    estimatedMs: await estimate(stores, { daemon, bytes: manifest.logicalBytes, entries }),
    problems,
  };
}

async function problemOf(check: () => Promise<unknown>): Promise<RestorePreview['problems'][number] | null> {
  try {
    await check();
    return null;
  } catch (error) {
    if (!isLifeboatError(error)) throw error;
    return { code: error.code, message: error.message, fix: error.fix };
  }
}

async function refuseFilled(path: string): Promise<void> {
  if ((await new RestoreTarget(path, '').stage()) !== 'without marks') {
    throw new LifeboatError('TargetNotEmpty', `${path} holds another restore`);
  }
  const names = await readdir(path).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw castTargetError(error, path);
  });
  if (names.length > 0) throw new LifeboatError('TargetNotEmpty', `${path} is not empty`);
}

/** Of the disk that the path is, or would be, on; null where that cannot be told. */
async function freeBytesOf(path: string): Promise<number | null> {
  for (let folder = path; ; folder = dirname(folder)) {
    const isThere = await stat(folder).then(
      () => true,
      () => false,
    );
    if (!isThere && folder !== dirname(folder)) continue;
    const disk = await statfs(folder).catch(() => undefined);
    return disk ? disk.bavail * disk.bsize : null;
  }
}

/** By what restores on this daemon took; null when there is none to go by. */
async function estimate(
  stores: Stores,
  { daemon, bytes, entries }: { readonly daemon: string; readonly bytes: number; readonly entries: number },
): Promise<number | null> {
  try {
    const found = await stores.restores
      .find({ daemon, state: 'done' })
      .sort({ startedAt: -1 })
      .limit(LAST_RESTORES)
      .toArray();
    const summaries = found.flatMap(({ summary }) => (summary ? [summary] : []));
    return estimatedMs(summaries, { bytes, entries });
  } catch (error) {
    throw castDriverError(error, 'store', 'looking for earlier restores');
  }
}

interface Took {
  readonly bytes: number;
  readonly entriesReplayed: number;
  readonly durationMs: number;
}

/**
 * How long a restore takes by what others took: so much for a byte, and what is left of theirs for an entry. Pure.
 * @returns milliseconds; null when none is like it
 */
export function estimatedMs(
  done: readonly Took[],
  { bytes, entries }: { readonly bytes: number; readonly entries: number },
): number | null {
  const rate = (of: readonly Took[], amount: (one: Took) => number, ms: (one: Took) => number): number | null => {
    const total = of.reduce((sum, one) => sum + amount(one), 0);
    return total === 0 ? null : of.reduce((sum, one) => sum + ms(one), 0) / total;
  };
  const plain = done.filter(({ entriesReplayed }) => entriesReplayed === 0);
  const msPerByte = rate(
    plain.length > 0 ? plain : done,
    (one) => one.bytes,
    (one) => one.durationMs,
  );
  if (msPerByte === null) return null;
  if (entries === 0) return Math.round(bytes * msPerByte);
  const replayed = done.filter(({ entriesReplayed }) => entriesReplayed > 0);
  const msPerEntry = rate(
    replayed,
    (one) => one.entriesReplayed,
    (one) => Math.max(0, one.durationMs - one.bytes * msPerByte),
  );
  return msPerEntry === null ? null : Math.round(bytes * msPerByte + entries * msPerEntry);
}
