/** Where things are in the checkout, and how the scripts speak. Plain JavaScript for Node 20: it runs before `npm ci`. */
import { spawn } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const NODE_MODULES = join(ROOT, 'node_modules');
export const CACHE = process.env.LIFEBOAT_CACHE ?? join(ROOT, '.cache');

/** What the scripts say goes to standard error: standard output belongs to what they run. */
export function say(text) {
  process.stderr.write(`lifeboat: ${text}\n`);
}

/** A failure that its text explains whole, so that no stack is shown. */
export class SetupError extends Error {}

/** Runs the body of a script and turns its outcome into an exit code. */
export async function main(body) {
  try {
    process.exitCode = (await body()) ?? 0;
  } catch (error) {
    // An error of the project's own says whole what is wrong and what mends it.
    const whole = error instanceof SetupError ? error.message : error?.fix && `${error.message}. ${error.fix}`;
    say(whole ?? String(error?.stack ?? error));
    process.exitCode = 1;
  }
}

/** The environment without the folder of the installed Node, which `npm ci` removes while it runs. */
export function environmentOutside() {
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.startsWith(NODE_MODULES));
  return { ...process.env, PATH: path.join(delimiter) };
}

/**
 * Runs a program with our standard streams, passes on the signals that would end us, and gives back its exit code.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {import('node:child_process').SpawnOptions} options
 * @returns {Promise<number>}
 */
export function run(program, args, options = {}) {
  return new Promise((settle, fail) => {
    const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], ...options });
    const pass = (signal) => child.kill(signal);
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, pass);
    const after = (then) => (value, signal) => {
      for (const name of signals) process.off(name, pass);
      then(value, signal);
    };
    child.once('error', after(fail));
    child.once(
      'close',
      after((code, signal) => settle(code ?? (signal === 'SIGINT' ? 130 : 1))),
    );
  });
}

/**
 * Runs a program and gives back what it printed on both streams; code null stands for a program that could not be
 * started or was ended after `timeoutMs`.
 * @returns {Promise<{code: number | null, output: string}>}
 */
export function capture(program, args, { timeoutMs = 30_000, ...options } = {}) {
  return new Promise((settle) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      ...options,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.once('error', (error) => settle({ code: null, output: error.message }));
    child.once('close', (code) => settle({ code, output }));
  });
}
