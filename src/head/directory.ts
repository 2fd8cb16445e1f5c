/**
 * The directory of a head, and whose it is.
 *
 * `<dataDir>/heads/<deployment>/<member>/` holds `db` (the dbpath), `mongod.log`, and `owner.json`, which can be read
 * without a mongod: it says what the head belongs to and the newest claim under which it was opened. After a kill there
 * is also `uncounted`.
 */
import { mkdir, readdir, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError } from '../shared/errors.ts';
import { endMongodOn } from '../mongod/process.ts';
import type { HeadIdentity } from './types.ts';

export interface HeadDirectory {
  readonly root: string;
  readonly dbpath: string;
  readonly logPath: string;
}

export function headDirectory(
  dataDir: string,
  { deployment, member }: Pick<HeadIdentity, 'deployment' | 'member'>,
): HeadDirectory {
  const root = join(dataDir, 'heads', deployment, member);
  return { root, dbpath: join(root, 'db'), logPath: join(root, 'mongod.log') };
}

/** `owner.json` */
interface OwnerFile {
  readonly identity: HeadIdentity;
  readonly epoch: number;
  /** The snapshot whose files are being brought into the dbpath: until they are all there, no mongod may start on it. */
  readonly seed?: string;
}

/**
 * Takes the directory for a claim. The claim is written down before anything else: from here on whoever holds an older
 * one stops. A head of an older initial sync of the same set is removed.
 * @throws LifeboatError `HeadForeign` when it belongs to another backup, `FenceLost` when a newer claim has taken it
 */
export async function takeDirectory(directory: HeadDirectory, identity: HeadIdentity, epoch: number): Promise<void> {
  const owner = await readOwner(directory);
  if (!owner) {
    if (await isFilled(directory.dbpath)) throw foreign(directory, identity);
    await mkdir(directory.root, { recursive: true, mode: 0o700 });
    await writeOwner(directory, { identity, epoch });
    return;
  }
  if (!isSameSet(owner.identity, identity)) throw foreign(directory, identity);
  const sameSync = owner.identity.incarnation === identity.incarnation;
  // A later incarnation is larger: see newIncarnation.
  if (sameSync ? owner.epoch > epoch : owner.identity.incarnation > identity.incarnation) throw superseded(identity);
  const { seed } = owner;
  // Files that are half there go before the mark that says so.
  if (!sameSync && seed !== undefined) await clearDirectory(directory);
  await writeOwner(directory, { identity, epoch, ...(sameSync && seed !== undefined ? { seed } : {}) });
  if (!sameSync) await clearDirectory(directory);
}

/**
 * Marks a directory that was taken for this claim as one that is being filled from `snapshot`, its mongod ended.
 * @throws LifeboatError `FenceLost` when it is not this claim's
 */
export async function beginSeed(
  directory: HeadDirectory,
  identity: HeadIdentity,
  epoch: number,
  snapshot: string,
): Promise<void> {
  await readOwn(directory, identity, epoch);
  await endMongodOn(directory.dbpath);
  await writeOwner(directory, { identity, epoch, seed: snapshot });
  // What the files believe of their capped collections may be from before what they hold, as after a kill.
  await noteUncounted(directory);
  await mkdir(directory.dbpath, { recursive: true, mode: 0o700 });
}

/**
 * Takes the mark away: every file is there, and durable.
 * @throws LifeboatError `FenceLost` when the directory is no longer this claim's, or is filled from another snapshot
 */
export async function endSeed(
  directory: HeadDirectory,
  identity: HeadIdentity,
  epoch: number,
  snapshot: string,
): Promise<void> {
  const { seed } = await readOwn(directory, identity, epoch);
  if (seed !== snapshot) throw superseded(identity);
  await writeOwner(directory, { identity, epoch });
}

/** What stands in `owner.json`, for whoever looks at a head without a claim. Undefined when there is none. */
export async function ownerOf(
  directory: HeadDirectory,
): Promise<{ readonly identity: HeadIdentity; readonly epoch: number } | undefined> {
  return readOwner(directory);
}

/** Removes a head and its directory, its mongod ended; `owner.json` goes last, so that what is left has an owner. */
export async function removeDirectory(directory: HeadDirectory): Promise<void> {
  await clearDirectory(directory);
  await rm(directory.root, { recursive: true, force: true, maxRetries: 3 });
}

