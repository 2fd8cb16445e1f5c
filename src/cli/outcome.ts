/** What a command comes to, and how that is shown: one JSON document, or text for people. */
import { styleText } from 'node:util';
import { errorNameOf, LifeboatError, type ErrorName } from '../shared/errors.ts';

/** What a command did. With an `error` it failed all the same, and `result` is what there is to tell beside it. */
export interface Outcome {
  /** The JSON document. */
  readonly result: object;
  /** The same for people; lines without a line break at the end. */
  readonly text: string;
  readonly error?: LifeboatError | undefined;
}

export const ExitCode = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Refusals before anything was begun: the words on the command line or in the configuration are wrong. */
const USAGE: ReadonlySet<ErrorName> = new Set<ErrorName>([
  'BadUsage',
  'NotBuiltYet',
  'ConfigInvalid',
  'ConfigMissing',
  'UnknownDeployment',
  'BadOptime',
  'BadTime',
  'SecretMissing',
  'BadUri',
  'StoreBadUri',
]);

/** The exit code for what a command threw. What it *answered* with an error was tried, and is `failed`. */
export function exitCodeOf(error: LifeboatError, thrown: boolean): number {
  if (error.kind === 'Interrupted') return ExitCode.interrupted;
  return thrown && USAGE.has(error.kind) ? ExitCode.usage : ExitCode.failed;
}

/** Anything thrown, as an error of the table. */
export function asLifeboatError(error: unknown): LifeboatError {
  if (error instanceof LifeboatError) return error;
  // The text of an error nobody foresaw may quote what must not be shown; its stack is there for the asking.
  const name = error instanceof Error ? error.name : typeof error;
  return new LifeboatError('Internal', `unexpected ${name}; LIFEBOAT_DEBUG=1 shows where`, { cause: error });
}

export function errorDocument({ code, message, fix }: LifeboatError): { code: string; message: string; fix: string } {
  return { code, message, fix };
}

/** Writes an outcome to the two streams. */
export function show(outcome: Outcome, json: boolean): void {
  const { result, text, error } = outcome;
  if (json) {
    process.stdout.write(`${JSON.stringify(error ? { ...result, error: errorDocument(error) } : result)}\n`);
  } else if (text !== '') {
    process.stdout.write(`${text}\n`);
  }
  if (error) showError(error, json);
}

/** Writes what went wrong, for people. */
function showError(error: LifeboatError, json: boolean): void {
  const label = json ? error.code : styleText(['red', 'bold'], error.code, { stream: process.stderr });
  process.stderr.write(`${label} ${error.message}\n`);
  process.stderr.write(`  ${error.fix}\n`);
  if (process.env['LIFEBOAT_DEBUG'] === '1') process.stderr.write(`${stackOf(error)}\n`);
}

function stackOf(error: LifeboatError): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${error.cause.stack ?? error.cause.message}` : '';
  return `${error.stack ?? ''}${cause}`;
}

/** The error that another process told by its code; one of an unknown code is ours to look at. */
export function errorFrom(code: string, message: string): LifeboatError {
  const kind = errorNameOf(code);
  return kind === undefined ? new LifeboatError('Internal', `${message} (${code})`) : new LifeboatError(kind, message);
}
