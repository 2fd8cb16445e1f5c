/** The set-up that every command does first: quick when all is there. */
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { provideDependencies } from './dependencies.mjs';
import { withLock } from './lock.mjs';
import { findNode24, NO_NODE } from './node24.mjs';
import { CACHE, NODE_MODULES, ROOT, run, SetupError } from './project.mjs';

/** npm links the commands of dependencies, not that of the package itself: with this link `npx lifeboat` finds it. */
async function linkCommand() {
  try {
    await symlink('../../bin/lifeboat.mjs', join(NODE_MODULES, '.bin', 'lifeboat'));
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
}

/**
 * Provides packages, and what is asked for of `build`, `binaries` and `mongods`.
 * @param {readonly ('build' | 'binaries' | 'mongods')[]} pieces
 * @returns {Promise<string>} the path of the Node.js to run the project with
 */
export async function prepare(pieces) {
  await mkdir(CACHE, { recursive: true });
  return withLock(join(CACHE, 'setup.lock'), async () => {
    await provideDependencies();
    await linkCommand();
    const node = await findNode24();
    if (node === undefined) throw new SetupError(NO_NODE);
    for (const piece of pieces) {
      // On Node 24, so that these may use the packages and the project's own sources.
      const code = await run(node, [join(ROOT, 'scripts', 'lib', `provide-${piece}.mjs`)]);
      if (code !== 0) throw new SetupError('the set-up stopped: see above');
    }
    return node;
  });
}
