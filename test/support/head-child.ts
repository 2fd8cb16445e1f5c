/**
 * A process that applies entries to a head until it is killed, or woken up too late. Run with one argument: HeadChildPlan
 * as JSON. Prints `open` when the head is, then `applied`, or the code of the error that ended it.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { execPath } from 'node:process';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { isLifeboatError } from '../../src/shared/errors.ts';
import type { HeadIdentity } from '../../src/head/types.ts';
import { applyAll, openHead } from './head.ts';

export interface HeadChildPlan {
  readonly dataDir: string;
  readonly identity: HeadIdentity;
  readonly epoch: number;
  /** A file of raw entries. */
  readonly entries: string;
  readonly atomic: boolean;
}

export interface HeadChild {
  readonly process: ChildProcess;
  /** Everything it has printed. */
  output(): string;
  readonly exited: Promise<void>;
}

export function startHeadChild(plan: HeadChildPlan): HeadChild {
  const child = spawn(execPath, [fileURLToPath(import.meta.url), JSON.stringify(plan)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const exited = once(child, 'exit').then(() => undefined);
  return { process: child, output: () => output, exited };
}

async function main(plan: HeadChildPlan): Promise<void> {
  const { dataDir, identity, epoch, atomic } = plan;
  const head = await openHead(dataDir, identity, { epoch, atomic });
  process.stdout.write('open\n');
  await applyAll(head, await readFile(plan.entries));
  process.stdout.write('applied\n');
  await head.close();
}

const [, script, plan] = process.argv;
if (plan !== undefined && script === fileURLToPath(import.meta.url)) {
  try {
    await main(JSON.parse(plan) as HeadChildPlan);
  } catch (error) {
    if (!isLifeboatError(error)) throw error;
    process.stdout.write(`${error.code}\n`);
  }
}
