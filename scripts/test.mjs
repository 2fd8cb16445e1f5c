/** `npm test [-- ARGS]`: every test, or the files and options given, on the sources; ends with the runner's summary. */
import { ownEnvironment } from './lib/environment.mjs';
import { prepare } from './lib/prepare.mjs';
import { main, run } from './lib/project.mjs';

/** Each file has servers of its own: two at a time is what a small machine bears. */
const CONCURRENCY = 2;

await main(async () => {
  const node = await prepare(['binaries']);
  const args = process.argv.slice(2);
  const files = args.some((arg) => arg.endsWith('.ts')) ? [] : ['test/**/*.test.ts'];
  const env = { ...ownEnvironment(), LIFEBOAT_RUN_SOURCES: '1' };
  return run(node, ['--test', `--test-concurrency=${CONCURRENCY}`, ...args, ...files], { env });
});
