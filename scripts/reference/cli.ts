/** cli.md: every command and flag. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { describedProgram, type HelpNote } from '../../src/cli/program.ts';
import { code, markdownTable, paragraphs } from './markdown.ts';

const TALKS = 'Talks to Temporal.';

const INTRODUCTION = `Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 130 interrupted. With \`--json\` standard output is exactly one
JSON document, and text for people goes to standard error; a failure holds \`{"error": {"code", "message", "fix"}}\`.

Durations have a unit: \`30s\`, \`15m\`, \`24h\`, \`7d\`. The Temporal that a command talks to is a running \`up\` of \`--home\` when
\`--home\` is given or nothing else is configured, else the one of the environment's \`TEMPORAL_*\`; \`--help\` says which.`;

export function cliPage(): string {
  const { program, notes } = describedProgram(TALKS);
  return paragraphs([
    '# The command line',
    INTRODUCTION,
    '## Flags of all commands',
    flagsOf(program),
    ...leaves(program, []).map(({ command, words }) => section(command, words, notes.get(command))),
  ]);
}

interface Leaf {
  readonly command: CommandUnknownOpts;
  readonly words: readonly string[];
}

/** Commands that do something, with the words they are called by. */
function leaves(command: CommandUnknownOpts, words: readonly string[]): Leaf[] {
  if (command.commands.length === 0) return [{ command, words }];
  return command.commands.flatMap((child) => leaves(child, [...words, child.name()]));
}

function section(command: CommandUnknownOpts, words: readonly string[], note: HelpNote | undefined): string {
  const places = command.registeredArguments.map((argument) => {
    const name = `${argument.name().toUpperCase()}${argument.variadic ? '...' : ''}`;
    return argument.required ? name : `[${name}]`;
  });
  const usage = ['lifeboat', ...words, ...places].join(' ');
  const given = command.registeredArguments.map((argument) => [
    code(argument.name().toUpperCase()),
    argument.description,
  ]);
  return paragraphs([
    `## ${code(['lifeboat', ...words].join(' '))}`,
    `${sentence(command.description())} ${note && note.note !== TALKS ? note.note.replaceAll('\n', ' ') : TALKS}`,
    `\`\`\`\n${usage}${command.options.length > 0 ? ' [flags]' : ''}\n\`\`\``,
    given.length > 0 && markdownTable(['Argument', 'Meaning'], given),
    command.options.length > 0 && flagsOf(command),
    note && `Example: ${code(`lifeboat ${note.example}`)}`,
  ]);
}

function flagsOf(command: CommandUnknownOpts): string {
  const rows = command.options.map(({ flags, description, mandatory }) => [
    code(flags),
    mandatory ? `${description} (must be given)` : description,
  ]);
  return markdownTable(['Flag', 'Meaning'], rows);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
