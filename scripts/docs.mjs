/** `npm run docs`: docs/reference/ and docs/oplog-entries.md, written anew from the code. */
import { prepare } from './lib/prepare.mjs';
import { main, run } from './lib/project.mjs';

await main(async () => {
  const node = await prepare([]);
  return run(node, ['scripts/reference/main.ts']);
});
