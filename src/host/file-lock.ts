/**
 * A lock that ends with its process, however that ends: Node has no call for a file lock, but its SQLite takes one
 * (fcntl, which the kernel lets go of when the process is gone).
 */
import { DatabaseSync } from 'node:sqlite';

/** SQLITE_BUSY: another connection, of this process or of another, holds the lock. */
const SQLITE_BUSY = 5;

/**
 * Takes the lock on `path`, a file of its own that is made when it is not there.
 * @returns what gives it back; undefined when another process, or another call in this one, holds it
 */
export function tryFileLock(path: string): (() => void) | undefined {
  const database = new DatabaseSync(path);
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return undefined;
    throw error;
  }
  return () => {
    if (database.isOpen) database.close();
  };
}
