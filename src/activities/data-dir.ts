/** The folder of one daemon: its id, and the lock that keeps a second worker out. */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { tryFileLock } from '../host/file-lock.ts';
import { LifeboatError } from '../shared/errors.ts';

export interface DataDir {
  readonly path: string;
  readonly daemonId: string;
  release(): void;
}

const DAEMON_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/**
 * Takes the folder for this process.
 * @param configuredId `daemon.id` of the configuration; without it an id is made up once and kept
 * @throws LifeboatError `DaemonLocked` when another process has it, `ConfigInvalid` when it belongs to another id
 */
export async function takeDataDir(path: string, configuredId?: string): Promise<DataDir> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const release = tryFileLock(join(path, 'daemon.lock'));
  if (!release) throw new LifeboatError('DaemonLocked', `another worker uses ${path}`);
  try {
    return { path, daemonId: await daemonId(path, configuredId), release };
  } catch (error) {
    release();
    throw error;
  }
}

/** Heads and claims name the daemon by its id, so it never changes once it is written. */
async function daemonId(path: string, configured: string | undefined): Promise<string> {
  const file = join(path, 'daemon-id');
  const kept = (await readFile(file, 'utf8').catch(() => '')).trim();
  if (kept !== '') {
    if (configured === undefined || configured === kept) return kept;
    throw new LifeboatError('ConfigInvalid', `${path} belongs to daemon ${kept}, and daemon.id says ${configured}`);
  }
  const id =
    configured ??
    `${hostname()
      .replace(/[^A-Za-z0-9-]/g, '-')
      .slice(0, 40)}-${randomBytes(3).toString('hex')}`;
  if (!DAEMON_ID.test(id)) throw new LifeboatError('ConfigInvalid', `"${id}" cannot be the id of a daemon`);
  await writeFile(`${file}.new`, `${id}\n`, { flush: true });
  await rename(`${file}.new`, file);
  return id;
}
