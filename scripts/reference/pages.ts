/** The pages of docs/ that are made from the code; test/docs-reference.test.ts holds the files to them. */
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { cliPage } from './cli.ts';
import { configurationPage } from './configuration.ts';
import { errorsPage } from './errors.ts';
import { oplogEntriesPage } from './oplog-entries.ts';
import { workflowsPage } from './workflows.ts';

export const REFERENCE = new URL('../../docs/reference/', import.meta.url);

const NOTE = '<!-- Made from the code by `npm run docs`: edit the code, not this file. -->';

/** Name and text of each page of docs/reference/. */
export async function referencePages(): Promise<Map<string, string>> {
  return formatted([
    ['cli.md', cliPage()],
    ['configuration.md', configurationPage()],
    ['errors.md', errorsPage()],
    ['workflows.md', await workflowsPage()],
  ]);
}

/** Name and text of each page that stands among those written by hand, seen from docs/reference/. */
export async function otherPages(): Promise<Map<string, string>> {
  return formatted([['../oplog-entries.md', oplogEntriesPage()]]);
}

async function formatted(pages: readonly (readonly [name: string, text: string])[]): Promise<Map<string, string>> {
  const options = await resolveConfig(fileURLToPath(REFERENCE));
  const texts = pages.map(async ([name, text]): Promise<[string, string]> => {
    return [name, await format(`${NOTE}\n\n${text}\n`, { ...options, parser: 'markdown' })];
  });
  return new Map(await Promise.all(texts));
}