/** Removes the data of a head, its mongod ended. */
export async function clearDirectory({ dbpath }: HeadDirectory): Promise<void> {
  await endMongodOn(dbpath);
  await rm(dbpath, { recursive: true, force: true, maxRetries: 3 });
}

/**
 * Says whether the directory is still that of this claim, and whole.
 * @throws LifeboatError `FenceLost` when it is another's; `HeadFilling` (retryable) while it is filled from a snapshot
 */
export async function checkDirectory(directory: HeadDirectory, identity: HeadIdentity, epoch: number): Promise<void> {
  const { seed } = await readOwn(directory, identity, epoch);
  if (seed === undefined) return;
  const { deployment, member } = identity;
  throw new LifeboatError('HeadFilling', `the head of ${deployment}/${member} is being filled from snapshot ${seed}`);
}

async function readOwn(directory: HeadDirectory, identity: HeadIdentity, epoch: number): Promise<OwnerFile> {
  const owner = await readOwner(directory);
  if (owner?.epoch !== epoch || owner.identity.incarnation !== identity.incarnation) throw superseded(identity);
  return owner;
}

export function foreign({ root }: HeadDirectory, { deployment, member }: HeadIdentity): LifeboatError {
  return new LifeboatError('HeadForeign', `${root} is not the head of this backup of ${deployment}/${member}`);
}

export function superseded({ deployment, member }: HeadIdentity): LifeboatError {
  return new LifeboatError('FenceLost', `another attempt has taken over the head of ${deployment}/${member}`);
}

/** Whether two heads are of one member of one deployment, whatever the initial sync. */
export function isSameSet(a: HeadIdentity, b: HeadIdentity): boolean {
  return a.deployment === b.deployment && a.member === b.member && a.replicaSetId === b.replicaSetId;
}

/** The note that a head's mongod did not end cleanly, and has not counted its capped collections since (counts.ts). */
const UNCOUNTED = 'uncounted';

/**
 * Notes, durably, when the mongod that was last on the dbpath did not end cleanly: then its lock file still names it. To
 * be called before the next one is started, which writes that file anew.
 */
export async function noteUncleanEnd({ root, dbpath }: HeadDirectory): Promise<void> {
  const lock = await stat(join(dbpath, 'mongod.lock')).catch(() => undefined);
  if (lock !== undefined && lock.size > 0) await noteUncounted({ root });
}

/** Notes, durably, that its capped collections have to be counted: of files that come out of a snapshot, for one. */
export async function noteUncounted({ root }: Pick<HeadDirectory, 'root'>): Promise<void> {
  await writeFile(join(root, UNCOUNTED), '', { mode: 0o600, flush: true });
}

/** Whether a mongod has ended uncleanly since the capped collections were counted. */
export async function isUncounted({ root }: HeadDirectory): Promise<boolean> {
  return stat(join(root, UNCOUNTED)).then(
    () => true,
    () => false,
  );
}

/** Takes the note away: they are counted. */
export async function noteCounted({ root }: HeadDirectory): Promise<void> {
  await rm(join(root, UNCOUNTED), { force: true });
}

async function isFilled(folder: string): Promise<boolean> {
  const names = await readdir(folder).catch(() => []);
  return names.length > 0;
}

async function readOwner(directory: HeadDirectory): Promise<OwnerFile | undefined> {
  const path = join(directory.root, 'owner.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code = 'no code' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new LifeboatError('HeadStartFailed', `${path} cannot be read (${code})`, { cause: error });
  }
  try {
    return JSON.parse(text) as OwnerFile;
  } catch {
    throw new LifeboatError('HeadForeign', `${path} is not a head's`);
  }
}

async function writeOwner(directory: HeadDirectory, owner: OwnerFile): Promise<void> {
  const path = join(directory.root, 'owner.json');
  try {
    await writeFile(`${path}.new`, JSON.stringify(owner), { mode: 0o600, flush: true });
    await rename(`${path}.new`, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const kind = code === 'ENOSPC' ? 'DiskFull' : 'HeadStartFailed';
    throw new LifeboatError(kind, `${path} cannot be written (${code ?? 'no code'})`, { cause: error });
  }
}

/** With less than this left on the disk a mongod cannot write its journal. */
const LEAST_FREE_BYTES = 64 * 1024 * 1024;

/** Whether the disk of the directory is full. */
export async function isDiskFull({ root }: HeadDirectory): Promise<boolean> {
  const disk = await statfs(root).catch(() => undefined);
  return disk !== undefined && disk.bavail * disk.bsize < LEAST_FREE_BYTES;
}
