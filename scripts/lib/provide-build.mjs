/** `dist/`: compiled sources and the workflows in one bundle; made anew when the sources have changed. */
import { existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { main, NODE_MODULES, ROOT, run, say, SetupError } from './project.mjs';
import { hashOf, readStamp, writeStamp } from './stamps.mjs';

const DIST = join(ROOT, 'dist');
/** Beside `dist`, so that the paths in source maps hold; it takes the place of `dist` when it is whole. */
const NEXT = join(ROOT, 'dist.next');

await main(async () => {
  const inputs = ['src', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json'].map((name) => join(ROOT, name));
  const wanted = await hashOf(inputs);
  if ((await readStamp(join(DIST, '.stamp'))) === wanted) return;
  say('compiling src to dist');
  await rm(NEXT, { recursive: true, force: true });
  const tsc = join(NODE_MODULES, 'typescript', 'bin', 'tsc');
  const code = await run(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', NEXT], {
    stdio: ['ignore', 2, 2],
  });
  if (code !== 0) throw new SetupError('the sources do not compile');
  const workflows = join(NEXT, 'workflows', 'index.js');
  if (existsSync(workflows)) await writeFile(join(NEXT, 'workflow-bundle.js'), await bundle(workflows));
  await writeStamp(join(NEXT, '.stamp'), wanted);
  await rm(DIST, { recursive: true, force: true });
  await rename(NEXT, DIST);
});

async function bundle(workflowsPath) {
  say('bundling the workflows');
  const { bundleWorkflowCode, DefaultLogger } = await import('@temporalio/worker');
  const { code } = await bundleWorkflowCode({ workflowsPath, logger: new DefaultLogger('WARN') });
  return code;
}
