/**
 * Editing `lifeboat.yaml` for somebody who also edits it by hand: comments and order stay, a reader finds the old file
 * or the new one and nothing between, and of two edits at once neither is lost.
 */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isMap, Pair, Scalar, YAMLMap, YAMLSeq, type Document } from 'yaml';
import { LifeboatError } from '../shared/errors.ts';
import { pairOf, parseYaml } from './document.ts';
import { parseConfig, readConfigFile } from './load.ts';
import type { Config, UriSource } from './schema.ts';
import { holdsPassword } from './uris.ts';

/** A lock this old was left by a process that died: an edit takes milliseconds. */
const STALE_LOCK_MS = 10_000;
const LOCK_RETRY_MS = 20;

/**
 * Adds a deployment; the file is made when there is none.
 * @throws LifeboatError `DeploymentExists`, `ConfigInvalid`, `NotBuiltYet`
 */
export async function addDeployment(file: string, name: string, source: UriSource): Promise<Config> {
  return edit(file, (config, document) => {
    if (config.deployments.has(name)) {
      throw new LifeboatError('DeploymentExists', `${file} already has a deployment ${name}`);
    }
    const entry = new YAMLMap();
    for (const [key, value] of Object.entries<string | readonly string[]>(source))
      entry.add(new Pair(key, written(value)));
    deploymentsOf(document).add(document.createPair(name, entry));
  });
}

/**
 * Removes a deployment.
 * @throws LifeboatError `UnknownDeployment`, `ConfigInvalid`, `NotBuiltYet`
 */
export async function removeDeployment(file: string, name: string): Promise<Config> {
  return edit(file, (config, document) => {
    if (!config.deployments.has(name))
      throw new LifeboatError('UnknownDeployment', `${file} has no deployment ${name}`);
    if (!deploymentsOf(document).delete(name)) throw editByHand(file);
  });
}

/** Changes the file by `change`, and checks what came of it before it takes the old one's place. */
async function edit(path: string, change: (config: Config, document: Document) => void): Promise<Config> {
  // Where the path is a link the file behind it is replaced, not the link.
  const file = await realpath(path).catch(() => path);
  await mkdir(dirname(file), { recursive: true });
  return locked(file, async () => {
    for (;;) {
      const before = await readConfigFile(file);
      const config = parseConfig(path, before ?? '');
      const after = changed(before ?? '', (document) => change(config, document));
      const edited = parseConfig(path, after);
      // An editor knows nothing of our lock: what it saved meanwhile is edited, not overwritten.
      if (await replaceFile(file, before, after, privateMode(edited))) return edited;
    }
  });
}

function changed(source: string, change: (document: Document) => void): string {
  const { document } = parseYaml(source.replaceAll('\r\n', '\n'));
  change(document);
  const text = document.toString({ lineWidth: 0 });
  return source.includes('\r\n') ? text.replaceAll('\n', '\r\n') : text;
}

/** The map of deployments, made when there is none. */
function deploymentsOf(document: Document): YAMLMap {
  if (!isMap(document.contents)) document.contents = new YAMLMap();
  const root = document.contents as YAMLMap;
  const pair = pairOf(root, 'deployments');
  if (isMap(pair?.value)) {
    const { value } = pair;
    // What was written as {} grows in lines of its own.
    if (value.items.length === 0) value.flow = false;
    return value;
  }
  const map = new YAMLMap();
  if (pair) {
    // The keys may all be comments, which hang on the empty value.
    const empty = pair.value as Scalar | null;
    map.commentBefore = empty?.commentBefore ?? empty?.comment ?? null;
    pair.value = map;
  } else {
    const key = new Scalar('deployments');
    key.spaceBefore = root.items.length > 0;
    root.add(new Pair(key, map));
  }
  return map;
}

function written(value: string | readonly string[]): Scalar | YAMLSeq {
  if (typeof value === 'string') return quoted(value);
  const list = new YAMLSeq();
  list.flow = true;
  for (const word of value) list.add(quoted(word));
  return list;
}

function quoted(text: string): Scalar {
  const scalar = new Scalar(text);
  scalar.type = Scalar.QUOTE_DOUBLE;
  return scalar;
}

function editByHand(file: string): LifeboatError {
  return new LifeboatError('ConfigInvalid', `${file} has its deployments in a form that only a person can edit`);
}

/** Whether only the owner may read the file. */
function privateMode(config: Config): boolean {
  const sources = [
    config.blockstore,
    config.syncStore,
    config.oplogStore,
    ...[...config.deployments.values()].map(({ source }) => source),
  ];
  return sources.some((source) => source !== null && 'uri' in source && holdsPassword(source.uri));
}

/** Puts `after` in the place of `before`, at once and durably; false when the file holds something else by now. */
async function replaceFile(file: string, before: string | undefined, after: string, secret: boolean): Promise<boolean> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.new`;
  const old = await stat(file).catch(() => undefined);
  const handle = await open(temporary, 'wx', 0o600);
  try {
    try {
      await handle.writeFile(after);
      await keepOwner(handle, old);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await chmod(temporary, secret ? 0o600 : (old?.mode ?? 0o644) & 0o777);
    if ((await readConfigFile(file)) !== before) return false;
    await rename(temporary, file);
    return true;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** A worker of another user must still be able to read what root edited. */
async function keepOwner(
  handle: FileHandle,
  old: { readonly uid: number; readonly gid: number } | undefined,
): Promise<void> {
  const { uid, gid } = await handle.stat();
  if (old && (old.uid !== uid || old.gid !== gid)) await handle.chown(old.uid, old.gid).catch(() => undefined);
}

/** Runs `work` while no other edit of this file runs. */
async function locked<T>(file: string, work: () => Promise<T>): Promise<T> {
  const lock = `${file}.lock`;
  for (;;) {
    try {
      await (await open(lock, 'wx')).close();
      break;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) {
        throw new LifeboatError('ConfigInvalid', `${dirname(file)} cannot be written to`, { cause: error });
      }
    }
    const age = await stat(lock).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > STALE_LOCK_MS) await rm(lock, { force: true });
    await delay(LOCK_RETRY_MS);
  }
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}
