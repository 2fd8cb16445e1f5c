/** One set-up at a time in one checkout. */
import { readFile, readlink, rename, symlink, unlink } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { say } from './project.mjs';

/** `pid:start`; the start time tells a process from a later one of the same number (Linux only, else empty). */
async function stampOf(pid) {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The second field is the program's name in brackets and may hold blanks: count from behind it. Field 22 is the start.
  return `${pid}:${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''}`;
}

async function isHeld(holder) {
  const pid = Number(holder.split(':')[0]);
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code === 'ESRCH') return false;
  }
  return (await stampOf(pid)) === holder;
}

/** Puts a dead holder's lock aside. Of two that see it dead, one may take the other's new lock: it gives that back. */
async function clear(path, dead) {
  const aside = `${path}.${process.pid}`;
  try {
    await rename(path, aside);
    const taken = await readlink(aside);
    if (taken !== dead) await symlink(taken, path);
    await unlink(aside);
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'EEXIST') throw error;
  }
}

/**
 * Runs `body` while this process holds the lock. It is a symbolic link whose target names the holder: made with its
 * content in one step, and left behind harmlessly by a process that was killed.
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} body
 * @returns {Promise<T>}
 */
export async function withLock(path, body) {
  const mine = await stampOf(process.pid);
  for (let waited = false; ; await delay(200)) {
    try {
      await symlink(mine, path);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = await readlink(path).catch(() => undefined);
    if (holder === undefined) continue;
    if (!(await isHeld(holder))) {
      await clear(path, holder);
    } else if (!waited) {
      waited = true;
      say(`waiting for another set-up of this checkout (process ${holder.split(':')[0]})`);
    }
  }
  try {
    return await body();
  } finally {
    await unlink(path).catch(() => undefined);
  }
}
