/**
 * What a test runs of a document: its fenced `sh` blocks, in order, and what comments say of them.
 *
 *     <!-- test: not run: WHY -->     the next block is not run
 *     <!-- test: fails -->            the last command of the next block ends with exit code 1
 *     <!-- test: same answers -->     all commands of the next block print the same
 *     <!-- test: ANYTHING ELSE -->    the test does what it calls by these words
 */
import { readFile } from 'node:fs/promises';

export type Step =
  | { readonly kind: 'word'; readonly word: string }
  | { readonly kind: 'not run'; readonly why: string }
  | {
      readonly kind: 'block';
      readonly commands: readonly string[];
      readonly fails: boolean;
      readonly sameAnswers: boolean;
    };

const ROOT = new URL('../../', import.meta.url);
const PIECES = /^<!-- test: (.*) -->$|^```sh\n([^]*?)\n```$/gm;

/** @param section only what stands below that heading of the second level */
export async function stepsOf(path: string, section?: string): Promise<Step[]> {
  const text = await readFile(new URL(path, ROOT), 'utf8');
  const part = section === undefined ? text : (text.split(/^## /m).find((one) => one.startsWith(`${section}\n`)) ?? '');
  const other = /^```(bash|shell|zsh|console)\b/m.exec(part);
  if (other) throw new Error(`${path} has commands in a block of ${other[1]}: the test looks at sh alone`);
  const steps: Step[] = [];
  const said: string[] = [];
  for (const [, word, block] of part.matchAll(PIECES)) {
    if (word !== undefined) {
      if (word === 'fails' || word === 'same answers' || word.startsWith('not run: ')) said.push(word);
      else steps.push({ kind: 'word', word });
      continue;
    }
    const why = said.find((one) => one.startsWith('not run: '))?.slice('not run: '.length);
    const [fails, sameAnswers] = [said.includes('fails'), said.includes('same answers')];
    said.length = 0;
    if (why !== undefined) steps.push({ kind: 'not run', why });
    else steps.push({ kind: 'block', commands: commandsOf(block ?? ''), fails, sameAnswers });
  }
  return steps;
}

/** One a line, but for lines that go on behind a backslash. */
function commandsOf(block: string): string[] {
  const lines = block.replaceAll(/\\\n\s*/g, '').split('\n');
  return lines.filter((line) => line.trim() !== '' && !line.startsWith('#'));
}
