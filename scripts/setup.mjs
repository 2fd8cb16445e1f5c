/** `npm run setup`: all that the checkout needs; afterwards `npx lifeboat` works in it. */
import { prepare } from './lib/prepare.mjs';
import { main, say } from './lib/project.mjs';

await main(async () => {
  await prepare(['build', 'binaries']);
  say('ready: npx lifeboat --help');
});
