/** Calling the real command line, as a person would. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LifeboatError } from '../shared/errors.ts';

const LAUNCHER = fileURLToPath(new URL('../../bin/lifeboat.mjs', import.meta.url));

export interface CommandLine {
  readonly home: string;
  readonly config: string;
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Runs `lifeboat … --json` and gives back its one JSON document. What it says to people goes to our standard error.
 * @throws LifeboatError with the command's own words when it fails
 */
export async function lifeboat<T>(where: CommandLine, words: readonly string[], signal: AbortSignal): Promise<T> {
  const flags = ['--home', where.home, '--config', where.config, '--json'];
  const child = spawn(process.execPath, [LAUNCHER, ...flags, ...words], {
    env: where.env,
    signal,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const code = await new Promise<number | null>((settle, fail) => {
    child.once('error', fail);
    child.once('close', settle);
  });
  if (code === 0) return JSON.parse(output) as T;
  throw new LifeboatError('Internal', `lifeboat ${words.join(' ')} ended with ${code}: ${failureIn(output)}`);
}

function failureIn(output: string): string {
  try {
    const { error } = JSON.parse(output) as { error?: { code: string; message: string } };
    return error ? `${error.code} ${error.message}` : output;
  } catch {
    return output;
  }
}
