/** Holding a head still at an exact optime, all its files complete on disk (research, mongodb-internals §5). */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError } from '../shared/errors.ts';
import type { OpenHead } from './open-head.ts';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';
import { positionIn } from './state.ts';
import { Turns, type EndTurn } from './turns.ts';
import type { LockedHead } from './types.ts';

/**
 * What belongs into a snapshot, all of it in the dbpath itself: the files of WiredTiger's tables, what it finds them by,
 * and mongod's note of the storage engine. Locks, the journal, diagnostics and `WiredTiger.backup`, which the lock itself
 * leaves, do not; nor does anything that others put into the folder.
 */
const IN_A_SNAPSHOT = /^(WiredTiger|WiredTiger\.turtle|storage\.bson|.+\.wt)$/;

/**
 * Flushes the head and stops its writes.
 * @param end of the turn, which lasts until the head is released
 * @param signal see LockedHead
 */
export async function holdStill(
  head: OpenHead,
  dbpath: string,
  end: EndTurn,
  signal: AbortSignal,
): Promise<LockedHead> {
  const { socket, record, version } = head;
  const position = positionIn(record);
  const what = `holding the head of ${head.label}`;
  const pid = await pidOf(socket);
  const reply = replyValues(succeeded(await socket.command('admin', { fsync: 1, lock: true }), what));
  if (Number(reply['lockCount']) !== 1) throw new LifeboatError('Internal', `${what}: it is held twice`);
  const questions = new Turns();
  let released = false;
  const isHeld = async (): Promise<boolean> => {
    if (released || socket.lost) return false;
    try {
      const current = await socket.command('admin', { currentOp: 1, ns: 'none' });
      return replyValues(succeeded(current, what))['fsyncLock'] === true && (await pidOf(socket)) === pid;
    } catch {
      return false;
    }
  };
  return {
    dbpath,
    signal,
    position,
    wallTime: record.wall,
    mongodVersion: version,
    undecided: record.undecided,
    exclude: record.exclude,
    files: () => filesOf(dbpath),
    stillHeld: () => questions.run(isHeld),
    read: (work) => questions.run(() => work(head)),
    release: (diverged) =>
      questions.run(async () => {
        if (released) return;
        released = true;
        try {
          if (!socket.lost) succeeded(await socket.command('admin', { fsyncUnlock: 1 }), what);
          if (diverged !== undefined && !socket.lost) {
            const at = position.appliedThrough;
            await head.save({ ...head.record, diverged: { at, what: diverged } }, { journaled: true });
          }
        } catch {
          // It could not be asked to let go: it is ended, and opened anew at its next use.
          socket.close();
        } finally {
          end();
        }
      }),
  };
}

async function pidOf(socket: HeadSocket): Promise<number> {
  // Everything but a few numbers is left out: this is asked often.
  const reply = await socket.command('admin', { serverStatus: 1, repl: 0, metrics: 0, wiredTiger: 0, locks: 0 });
  return Number(replyValues(succeeded(reply, 'asking for its process'))['pid']);
}

async function filesOf(dbpath: string): Promise<{ path: string; bytes: number }[]> {
  const files: { path: string; bytes: number }[] = [];
  for (const entry of await readdir(dbpath, { withFileTypes: true })) {
    const path = entry.name;
    if (!entry.isFile() || !IN_A_SNAPSHOT.test(path)) continue;
    files.push({ path, bytes: (await stat(join(dbpath, path))).size });
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}
