#!/usr/bin/env node
/**
 * The command `lifeboat`: runs on the Node.js that called it if that is new enough, else on the packaged one.
 * In a checkout LIFEBOAT_RUN_SOURCES=1 runs the sources instead of what was built from them.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { findNode24, NO_NODE, runsOnNode24 } from '../scripts/lib/node24.mjs';

const entry = new URL(
  process.env.LIFEBOAT_RUN_SOURCES === '1' ? '../src/cli/main.ts' : '../dist/cli/main.js',
  import.meta.url,
);

/**
 * How V8 collects garbage in a worker. Megabytes go through it in buffers outside of V8's heap, and by default V8 marks all
 * of its heap whenever 64 MB of them came together: as much processor time as all the rest. Counted with the heap they
 * are collected a third as often, in as much memory as before, if the bound of the heap is not that of a whole machine
 * (docs/performance.md).
 */
const HEAP = '--max-old-space-size=640';
const COUNTED = '--external-memory-accounted-in-global-limit';

if (!existsSync(entry)) {
  fail(`${fileURLToPath(entry)} is not there: run \`npm run setup\` in the checkout first.`);
} else if (runsOnNode24()) {
  if (isWorker() && !isBounded() && process.execve)
    process.execve(process.execPath, [process.execPath, HEAP, ...nodeArguments()], process.env);
  // Not as an argument: a V8 that does not know it ignores it here, and would end there.
  if (isWorker()) setFlagsFromString(COUNTED);
  await import(entry.href);
} else {
  const node = await findNode24();
  if (node === undefined) fail(NO_NODE);
  else handOver(node);
}

/** Another command with such a word does not need more, either. */
function isWorker() {
  return process.argv.slice(2).includes('worker');
}

/** A bound that somebody has set is kept to. */
function isBounded() {
  const given = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].join(' ').replaceAll('_', '-');
  return /--max-(old-space|heap)-size/.test(given);
}

function nodeArguments() {
  return [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
}

function fail(text) {
  process.stderr.write(`lifeboat: ${text}\n`);
  process.exitCode = 2;
}

/** The other process takes our place: it has our streams, gets our signals, and its end is ours. */
function handOver(node) {
  const child = spawn(node, nodeArguments(), { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR2']) process.on(signal, () => child.kill(signal));
  child.once('error', (error) => fail(`${node} could not be started (${error.code})`));
  child.once('exit', (code, signal) => {
    if (code !== null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
