/** The command `lifeboat`. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { CommanderError } from '@commander-js/extra-typings';
import { LifeboatError } from '../shared/errors.ts';
import { CliContext, DEFAULT_HOME, Interrupts } from './context.ts';
import { asLifeboatError, ExitCode, exitCodeOf, show } from './outcome.ts';
import { parseCommandLine, type Parsed } from './program.ts';

async function main(words: readonly string[]): Promise<number> {
  // Known before the words are understood, because a refusal of them is JSON too.
  const json = words.includes('--json');
  try {
    const parsed = await parse(words, json);
    if (parsed === undefined) return ExitCode.done;
    const interrupts = new Interrupts();
    const context = new CliContext(parsed.flags, interrupts);
    const outcome = await Promise.race([parsed.chosen(context), interrupts.unclaimed()]);
    if (outcome === true) throw new LifeboatError('Interrupted', 'interrupted');
    if (outcome === undefined) return ExitCode.done;
    if (outcome === 'interrupted') return ExitCode.interrupted;
    show(outcome, json);
    return outcome.error ? exitCodeOf(outcome.error, false) : ExitCode.done;
  } catch (caught) {
    const error = asLifeboatError(caught);
    show({ result: {}, text: '', error }, json);
    return exitCodeOf(error, true);
  }
}

/** The command that was asked for, or undefined when help or the version was, and is shown. */
async function parse(words: readonly string[], json: boolean): Promise<Parsed | undefined> {
  if (words.includes('--no-color')) process.env['NO_COLOR'] = '1';
  let help = '';
  const write = (text: string): void => {
    help += text;
  };
  const version = packageVersion();
  try {
    return parseCommandLine(words, { version, temporal: await temporalNote(words), write });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.version') {
      show({ result: { version }, text: version }, json);
      return undefined;
    }
    if (error.code === 'commander.helpDisplayed') {
      show({ result: { help }, text: help.trimEnd() }, json);
      return undefined;
    }
    // A group without its command: commander shows the help of the group.
    if (error.code === 'commander.help') {
      process.stderr.write(`${help.trimEnd()}\n\n`);
      throw new LifeboatError('BadUsage', 'a command is missing');
    }
    throw new LifeboatError('BadUsage', usageMessage(error.message));
  }
}

/** Commander's own words on one line. They quote what was typed, which may be a connection string. */
function usageMessage(message: string): string {
  return message
    .replace(/^error: /, '')
    .replaceAll(/\s*\n\s*/g, ' ')
    .replaceAll(/mongodb(\+srv)?:[^\s']*/g, 'mongodb:…');
}

/** For the help: which Temporal the command would talk to. */
async function temporalNote(words: readonly string[]): Promise<string> {
  if (!['-h', '--help', 'help'].some((word) => words.includes(word))) return '';
  const at = words.indexOf('--home');
  const named =
    words.find((word) => word.startsWith('--home='))?.slice('--home='.length) ?? (at < 0 ? undefined : words[at + 1]);
  const { temporalTarget } = await import('./temporal.ts');
  try {
    const choice = { home: resolve(named ?? DEFAULT_HOME), homeGiven: named !== undefined, env: process.env };
    const { address, namespace, why } = await temporalTarget(choice);
    return `Talks to Temporal at ${address}, namespace ${namespace} (${why}).`;
  } catch (error) {
    return `Talks to no Temporal now: ${asLifeboatError(error).message}.`;
  }
}

function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}

// A reader that has seen enough, such as `head`, is no failure.
process.stdout.on('error', () => process.exit(ExitCode.done));
const code = await main(process.argv.slice(2));
// What was given up on (a server that does not answer) may still hold sockets.
process.exit(code);
