/** `npm run lint`: rules, format and types; all are tried, so that one run shows everything. */
import { join } from 'node:path';
import { prepare } from './lib/prepare.mjs';
import { main, NODE_MODULES, run, say } from './lib/project.mjs';

const checks = [
  ['eslint', ['eslint', 'bin', 'eslint.js'], ['--max-warnings=0', '.']],
  ['prettier', ['prettier', 'bin', 'prettier.cjs'], ['--check', '--log-level=warn', '.']],
  ['tsc', ['typescript', 'bin', 'tsc'], ['-p', 'tsconfig.json']],
];

await main(async () => {
  const node = await prepare([]);
  let failed = 0;
  for (const [name, path, args] of checks) {
    const code = await run(node, [join(NODE_MODULES, ...path), ...args]);
    say(`${name}: ${code === 0 ? 'clean' : 'failed'}`);
    if (code !== 0) failed = 1;
  }
  return failed;
});
