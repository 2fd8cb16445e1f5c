/** Telling whether something was already made from what is there now. */
import { createHash } from 'node:crypto';
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { ROOT } from './project.mjs';

/** SHA-256 over names in the checkout and contents of files and whole folders, in a fixed order. */
export async function hashOf(paths) {
  const hash = createHash('sha256');
  const add = async (path) => {
    const entries = await readdir(path, { withFileTypes: true }).catch((error) => {
      if (error.code === 'ENOTDIR') return undefined;
      throw error;
    });
    if (entries === undefined) {
      const bytes = await readFile(path);
      hash.update(`${relative(ROOT, path)}\0${bytes.length}\0`).update(bytes);
      return;
    }
    const names = entries.map((entry) => entry.name).sort();
    for (const name of names) await add(join(path, name));
  };
  for (const path of paths) await add(path);
  return hash.digest('hex');
}

/** The stamp in a file, or '' when there is none. */
export async function readStamp(path) {
  return (await readFile(path, 'utf8').catch(() => '')).trim();
}

/** Written whole or not at all. */
export async function writeStamp(path, stamp) {
  await writeFile(`${path}.new`, `${stamp}\n`);
  await rename(`${path}.new`, path);
}
