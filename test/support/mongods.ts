/** mongods of other versions than the one that most tests run (scripts/lib/mongods.mjs brings them). */
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../../src/embedded/binaries.ts';
import { majorVersion, mongodVersion } from '../../src/mongod/binary.ts';

/** What the set-up has: 4.4.2, 5.0.32 and 6.0.27, or what LIFEBOAT_MONGOD_4_4, _5_0 and _6_0 name. */
export const OTHER_VERSIONS = ['4.4', '5.0', '6.0.27'] as const;
export type OtherVersion = (typeof OTHER_VERSIONS)[number];

export type OtherMongod =
  | { readonly path: string; readonly version: string; readonly major: string }
  /** Why there is none on this machine. */
  | { readonly missing: string };

/** The mongod of a version, with what it needs to run. */
export async function mongodOf(name: OtherVersion): Promise<OtherMongod> {
  const major = majorVersion(name);
  const variable = `LIFEBOAT_MONGOD_${major.replace('.', '_')}`;
  const named = process.env[variable];
  const folder = join(cacheFolder(), 'mongods');
  const path = named ?? join(folder, name, 'mongod');
  if (named === undefined && !(await isThere(path))) {
    const why = await readFile(join(folder, `${name}.missing`), 'utf8').catch(
      () => 'the set-up of `npm test` brings it',
    );
    return { missing: `there is no mongod ${name}: ${why.trim()}` };
  }
  const version = await mongodVersion(path);
  if (majorVersion(version) !== major) throw new Error(`${variable} names a mongod of version ${version}`);
  return { path, version, major };
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
