/** `npm run bench [-- --json] [-- --scale N]`: figures beside the peers that are installed. */
import { ownEnvironment } from './lib/environment.mjs';
import { prepare } from './lib/prepare.mjs';
import { main, run } from './lib/project.mjs';

await main(async () => {
  const node = await prepare(['build', 'binaries']);
  return run(node, ['bench/main.ts', ...process.argv.slice(2)], { env: ownEnvironment() });
});
