/** The files of a head held still: which, and their bytes in large pieces, read ahead by one. */
import { open, readdir, readFile, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { LockedHead } from '../head/types.ts';
import { LifeboatError } from '../shared/errors.ts';
import { BLOCK_BYTES } from './blocks.ts';
import { comparePaths } from './manifest.ts';

export interface HeadFile {
  /** Relative to the dbpath, with `/`. */
  readonly path: string;
  /** How much of it belongs into the snapshot, from its beginning. */
  readonly bytes: number;
}

/**
 * What of a journal file belongs into a snapshot: its own header. Under the lock everything is in the checkpoint and no
 * record is needed, but the *number* of the newest journal file is. WiredTiger keeps in each file of data the journal
 * position of its last checkpoint; started without a journal it counts journal files from 1 again, and after a crash
 * skips every record as older than that: acknowledged writes would be lost (docs/snapshots.md, journal).
 */
const JOURNAL_HEADER_BYTES = 4096;
const JOURNAL_FILE = /^WiredTigerLog\.\d+$/;

/** Everything of a locked head that belongs into a snapshot, in the order of a manifest. */
export async function filesToCut(locked: LockedHead): Promise<readonly HeadFile[]> {
  const files: HeadFile[] = (await locked.files()).map(({ path, bytes }) => ({ path, bytes }));
  const folder = join(locked.dbpath, 'journal');
  for (const name of await readdir(folder).catch(() => [])) {
    if (!JOURNAL_FILE.test(name)) continue;
    // Recovery cuts a journal file where its records end, which may be anywhere.
    const { size } = await stat(join(folder, name));
    files.push({ path: `journal/${name}`, bytes: Math.min(size, JOURNAL_HEADER_BYTES) });
  }
  return files.sort((a, b) => comparePaths(a.path, b.path));
}

/**
 * The checkpoint that the lock was taken at, as the text of `WiredTiger.turtle`.
 *
 * A locked mongod goes on making checkpoints, every 60 s, even with nothing to write, and they do change its files. But
 * fsyncLock holds a backup cursor open, and while it is, no block of the checkpoint it was opened at is written over.
 * So files are whole as of that checkpoint however late they are read, if the metadata that is read belongs to it:
 * `WiredTiger.backup` is written when the cursor is opened, and a turtle newer than that is of a later checkpoint,
 * whose blocks nothing protects. Tried on 6.0.5 (docs/snapshots.md, checkpoints).
 * @throws LifeboatError `SnapshotLockLost` when a later checkpoint has been made
 */
export async function lockedCheckpoint(dbpath: string): Promise<string> {
  const turtle = join(dbpath, 'WiredTiger.turtle');
  try {
    const text = await readFile(turtle, 'utf8');
    const [made, opened] = await Promise.all(
      [turtle, join(dbpath, 'WiredTiger.backup')].map((path) => stat(path, { bigint: true })),
    );
    if (made && opened && made.mtimeNs <= opened.mtimeNs) return text;
  } catch (error) {
    throw new LifeboatError('SnapshotLockLost', `the head in ${dbpath} is not held still`, { cause: error });
  }
  throw new LifeboatError('SnapshotLockLost', `the head in ${dbpath} made a checkpoint before it could be read`);
}

/** A multiple of the block size; two such buffers are in use. */
const PIECE_BYTES = 64 * BLOCK_BYTES;

/** Reads files one after the other through two buffers: the next piece is read while the last one is worked on. */
export class PieceReader {
  readonly #buffers = [Buffer.allocUnsafeSlow(PIECE_BYTES), Buffer.allocUnsafeSlow(PIECE_BYTES)] as const;

  /** Pieces of a file in order; each is only valid until the next is asked for. */
  async *read(dbpath: string, file: HeadFile): AsyncGenerator<{ offset: number; bytes: Buffer }, void, void> {
    const handle = await this.#open(dbpath, file);
    let coming: Promise<Buffer> | undefined;
    try {
      coming = this.#piece(handle, file, 0);
      for (let offset = 0; offset < file.bytes; offset += PIECE_BYTES) {
        const bytes = await coming;
        coming = this.#piece(handle, file, offset + PIECE_BYTES);
        // A failure is reported when the piece is awaited, not as an unhandled rejection before that.
        coming.catch(() => undefined);
        yield { offset, bytes };
      }
    } finally {
      await coming?.catch(() => undefined);
      await handle.close();
    }
  }

  async #open(dbpath: string, file: HeadFile): Promise<FileHandle> {
    try {
      return await open(join(dbpath, file.path), 'r');
    } catch (error) {
      throw moved(file, error);
    }
  }

  async #piece(handle: FileHandle, file: HeadFile, offset: number): Promise<Buffer> {
    const length = Math.min(PIECE_BYTES, file.bytes - offset);
    if (length <= 0) return Buffer.alloc(0);
    const buffer = this.#buffers[(offset / PIECE_BYTES) % 2 === 0 ? 0 : 1];
    for (let have = 0; have < length;) {
      const { bytesRead } = await handle.read(buffer, have, length - have, offset + have).catch((error: unknown) => {
        throw moved(file, error);
      });
      if (bytesRead === 0) throw moved(file);
      have += bytesRead;
    }
    return buffer.subarray(0, length);
  }
}

/** A file of a head held still neither goes nor shrinks: if it does, the head is not held still. */
function moved(file: HeadFile, cause?: unknown): LifeboatError {
  return new LifeboatError('SnapshotLockLost', `the file ${file.path} of the head changed while it was read`, {
    cause,
  });
}
