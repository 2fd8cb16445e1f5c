/** What the checks need to know of the daemon's machine. */
import { execFile } from 'node:child_process';
import { readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Bytes that the file system of `path` has free for us. @throws Error of node:fs */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** Bytes of all files below a folder; 0 when it is not there. Files that go meanwhile count nothing. */
export async function folderBytes(path: string): Promise<number> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
  let total = 0;
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    total += await stat(join(entry.parentPath, entry.name)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return total;
}

/**
 * The limit of open files that a process started from here gets; null when there is none.
 * @throws Error when the shell does not tell
 */
export async function openFileLimit(): Promise<number | null> {
  const { stdout } = await run('/bin/sh', ['-c', 'ulimit -n'], { timeout: 10_000 });
  const text = stdout.trim();
  if (text === 'unlimited') return null;
  const limit = Number(text);
  if (!Number.isInteger(limit)) throw new Error('ulimit -n did not answer with a number');
  return limit;
}
