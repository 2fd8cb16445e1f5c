/** `npm test [-- ARGS]`: every test, or the files and options given, on the sources; ends with the runner's summary. */
import { readFileSync } from 'node:fs';
import { ownEnvironment } from './lib/environment.mjs';
import { prepare } from './lib/prepare.mjs';
import { main, run } from './lib/project.mjs';

/** Each file has servers of its own: two at a time is what a small machine bears. */
const CONCURRENCY = 2;

/** What takes longer hangs, in milliseconds: it fails by its name, and the rest is run. */
const TIMEOUT = 20 * 60_000;

/** What tests import that run servers of other versions, which take a while to download. */
const OF_OTHER_VERSIONS = 'support/mongods.ts';

await main(async () => {
  const args = process.argv.slice(2);
  const named = args.filter((arg) => arg.endsWith('.ts'));
  const needsMongods = named.length === 0 || named.some(asksForMongods);
  const node = await prepare(['binaries', ...(needsMongods ? ['mongods'] : [])]);
  const files = named.length > 0 ? [] : ['test/**/*.test.ts'];
  const env = { ...ownEnvironment(), LIFEBOAT_RUN_SOURCES: '1' };
  return run(node, ['--test', `--test-concurrency=${CONCURRENCY}`, `--test-timeout=${TIMEOUT}`, ...args, ...files], {
    env,
  });
});

function asksForMongods(file) {
  return readFileSync(file, 'utf8').includes(OF_OTHER_VERSIONS);
}
