/** `npm run fuzz`: random workloads beside a backup, one seed after the other, and what came of each. */
import { randomInt } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings';
import { findBinary } from '../../src/embedded/binaries.ts';
import { mongodOf, OTHER_VERSIONS } from '../support/mongods.ts';
import { startBed, type Bed } from './bed.ts';
import { keepEvidence } from './evidence.ts';
import { workloadOf } from './generate.ts';
import type { Workload } from './operations.ts';
import { dataOf, kindsOf, lineOf, summaryOf } from './report.ts';
import { runWorkload, type RunResult } from './run.ts';
import { shrink } from './shrink.ts';

const VERSIONS = ['usual', ...OTHER_VERSIONS] as const;
type Version = (typeof VERSIONS)[number];

const MOST_SEED = 2 ** 31;

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('must be a whole number from 1 on');
  return value;
}

const options = new Command('npm run fuzz --')
  .description(
    'Does random workloads on a replica set while a backup of it runs, and compares head, restores and source.',
  )
  .option('--runs <n>', 'how many seeds', wholeNumber, 10)
  .option('--seed <n>', 'the first of them; by default one by chance', wholeNumber)
  .addOption(new Option('--mongod <version>', 'of source and head').choices([...VERSIONS, 'all']).default('usual'))
  .option('--replay <file>', 'does the workload of a file instead')
  .option('--keep <folder>', 'where what is known of a failure is kept', 'fuzz-failures')
  .option('--shrink-minutes <n>', 'how long a failure may be made smaller', wholeNumber, 5)
  .option('--json <file>', 'writes the results there, too')
  .parse()
  .opts();

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function binaryOf(version: Version): Promise<string> {
  if (version === 'usual') return findBinary('mongod');
  const found = await mongodOf(version);
  if ('missing' in found) throw new Error(found.missing);
  return found.path;
}

async function failed(bed: Bed, workload: Workload, result: RunResult): Promise<void> {
  const sought = kindsOf(result);
  await mkdir(options.keep, { recursive: true });
  const base = join(options.keep, `seed-${workload.seed}-${bed.version}`);
  await writeFile(`${base}.json`, JSON.stringify(workload, undefined, 1));
  await keepEvidence(bed, result, `${base}.entries.jsonl`);
  for (const finding of result.findings) say(`    ${finding}`);
  if (result.hung) return;
  const smaller = await shrink(workload, options.shrinkMinutes * 60_000, async (candidate) => {
    const tried = await runWorkload(bed, candidate, {}, stopping.signal);
    // What hangs keeps its servers busy: nothing more can be tried on them.
    if (tried.hung) throw new Error('a smaller workload hangs');
    return [...kindsOf(tried)].some((kind) => sought.has(kind));
  });
  await writeFile(`${base}.smaller.json`, JSON.stringify(smaller, undefined, 1));
  say(`    the whole workload, its entries and a smaller one that fails as well: ${base}.*`);
  say(`    npm run fuzz -- --mongod ${options.mongod} --replay ${base}.smaller.json`);
}

const stopping = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort());

const first = options.seed ?? randomInt(1, MOST_SEED - options.runs);
const given =
  options.replay === undefined ? undefined : (JSON.parse(await readFile(options.replay, 'utf8')) as Workload);
const results: RunResult[] = [];
for (const version of options.mongod === 'all' ? VERSIONS : [options.mongod]) {
  const binary = await binaryOf(version);
  let bed = await startBed(binary);
  try {
    for (let n = 0; n < (given ? 1 : options.runs) && !stopping.signal.aborted; n += 1) {
      const workload = given ?? workloadOf(first + n);
      const result = await runWorkload(bed, workload, {}, stopping.signal);
      results.push(result);
      say(lineOf(result));
      if (result.findings.length === 0) continue;
      await failed(bed, workload, result).catch((error: unknown) => say(`    not made smaller: ${String(error)}`));
      await bed[Symbol.asyncDispose]();
      bed = await startBed(binary);
    }
  } catch (error) {
    if (!stopping.signal.aborted) throw error;
  } finally {
    await bed[Symbol.asyncDispose]();
  }
}
say(summaryOf(results));
if (options.json !== undefined) await writeFile(options.json, JSON.stringify(results.map(dataOf), undefined, 1));
process.exitCode = results.length === 0 || results.some(({ findings }) => findings.length > 0) ? 1 : 0;
