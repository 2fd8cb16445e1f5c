/** `npm run fuzz [-- --runs N] [-- --seed S]`: random workloads beside a backup, compared. */
import { ownEnvironment } from './lib/environment.mjs';
import { prepare } from './lib/prepare.mjs';
import { main, run } from './lib/project.mjs';

await main(async () => {
  const node = await prepare(['binaries', 'mongods']);
  const env = { ...ownEnvironment(), LIFEBOAT_RUN_SOURCES: '1' };
  return run(node, ['test/fuzz/main.ts', ...process.argv.slice(2)], { env });
});
