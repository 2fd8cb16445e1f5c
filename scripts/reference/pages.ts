/** The pages of docs/reference/, made from the code; test/docs-reference.test.ts holds the files to them. */
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { cliPage } from './cli.ts';
import { configurationPage } from './configuration.ts';
import { errorsPage } from './errors.ts';
import { workflowsPage } from './workflows.ts';

export const REFERENCE = new URL('../../docs/reference/', import.meta.url);

const NOTE = '<!-- Made from the code by `npm run docs`: edit the code, not this file. -->';

/** Name and text of each page. */
export async function referencePages(): Promise<Map<string, string>> {
  const pages = [
    ['cli.md', cliPage()],
    ['configuration.md', configurationPage()],
    ['errors.md', errorsPage()],
    ['workflows.md', await workflowsPage()],
  ] as const;
  const options = await resolveConfig(fileURLToPath(REFERENCE));
  const texts = pages.map(async ([name, text]): Promise<[string, string]> => {
    return [name, await format(`${NOTE}\n\n${text}\n`, { ...options, parser: 'markdown' })];
  });
  return new Map(await Promise.all(texts));
}
