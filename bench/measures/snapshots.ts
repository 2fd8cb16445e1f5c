/** Snapshots of a head and restores of them, beside restic and kopia on the very same files. */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { RestoreSummary, SnapshotSummary } from '../../src/shared/messages.ts';
import { runPeer, type Peers } from '../peers.ts';
import { DEPLOYMENT, watch, type Product } from '../product.ts';

/** One program that keeps copies of a directory. */
export interface Keeper {
  readonly name: string;
  /** @returns seconds, and bytes that the repository grew by */
  backup(): Promise<Backup>;
  /** @returns seconds */
  restore(to: string): Promise<number>;
}

export interface Backup {
  readonly seconds: number;
  readonly storedBytes: number;
}

/** What a snapshot of ours leaves out too: no program is to be measured on more than the others. */
const LEFT_OUT = ['journal', 'mongod.lock', 'WiredTiger.lock', 'diagnostic.data', '_tmp'];

async function bytesIn(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function growing(repository: string, run: () => Promise<number>): Promise<Backup> {
  const before = await bytesIn(repository);
  const seconds = await run();
  return { seconds, storedBytes: (await bytesIn(repository)) - before };
}

async function restic(path: string, folder: string, files: string): Promise<Keeper> {
  const repository = join(folder, 'restic');
  const env = {
    RESTIC_PASSWORD: 'bench',
    RESTIC_REPOSITORY: repository,
    RESTIC_CACHE_DIR: join(folder, 'restic-cache'),
  };
  await runPeer(path, ['init'], env);
  return {
    name: 'restic',
    backup: () =>
      growing(repository, async () => {
        const excludes = LEFT_OUT.map((name) => `--exclude=${join(files, name)}`);
        return (await runPeer(path, ['backup', '--quiet', ...excludes, files], env)).seconds;
      }),
    restore: async (to) => (await runPeer(path, ['restore', 'latest', '--quiet', '--target', to], env)).seconds,
  };
}

async function kopia(path: string, folder: string, files: string): Promise<Keeper> {
  const repository = join(folder, 'kopia');
  const env = {
    KOPIA_PASSWORD: 'bench',
    KOPIA_CONFIG_PATH: join(folder, 'kopia.config'),
    KOPIA_CACHE_DIRECTORY: join(folder, 'kopia-cache'),
    KOPIA_LOG_DIR: join(folder, 'kopia-logs'),
    KOPIA_CHECK_FOR_UPDATES: 'false',
  };
  await mkdir(repository, { recursive: true });
  await runPeer(path, ['repository', 'create', 'filesystem', '--path', repository], env);
  const ignored = LEFT_OUT.map((name) => `--add-ignore=/${name}`);
  await runPeer(path, ['policy', 'set', '--global', '--compression=zstd-fastest', ...ignored], env);
  return {
    name: 'kopia',
    backup: () =>
      growing(
        repository,
        async () => (await runPeer(path, ['snapshot', 'create', '--no-progress', files], env)).seconds,
      ),
    restore: async (to) => {
      const listed = await runPeer(path, ['snapshot', 'list', '--json', files], env);
      const snapshots = JSON.parse(listed.output) as readonly { id: string }[];
      return (await runPeer(path, ['snapshot', 'restore', snapshots.at(-1)?.id ?? '', to], env)).seconds;
    },
  };
}

/** The keepers that are installed, each with an empty repository. */
export async function keepersOf(peers: Peers, folder: string, files: string): Promise<Keeper[]> {
  const [resticPath, kopiaPath] = [peers.get('restic'), peers.get('kopia')];
  return [
    ...(resticPath === undefined ? [] : [await restic(resticPath, folder, files)]),
    ...(kopiaPath === undefined ? [] : [await kopia(kopiaPath, folder, files)]),
  ];
}

/** A restore into a folder that is removed afterwards. */
export async function restoreBy(keeper: Keeper, folder: string): Promise<number> {
  const to = join(folder, `restored-${keeper.name}`);
  try {
    return await keeper.restore(to);
  } finally {
    await rm(to, { recursive: true, force: true });
  }
}

/** A snapshot of ours: `seconds` is the whole command, `cutSeconds` the time for which the head was held still. */
export async function ourSnapshot(product: Product): Promise<Backup & { readonly cutSeconds: number }> {
  const from = performance.now();
  const { newStoredBytes, durationMs } = await product.run<SnapshotSummary>(
    'snapshots',
    'create',
    DEPLOYMENT,
    '--wait',
  );
  const seconds = (performance.now() - from) / 1000;
  return { seconds, cutSeconds: durationMs / 1000, storedBytes: newStoredBytes };
}

/** The first snapshot, which the initial sync took. */
export async function firstSnapshot(product: Product): Promise<Backup & { readonly logicalBytes: number }> {
  const { snapshots } = await product.run<{ snapshots: readonly SnapshotSummary[] }>('snapshots', 'list', DEPLOYMENT);
  const [first] = snapshots;
  if (!first) throw new Error('there is no first snapshot');
  return { seconds: first.durationMs / 1000, storedBytes: first.newStoredBytes, logicalBytes: first.logicalBytes };
}

/**
 * A restore of ours of the newest snapshot.
 * @returns seconds until the files are written, and until they are proven and handed over
 */
export async function ourRestore(product: Product, folder: string): Promise<{ files: number; proven: number }> {
  const [snapshot] = (
    await product.run<{ snapshots: readonly SnapshotSummary[] }>('snapshots', 'list', DEPLOYMENT)
  ).snapshots.slice(-1);
  const to = join(folder, 'restored-lifeboat');
  const from = performance.now();
  const seconds = (): number => (performance.now() - from) / 1000;
  const restoring = product.run<RestoreSummary>(
    ...['restore', DEPLOYMENT, '--snapshot', snapshot?.id ?? '', '--to', `dir:${to}`, '--wait'],
  );
  let ended = false;
  const end = restoring.finally(() => (ended = true));
  const written = watch(async () => {
    const record = await product.record('restores', { destination: `dir:${to}` });
    return ended || (record && record['stage'] !== 'files') ? seconds() : undefined;
  });
  const [files] = await Promise.all([written, end]);
  const proven = seconds();
  await rm(to, { recursive: true, force: true });
  return { files, proven };
}
