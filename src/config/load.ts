/** Reading `lifeboat.yaml`, once or again whenever it was edited. */
import type { Stats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LifeboatError } from '../shared/errors.ts';
import { mistakesOf, parseYaml, type Mistake, type ParsedFile } from './document.ts';
import { configPath, type ConfigChoice } from './path.ts';
import { configOf, fileSchema, type Config } from './schema.ts';

/**
 * Reads the configuration. URIs stay as they are written: see uris.ts.
 * @throws LifeboatError `ConfigMissing`; `ConfigInvalid` or `NotBuiltYet` with file, line and column of each mistake
 */
export async function loadConfig(choice: ConfigChoice): Promise<Config> {
  const file = configPath(choice);
  const source = await readConfigFile(file);
  if (source !== undefined) return parseConfig(file, source);
  if (choice.file === undefined) return parseConfig(file, '');
  throw new LifeboatError('ConfigMissing', `there is no file ${file}`);
}

/**
 * The text of the file, or undefined when there is none.
 * @throws LifeboatError `ConfigInvalid` when it cannot be read
 */
export async function readConfigFile(file: string): Promise<string | undefined> {
  try {
    // Reading a pipe that nobody writes to would never end.
    if (!isReadable(await stat(file))) throw new LifeboatError('ConfigInvalid', `${file} is no regular file`);
    return await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof LifeboatError) throw error;
    if (isErrno(error, 'ENOENT')) return undefined;
    const why = isErrno(error, 'EISDIR')
      ? 'it is a folder'
      : isErrno(error, 'EACCES')
        ? 'permission denied'
        : 'it is no readable file';
    throw new LifeboatError('ConfigInvalid', `${file} cannot be read: ${why}`, { cause: error });
  }
}

/**
 * The configuration that a text stands for.
 * @param file its absolute path: named in refusals, and where its relative paths begin
 * @throws LifeboatError `ConfigInvalid` or `NotBuiltYet`
 */
export function parseConfig(file: string, source: string): Config {
  const parsed = parseYaml(source);
  if (parsed.mistakes.length > 0) throw refusal(file, parsed.mistakes);
  const written = fileSchema.safeParse(contentOf(file, parsed) ?? {});
  if (!written.success) throw refusal(file, mistakesOf(parsed, written.error.issues));
  return configOf(file, written.data, (path) => resolve(dirname(file), path));
}

function contentOf(file: string, { document }: ParsedFile): unknown {
  try {
    return document.toJS();
  } catch (cause) {
    // Aliases of aliases of aliases: the parser stops before the memory does.
    throw new LifeboatError('ConfigInvalid', `${file}:1:1: its aliases stand for too much`, { cause });
  }
}

/** One line for each mistake, in the order of the file. */
function refusal(file: string, mistakes: readonly Mistake[]): LifeboatError {
  const lines = mistakes
    .toSorted((a, b) => a.line - b.line || a.column - b.column)
    .map(({ line, column, key, text }) => `${file}:${line}:${column}: ${key === '' ? text : `${key} ${text}`}`);
  const kind = mistakes.every(({ notBuiltYet }) => notBuiltYet) ? 'NotBuiltYet' : 'ConfigInvalid';
  return new LifeboatError(kind, lines.join('\n'));
}

/** A configuration that follows its file. */
export interface WatchedConfig {
  /**
   * The configuration as the file has it now. After an edit that cannot be read, the last good one, and as `problem`
   * why the edit is not in effect.
   */
  read(): Promise<{ readonly config: Config; readonly problem: LifeboatError | null }>;
}

/**
 * A configuration that is read again, when asked for, whenever its file was edited, replaced, made or removed.
 * @throws LifeboatError like `loadConfig`, when there is nothing good to begin with
 */
export async function watchableConfig(choice: ConfigChoice): Promise<WatchedConfig> {
  const file = configPath(choice);
  // The stamp is taken before the text: an edit in between is only read once more.
  let stamp = await stampOf(file);
  let current: { readonly config: Config; readonly problem: LifeboatError | null } = {
    config: await loadConfig(choice),
    problem: null,
  };
  return {
    async read() {
      if ((await stampOf(file)) === stamp) return current;
      stamp = await steadyStamp(file);
      try {
        current = { config: await loadConfig(choice), problem: null };
      } catch (error) {
        if (!(error instanceof LifeboatError)) throw error;
        current = { config: current.config, problem: error };
      }
      return current;
    },
  };
}

/** For how long a file must stand still before it is read, and one that is empty or gone is believed, in milliseconds. */
const STEADY_MS = 200;
const HOLLOW_MS = 2_000;
/** A file that is written to all the time is read as it is, in milliseconds. */
const MOST_WAIT_MS = 10_000;

/**
 * The stamp of a file that is not being written just now. Many an editor empties a file and writes it anew, or takes it
 * away for a moment: what is read in between would lack deployments whose backups run.
 */
async function steadyStamp(file: string): Promise<string> {
  const beganAt = performance.now();
  let stamp = await stampOf(file);
  for (let since = beganAt; ;) {
    const now = performance.now();
    const wanted = /^(absent|\d+ 0 .*)$/.test(stamp) ? HOLLOW_MS : STEADY_MS;
    if (now - since >= wanted || now - beganAt >= MOST_WAIT_MS) return stamp;
    await delay(50);
    const next = await stampOf(file);
    if (next !== stamp) since = performance.now();
    stamp = next;
  }
}

/** Changes whenever the file may have: the number of its inode, its size, its times. */
async function stampOf(file: string): Promise<string> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return [ino, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return 'absent';
  }
}

/** A folder is refused by the reading itself. */
function isReadable(found: Stats): boolean {
  return found.isFile() || found.isDirectory();
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
