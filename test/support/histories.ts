/** Histories of real runs, kept in test/histories, so that a change of the workflows that would break them is found. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { findBinary } from '../../src/embedded/binaries.ts';

const run = promisify(execFile);

const FOLDER = new URL('../histories/', import.meta.url);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Keeps the history of a workflow as `<name>.json` when `LIFEBOAT_RECORD_HISTORIES` is set, without the names of this
 * machine; else does nothing.
 */
export async function recordHistory(address: string, workflowId: string, name: string, runId?: string): Promise<void> {
  if (!process.env['LIFEBOAT_RECORD_HISTORIES']) return;
  const words = ['workflow', 'show', '--workflow-id', workflowId, '--output', 'json', '--address', address];
  if (runId !== undefined) words.push('--run-id', runId);
  const { stdout } = await run(await findBinary('temporal'), words, { maxBuffer: 2 ** 28 });
  await mkdir(FOLDER, { recursive: true });
  await writeFile(new URL(`${name}.json`, FOLDER), stdout.replaceAll(hostname(), 'host').replaceAll(ROOT, ''));
}

/** The kept histories, by name. */
export async function keptHistories(): Promise<Map<string, unknown>> {
  const files = (await readdir(FOLDER)).filter((file) => file.endsWith('.json')).sort();
  const read = async (file: string): Promise<[string, unknown]> => {
    return [file.replace(/\.json$/, ''), JSON.parse(await readFile(new URL(file, FOLDER), 'utf8'))];
  };
  return new Map(await Promise.all(files.map(read)));
}
