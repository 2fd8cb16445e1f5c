#!/usr/bin/env node
/**
 * The command `lifeboat`: runs on the Node.js that called it if that is new enough, else on the packaged one.
 * In a checkout LIFEBOAT_RUN_SOURCES=1 runs the sources instead of what was built from them.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { findNode24, NO_NODE, runsOnNode24 } from '../scripts/lib/node24.mjs';

const entry = new URL(
  process.env.LIFEBOAT_RUN_SOURCES === '1' ? '../src/cli/main.ts' : '../dist/cli/main.js',
  import.meta.url,
);

if (!existsSync(entry)) {
  fail(`${fileURLToPath(entry)} is not there: run \`npm run setup\` in the checkout first.`);
} else if (runsOnNode24()) {
  await import(entry.href);
} else {
  const node = await findNode24();
  if (node === undefined) fail(NO_NODE);
  else handOver(node);
}

function fail(text) {
  process.stderr.write(`lifeboat: ${text}\n`);
  process.exitCode = 2;
}

/** The other process takes our place: it has our streams, gets our signals, and its end is ours. */
function handOver(node) {
  const self = fileURLToPath(import.meta.url);
  const child = spawn(node, [...process.execArgv, self, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) process.on(signal, () => child.kill(signal));
  child.once('error', (error) => fail(`${node} could not be started (${error.code})`));
  child.once('exit', (code, signal) => {
    if (code !== null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
