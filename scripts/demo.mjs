/** `npm run demo [-- --keep] [-- --json]`: the whole lifecycle on this machine, ended by a proof. */
import { ownEnvironment } from './lib/environment.mjs';
import { prepare } from './lib/prepare.mjs';
import { main, run } from './lib/project.mjs';

await main(async () => {
  const node = await prepare(['build', 'binaries']);
  return run(node, ['dist/demo/main.js', ...process.argv.slice(2)], { env: ownEnvironment() });
});
