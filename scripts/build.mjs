/** `npm run build`: dist/, compiled and bundled. */
import { prepare } from './lib/prepare.mjs';
import { main } from './lib/project.mjs';

await main(async () => {
  await prepare(['build']);
});
