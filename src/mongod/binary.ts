/** Which mongod opens the files of which version: one of the same major version, and no other. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findBinary } from '../embedded/binaries.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';

const run = promisify(execFile);

/** `6.0` of `6.0.5`. */
export function majorVersion(version: string): string {
  return version.split('.').slice(0, 2).join('.');
}

/**
 * Why a mongod of that version (`x.y.z`) cannot have entries applied to it, undefined when it can. Up to 5.0.6 one refuses to take a
 * document out of a capped collection (SERVER-63201), while entries of 5.0 tell it to.
 */
export function whatItLacks(version: string): string | undefined {
  const [major, minor, patch] = version.split('.').map(Number);
  if (major !== 5 || minor !== 0 || patch === undefined || patch >= 7) return undefined;
  return 'of 5.0 it has to be 5.0.7 or newer, whichever the source runs, to take documents out of capped collections';
}

/**
 * The `x.y.z` of a binary.
 * @throws LifeboatError `MongodMissing` when it cannot be executed or does not tell
 */
export async function mongodVersion(path: string): Promise<string> {
  const output = await run(path, ['--version'], { timeout: 30_000 }).then(
    ({ stdout }) => stdout,
    () => '',
  );
  const version = /db version v(\d+\.\d+\.\d+)/.exec(output)?.[1];
  if (version === undefined) throw new LifeboatError('MongodMissing', `${path} is not a mongod that can be executed`);
  return version;
}

/**
 * The path of a mongod of the major version of `version` (`x.y.z`).
 * @param configured `daemon.mongod` of the configuration, by major version
 * @throws LifeboatError `MongodMissing` when there is none at all, `UnsupportedVersion` when there is one of another version
 */
export async function mongodFor(
  version: string,
  configured?: ReadonlyMap<string, string>,
  env?: NodeJS.ProcessEnv,
): Promise<string> {
  return (await findVersion(version, configured, env)).path;
}

/**
 * The same, for a mongod that entries are applied to.
 * @throws LifeboatError as mongodFor; `UnsupportedVersion` also of one that lacks what that takes
 */
export async function headMongodFor(
  version: string,
  configured?: ReadonlyMap<string, string>,
  env?: NodeJS.ProcessEnv,
): Promise<string> {
  const { path, found } = await findVersion(version, configured, env);
  const lacks = whatItLacks(found);
  if (lacks === undefined) return path;
  throw new LifeboatError('UnsupportedVersion', `${path} is version ${found}: ${lacks}`);
}

async function findVersion(
  version: string,
  configured: ReadonlyMap<string, string> = new Map(),
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ readonly path: string; readonly found: string }> {
  const major = majorVersion(version);
  const path = configured.get(major) ?? (await findMongod(env));
  const found = await mongodVersion(path);
  if (majorVersion(found) === major) return { path, found };
  throw new LifeboatError('UnsupportedVersion', `${path} is version ${found}, and the data is of ${version}`);
}

async function findMongod(env: NodeJS.ProcessEnv): Promise<string> {
  try {
    return await findBinary('mongod', env);
  } catch (error) {
    throw isLifeboatError(error, 'BinaryMissing') ? new LifeboatError('MongodMissing', error.message) : error;
  }
}
