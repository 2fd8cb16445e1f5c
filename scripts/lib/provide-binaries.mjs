/** A mongod and a temporal for this machine: those that are there, else downloaded into the project's cache. */
import { join } from 'node:path';
import { findBinary } from '../../src/embedded/binaries.ts';
import { acquire } from './downloads.mjs';
import { CACHE, main, say } from './project.mjs';

await main(async () => {
  for (const name of ['mongod', 'temporal']) {
    try {
      await findBinary(name);
    } catch (error) {
      const variable = `LIFEBOAT_${name.toUpperCase()}`;
      // Whoever names a binary wants that one and no other.
      if (process.env[variable]) throw error;
      say(`no ${name} in ${variable}, on the PATH or in the cache`);
      await acquire(name, join(CACHE, 'bin', name));
    }
  }
});
