/**
 * The directory a restore goes to, and what it looks like on the way (design decision 12).
 *
 *     PATH/storage.bson           a text: this directory is incomplete; mongod refuses to start on it
 *     PATH/.lifeboat-restore/     the files of the snapshot, until they are all there
 *     PATH/.lifeboat-replaying/   the same folder under its next name: oplog entries are being applied to them
 *     PATH/.lifeboat-replayed/    and under its next: all of them are
 *     PATH/.lifeboat-proven/      proven, its files are being moved up into PATH
 *     PATH/.lifeboat-work/        what the replay keeps beside the files
 *     PATH/.lifeboat-proof.log    the log of the mongod that proved them; .lifeboat-replay.log of the one that replayed
 *
 * A restore of a snapshot as it is leaves out the two names in the middle.
 *
 * Each step is one rename, so that whoever comes next can tell from the names alone where to go on.
 */
import { constants, type Stats } from 'node:fs';
import { access, lstat, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path';
import { noteUncounted } from '../head/directory.ts';
import { LifeboatError } from '../shared/errors.ts';

const STORAGE = 'storage.bson';
/** Where the placeholder is written before it gets its name. */
const STORAGE_DRAFT = 'storage.bson.lifeboat';
const RESTORE_STAGING = '.lifeboat-restore';
const REPLAYING = '.lifeboat-replaying';
const REPLAYED = '.lifeboat-replayed';
const PROVEN = '.lifeboat-proven';
/** What the folders are called on which a mongod of a restore runs. */
export const RESTORE_DBPATHS: readonly string[] = [RESTORE_STAGING, REPLAYING, REPLAYED];
const WORK = '.lifeboat-work';
const PROOF_LOG = '.lifeboat-proof.log';
const REPLAY_LOG = '.lifeboat-replay.log';

const OUT_OF_SPACE = new Set(['ENOSPC', 'EDQUOT']);
const UNUSABLE = new Set([
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOTDIR',
  'ENOTEMPTY',
  'ENAMETOOLONG',
  'ELOOP',
  'EISDIR',
  'EFBIG',
  'EEXIST',
  'EIO',
  // A symbolic link that leads nowhere, or a file system on which nothing can be made, such as /proc.
  'ENOENT',
  'EINVAL',
  'ENOSYS',
  'ENOTSUP',
]);

/** The same for each restore, with its id: how a rerun knows its own. */
function placeholder(id: string): string {
  return (
    `This directory is incomplete: restore ${id} of Lifeboat has not finished, and mongod must not start on it.\n` +
    `Run the restore on, or remove the whole directory.\n`
  );
}

/** What an error of the file system means for a restore; any other error comes back as it is. */
export function castTargetError(error: unknown, path: string): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (OUT_OF_SPACE.has(code)) {
    return new LifeboatError('TargetFull', `the disk of ${path} is full (${code})`, { cause: error });
  }
  if (UNUSABLE.has(code)) {
    return new LifeboatError('TargetUnusable', `${path} cannot be written to (${code})`, { cause: error });
  }
  return error;
}

/** Makes the names in a directory durable. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Refuses a destination that others write to or remove: below a folder of Lifeboat's own, or in a dbpath. A snapshot of a
 * head could take such files in, and a resync would delete them.
 * @param ownFolders absolute paths
 * @throws LifeboatError `TargetUnusable` that names the folder
 */
export async function refuseTakenPlace(path: string, ownFolders: readonly string[]): Promise<void> {
  try {
    const real = await realPath(path);
    for (const folder of ownFolders) {
      if (!isBelow(real, await realPath(folder))) continue;
      throw new LifeboatError('TargetUnusable', `${path} lies in ${folder}, where Lifeboat keeps its own data`);
    }
    // Not the folder itself: a mongod that was tried on an unfinished restore has left its lock there, and a dbpath is not empty.
    for (let folder = dirname(real); ; folder = dirname(folder)) {
      if (await exists(join(folder, 'mongod.lock'))) {
        throw new LifeboatError('TargetUnusable', `${path} lies in ${folder}, which is the dbpath of a mongod`);
      }
      if (folder === dirname(folder)) return;
    }
  } catch (error) {
    throw castTargetError(error, path);
  }
}

/** The path without symbolic links, as far as it is there. */
async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (absent(error) !== undefined || path === dirname(path)) throw error;
    return join(await realPath(dirname(path)), basename(path));
  }
}

