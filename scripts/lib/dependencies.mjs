/** `npm ci`, when the installed packages are not those of package-lock.json. */
import { join } from 'node:path';
import { environmentOutside, NODE_MODULES, ROOT, run, say, SetupError } from './project.mjs';
import { hashOf, readStamp, writeStamp } from './stamps.mjs';

const STAMP = join(NODE_MODULES, '.lifeboat-setup');

export async function provideDependencies() {
  const wanted = await hashOf([join(ROOT, 'package-lock.json')]);
  if ((await readStamp(STAMP)) === wanted) return;
  say('installing the packages of package-lock.json (npm ci)');
  // No package here needs its install script: they only check what they are installed on. Not running them is safer,
  // and the same with every version of npm.
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  // What npm prints is about packages: it goes where the set-up speaks.
  const code = await run('npm', args, { env: environmentOutside(), stdio: ['ignore', 2, 2] }).catch((error) => {
    throw new SetupError(`npm could not be started (${error.code}); it comes with Node.js`);
  });
  if (code !== 0)
    throw new SetupError('npm ci failed, see above; it needs a registry that can be reached, or a full cache');
  await writeStamp(STAMP, wanted);
}
