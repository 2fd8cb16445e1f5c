/** Running the real command line in a folder of its own, with nothing of our environment that could lead elsewhere. */
import { spawn } from 'node:child_process';
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { testFolder } from './folders.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

export interface CliRun {
  /** 128 + n is how a shell tells of signal n; a process that handles it ends with a code of its own. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** How long it ran, in milliseconds. */
  readonly tookMs: number;
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Sends SIGINT as soon as standard error matches. */
  readonly interruptAt?: RegExp;
  /** The same for standard output. */
  readonly interruptAtOutput?: RegExp;
}

export interface CliFolder extends AsyncDisposable {
  readonly path: string;
  run(words: readonly string[], options?: CliOptions): Promise<CliRun>;
  /** Runs with `--json`; standard output must be exactly one JSON document. */
  json(
    words: readonly string[],
    options?: CliOptions,
  ): Promise<{ readonly code: number | null; readonly document: Document }>;
}

/** What every document may hold. */
export interface Document extends Readonly<Record<string, unknown>> {
  readonly error?: { readonly code: string; readonly message: string; readonly fix: string };
}

export async function cliFolder(): Promise<CliFolder> {
  const folder = await testFolder();
  const run = (words: readonly string[], options: CliOptions = {}): Promise<CliRun> =>
    runCli(folder.path, words, options);
  return {
    path: folder.path,
    run,
    async json(words, options) {
      const { code, stdout, stderr } = await run(['--json', ...words], options);
      assert.match(stdout, /^[^\n]+\n$/, `one document in one line; standard error says ${stderr}`);
      return { code, document: JSON.parse(stdout) as Document };
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

async function runCli(cwd: string, words: readonly string[], options: CliOptions): Promise<CliRun> {
  const { env, interruptAt, interruptAtOutput } = options;
  const from = performance.now();
  const child = spawn(process.execPath, [MAIN, ...words], {
    cwd,
    env: { PATH: process.env['PATH'] ?? '', HOME: cwd, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (interruptAtOutput?.test(stdout)) child.kill('SIGINT');
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    if (interruptAt?.test(stderr)) child.kill('SIGINT');
  });
  const code = await new Promise<number | null>((settle, fail) => {
    child.once('error', fail);
    child.once('close', settle);
  });
  return { code, stdout, stderr, tookMs: performance.now() - from };
}
