/** errors.md: the table of errors. */
import { explainedErrors, type Explained } from '../../src/cli/commands/explain.ts';
import { code, markdownTable, paragraphs } from './markdown.ts';

/** By the first digit of the code. */
const GROUPS = [
  ['1', 'Usage and configuration'],
  ['2', 'The source'],
  ['3', 'The stores'],
  ['4', 'The head'],
  ['5', 'Snapshots'],
  ['6', 'Restores'],
  ['7', 'Temporal and daemons'],
  ['9', 'Internal'],
] as const;

const INTRODUCTION = `Everything that goes wrong has a code. On the command line \`lifeboat explain CODE\` says the same as this page.

_Mended by_ says whose turn it is: the operator's, who runs Lifeboat; the developers', for a defect; or nobody's, where it
passes by itself. _Tried again_: the same step is run again without anybody asking. What is not tried again stops the
work, which waits for \`lifeboat backup resume NAME\` or is started anew.`;

export function errorsPage(): string {
  const errors = explainedErrors();
  const groups = GROUPS.map(([digit, title]) => {
    const own = errors.filter((error) => error.code.startsWith(`LB${digit}`));
    return paragraphs([`## ${title}`, tableOf(own), ...own.map(explanationIn)]);
  });
  return paragraphs(['# Errors', INTRODUCTION, ...groups]);
}

function tableOf(errors: readonly Explained[]): string {
  const rows = errors.map((error) => [error.code, error.name, error.owner, error.retryable ? 'yes' : 'no', error.fix]);
  return markdownTable(['Code', 'Name', 'Mended by', 'Tried again', 'What to do'], rows);
}

function explanationIn({ code: id, name, explanation }: Explained): string | false {
  return explanation !== null && `**${id}** ${code(name)}: ${explanation}`;
}
