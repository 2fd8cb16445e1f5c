/**
 * Connection strings that a program prints, such as a client of a vault. Run without a shell, on the machine that needs
 * the string. Nothing that it prints is ever shown: it may be the secret, or speak of it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { LifeboatError } from '../shared/errors.ts';

/** A program and its arguments. */
export type SecretCommand = readonly [program: string, ...args: string[]];

/** How long it may run, in milliseconds, and how much it may print. */
const TIME_LIMIT_MS = 10_000;
const MAX_BYTES = 64 * 1024;
/** How long an answer is used before the program is run again, in milliseconds. */
const FRESH_MS = 60_000;

/** Runs commands, and keeps what they answered for a minute: a backup asks for its connection string very often. */
export class SecretCommands {
  readonly #env: NodeJS.ProcessEnv;
  readonly #answers = new Map<string, { readonly until: number; readonly text: Promise<string> }>();

  constructor(env: NodeJS.ProcessEnv) {
    this.#env = env;
  }

  /**
   * What the command prints, without white space around it.
   * @param owner what needs it, for the message
   * @throws LifeboatError `SecretCommandFailed`
   */
  async read(command: SecretCommand, owner: string): Promise<string> {
    const key = JSON.stringify(command);
    const known = this.#answers.get(key);
    if (known && performance.now() < known.until) return known.text;
    const text = outputOf(command, owner, this.#env);
    const answer = { until: performance.now() + FRESH_MS, text };
    this.#answers.set(key, answer);
    try {
      return await text;
    } catch (error) {
      if (this.#answers.get(key) === answer) this.#answers.delete(key);
      throw error;
    }
  }

  /** Runs every command again the next time: what it last printed has turned out to be of no use. */
  forget(): void {
    this.#answers.clear();
  }
}

async function outputOf([program, ...args]: SecretCommand, owner: string, env: NodeJS.ProcessEnv): Promise<string> {
  const failed = (how: string, cause?: unknown): LifeboatError =>
    new LifeboatError('SecretCommandFailed', `the command ${program}, which ${owner} needs, ${how}`, { cause });
  // A process group of its own, so that what the program itself started ends with it.
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise<string>((settle, fail) => {
    const refuse = (error: LifeboatError): void => {
      clearTimeout(timer);
      end(child);
      fail(error);
    };
    const timer = setTimeout(() => refuse(failed(`did not end within ${TIME_LIMIT_MS / 1000} seconds`)), TIME_LIMIT_MS);
    child.once('error', (error) => refuse(failed('could not be executed', error)));
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > MAX_BYTES) refuse(failed('printed more than a connection string'));
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      const text = Buffer.concat(chunks).toString('utf8').trim();
      if (code !== 0)
        fail(failed(code === null ? `was ended by ${signal ?? 'a signal'}` : `ended with exit code ${code}`));
      else if (text === '') fail(failed('printed nothing'));
      else settle(text);
    });
  });
}

function end(child: ChildProcess): void {
  child.stdout?.destroy();
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
