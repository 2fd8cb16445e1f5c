/** Finding the binaries of mongod and temporal: the environment, the PATH, then the project's own cache. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LifeboatError } from '../shared/errors.ts';

export type BinaryName = 'mongod' | 'temporal';

const variables = { mongod: 'LIFEBOAT_MONGOD', temporal: 'LIFEBOAT_TEMPORAL' } as const;

/** Where the set-up puts what it brings: `.cache/bin` of the package, or `LIFEBOAT_CACHE`. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return env['LIFEBOAT_CACHE'] ?? fileURLToPath(new URL('../../.cache', import.meta.url));
}

async function executable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/**
 * The path of a binary.
 * @throws LifeboatError `BinaryMissing` when it is nowhere, or when the environment names one that is not there
 */
export async function findBinary(name: BinaryName, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const variable = variables[name];
  const named = env[variable];
  if (named !== undefined && named !== '') {
    if (await executable(named)) return named;
    throw new LifeboatError('BinaryMissing', `${variable} names ${named}, which cannot be executed`);
  }
  const folders = [...(env['PATH'] ?? '').split(delimiter).filter(Boolean), join(cacheFolder(env), 'bin')];
  for (const folder of folders) {
    if (await executable(join(folder, name))) return join(folder, name);
  }
  throw new LifeboatError(
    'BinaryMissing',
    `no ${name} was found in ${variable}, on the PATH or in the project's cache`,
  );
}