function isBelow(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/** How far a restore is, by what stands in its directory. */
export type TargetStage = 'files' | 'replay' | 'replayed' | 'hand-over' | 'without marks';

/** The dbpath that is worked on, by the stage. */
const DBPATHS: readonly (readonly [TargetStage, string])[] = [
  ['hand-over', PROVEN],
  ['replayed', REPLAYED],
  ['replay', REPLAYING],
];

export class RestoreTarget {
  readonly path: string;
  readonly #id: string;

  /**
   * @param path absolute
   * @param id of the restore
   */
  constructor(path: string, id: string) {
    if (!isAbsolute(path)) throw new LifeboatError('TargetUnusable', `${path} is not an absolute path`);
    this.path = path;
    this.#id = id;
  }

  /** The dbpath that is filled. */
  get staging(): string {
    return join(this.path, RESTORE_STAGING);
  }

  /** The dbpath to which entries are applied. */
  get replaying(): string {
    return join(this.path, REPLAYING);
  }

  /** The dbpath to which they all are. */
  get replayed(): string {
    return join(this.path, REPLAYED);
  }

  /** All three: a killed run may have left its mongod on any. */
  get dbpaths(): readonly string[] {
    return RESTORE_DBPATHS.map((name) => join(this.path, name));
  }

  /** The folder for what the replay keeps. */
  get work(): string {
    return join(this.path, WORK);
  }

  get proofLog(): string {
    return join(this.path, PROOF_LOG);
  }

  get replayLog(): string {
    return join(this.path, REPLAY_LOG);
  }

  /**
   * Where this restore stands here: `without marks` when nothing of it is here, which is before its beginning or after
   * its end.
   */
  async stage(): Promise<TargetStage> {
    try {
      for (const [stage, name] of DBPATHS) if (await exists(join(this.path, name))) return stage;
      return (await this.#holdsOurs()) ? 'files' : 'without marks';
    } catch (error) {
      throw castTargetError(error, this.path);
    }
  }

  /** Whether a whole dbpath stands here. */
  async isHandedOver(): Promise<boolean> {
    return (await this.stage()) === 'without marks' && (await exists(join(this.path, STORAGE)));
  }

  /**
   * Takes the directory: makes it when it is absent, and puts the placeholder there before anything else.
   * @throws LifeboatError `TargetNotEmpty` when it holds anything but this same restore, `TargetUnusable`, `TargetFull`
   */
  async take(): Promise<void> {
    try {
      await makeFolder(this.path);
      if (!(await this.#holdsOurs())) await this.#begin();
      await access(this.path, constants.R_OK | constants.W_OK | constants.X_OK);
      if ((await this.stage()) === 'files') await mkdir(this.staging, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw castTargetError(error, this.path);
    }
  }

  async #begin(): Promise<void> {
    const draft = join(this.path, STORAGE_DRAFT);
    const names = (await readdir(this.path)).filter((name) => name !== STORAGE_DRAFT);
    if (names.length > 0) throw new LifeboatError('TargetNotEmpty', `${this.path} is not empty`);
    const handle = await open(draft, 'w', 0o600);
    try {
      await handle.writeFile(placeholder(this.#id));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, join(this.path, STORAGE));
    await syncFolder(this.path);
    await syncFolder(dirname(this.path));
  }

  async #holdsOurs(): Promise<boolean> {
    const file = join(this.path, STORAGE);
    const found = await lstat(file).catch(absent);
    if (!found?.isFile() || found.size > 4096) return false;
    return (await readFile(file, 'utf8')) === placeholder(this.#id);
  }

  /** Marks the staged files as whole; from here on entries change them. */
  async beginReplay(): Promise<void> {
    try {
      await mkdir(this.work, { recursive: true, mode: 0o700 });
      // What the files believe of their capped collections may be from before what they hold, as after a kill.
      await noteUncounted({ root: this.work });
    } catch (error) {
      throw castTargetError(error, this.path);
    }
    await this.#renamed(RESTORE_STAGING, REPLAYING);
  }

  /** Marks that every entry is applied. */
  markReplayed(): Promise<void> {
    return this.#renamed(REPLAYING, REPLAYED);
  }

  /** Marks the files as proven; from here on they are only moved. */
  async markProven(): Promise<void> {
    await this.#renamed((await this.stage()) === 'replayed' ? REPLAYED : RESTORE_STAGING, PROVEN);
  }

  async #renamed(from: string, to: string): Promise<void> {
    try {
      await syncFolder(join(this.path, from));
      await rename(join(this.path, from), join(this.path, to));
      await syncFolder(this.path);
    } catch (error) {
      throw castTargetError(error, this.path);
    }
  }

  /**
   * Moves the proven files up, one rename each, the real `storage.bson` last and over the placeholder. Run again after
   * a crash anywhere in it, it moves what is left.
   */
  async handOver(): Promise<void> {
    const proven = join(this.path, PROVEN);
    try {
      for (const name of [PROOF_LOG, REPLAY_LOG, WORK])
        await rm(join(this.path, name), { recursive: true, force: true });
      for (const name of await readdir(proven)) {
        if (name !== STORAGE) await rename(join(proven, name), join(this.path, name));
      }
      await syncFolder(this.path);
      if (await exists(join(proven, STORAGE))) await rename(join(proven, STORAGE), join(this.path, STORAGE));
      await syncFolder(this.path);
      await rmdir(proven);
      await syncFolder(this.path);
    } catch (error) {
      throw castTargetError(error, this.path);
    }
  }

  /** Removes everything of an unfinished restore; the directory stays, empty. Does nothing when it holds none of ours. */
  async clear(): Promise<void> {
    try {
      if (!(await this.#holdsOurs())) return;
      const names = (await readdir(this.path)).filter((name) => name !== STORAGE);
      for (const name of names) await rm(join(this.path, name), { recursive: true, force: true });
      // The placeholder last: without it what is left would not be known as ours.
      await rm(join(this.path, STORAGE), { force: true });
    } catch (error) {
      throw castTargetError(error, this.path);
    }
  }
}

/**
 * Makes a folder and those above it. Node's own `recursive` never ends where a folder that is there refuses to hold
 * another with ENOENT, as /proc does.
 */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (code !== 'ENOENT' || (await exists(dirname(path)))) throw error;
    await makeFolder(dirname(path));
    await mkdir(path);
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(absent)) !== undefined;
}

function absent(error: unknown): Stats | undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
  throw error;
}
