/**
 * `npm run bench`: how fast it is, side by side with what else there is, in one run on this machine.
 *
 * Every repeat measures everything once, one after the other, on data of its own making. What counts are the ratios
 * within a repeat: they hold where single figures do not.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findBinary } from '../src/embedded/binaries.ts';
import { compareOptimes, type Optime } from '../src/shared/optime.ts';
import { fromTimestamp } from '../src/mongo/positions.ts';
import { changeDocuments, dataBytes, loadData } from './data.ts';
import { goals } from './goals.ts';
import { entryRates } from './measures/entries.ts';
import { idleEventsPerHour } from './measures/idle.ts';
import { dumpPipe, floor, ourSync, ownInitialSync, type SyncBench } from './measures/initial-sync.ts';
import { firstSnapshot, keepersOf, ourRestore, ourSnapshot, restoreBy } from './measures/snapshots.ts';
import { findPeers, PEERS, runPeer, versionOf, type Peers } from './peers.ts';
import { Product, watch } from './product.ts';
import { markdown, seriesWithFigures, verdictsOf, type Report, type Series, type Unit } from './report.ts';
import { startServer, type Server } from './servers.ts';

const PARTS = ['sync', 'snapshots', 'entries', 'memory', 'idle'] as const;
type Part = (typeof PARTS)[number];

interface Options {
  readonly json: boolean;
  readonly scale: number;
  readonly repeats: number;
  readonly parts: ReadonlySet<Part>;
  readonly idleMinutes: number;
  /** A file in which the figures stand between two marks, to be replaced. */
  readonly write: string | undefined;
}

const MB = 1e6;
const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Collects what is measured, by name. */
class Sheet {
  readonly #series = new Map<string, { group: string; unit: Unit; values: number[] }>();

  add(group: string, name: string, unit: Unit, value: number | undefined): void {
    if (value === undefined) return;
    const series = this.#series.get(name) ?? { group, unit, values: [] };
    series.values.push(value);
    this.#series.set(name, series);
    say(`  ${name}: ${unit === 's' ? value.toFixed(1) : Math.round(value)} ${unit}`);
  }

  get series(): Series[] {
    return [...this.#series].map(([name, series]) => ({ name, ...series }));
  }
}

/** What an earlier measurement left to be written must not be written during the next one. */
async function settled(): Promise<void> {
  await runPeer('sync', []);
}

/** Waits until the head has applied what is written now. */
async function caughtUp(product: Product, source: Server): Promise<void> {
  const { lastWrite } = await source.client.db('admin').command({ hello: 1 });
  const newest: Optime = fromTimestamp(
    (lastWrite as { opTime: { ts: Parameters<typeof fromTimestamp>[0] } }).opTime.ts,
  );
  await watch(async () => {
    const applied = (await product.member())?.head?.appliedThrough;
    return applied && compareOptimes(fromTimestamp(applied.ts), newest) >= 0 ? true : undefined;
  });
}

async function repeat(sheet: Sheet, bench: SyncBench, { scale, parts }: Options, seed: number): Promise<void> {
  const { folder, source } = bench;
  if (parts.has('sync')) {
    await settled();
    sheet.add('initial sync', 'floor: raw find, raw insert, createIndexes', 's', await floor(bench));
    await settled();
    sheet.add('initial sync', 'mongodump | mongorestore, 4 workers', 's', await dumpPipe(bench, 4));
    await settled();
    sheet.add('initial sync', 'mongodump | mongorestore, 1 worker', 's', await dumpPipe(bench, 1));
    await settled();
    sheet.add('initial sync', "mongod's own initial sync", 's', await ownInitialSync(bench));
  }
  await using product = new Product(folder, `${source.uri}&replicaSet=src`);
  await product.start();
  await settled();
  const sync = await ourSync(product);
  const first = await firstSnapshot(product);
  sheet.add('initial sync', 'lifeboat: copied', 's', sync.copied);
  sheet.add('initial sync', 'lifeboat: head built', 's', sync.built);
  sheet.add('initial sync', 'lifeboat: head validated', 's', sync.validated);
  sheet.add('initial sync', 'lifeboat: routine, first snapshot stored', 's', sync.routine);
  sheet.add('worker memory', `peak at scale ${scale}`, 'MB', (await product.workerPeakBytes()) / MB);
  if (parts.has('snapshots')) await snapshots(sheet, bench, product, { scale, seed, first });
}

async function snapshots(
  sheet: Sheet,
  { folder, source, peers }: SyncBench,
  product: Product,
  { scale, seed, first }: { scale: number; seed: number; first: Awaited<ReturnType<typeof firstSnapshot>> },
): Promise<void> {
  sheet.add('first snapshot', 'files of the head', 'MB', first.logicalBytes / MB);
  sheet.add('first snapshot', 'lifeboat: first snapshot', 's', first.seconds);
  sheet.add('first snapshot', 'lifeboat: first snapshot, stored', 'MB', first.storedBytes / MB);
  const { headDbpath } = product;
  // The others read files that nobody changes: the head is shut down cleanly for them.
  await product.stop();
  const keepers = await keepersOf(peers, folder, headDbpath);
  for (const keeper of keepers) {
    await settled();
    const { seconds, storedBytes } = await keeper.backup();
    sheet.add('first snapshot', `${keeper.name}: first snapshot`, 's', seconds);
    sheet.add('first snapshot', `${keeper.name}: first snapshot, stored`, 'MB', storedBytes / MB);
  }
  await product.start();
  await changeDocuments(source.client, scale, 0.01, seed);
  await caughtUp(product, source);
  await settled();
  const second = await ourSnapshot(product);
  const group = 'after 1 % of the documents changed';
  sheet.add(group, 'lifeboat: second snapshot', 's', second.cutSeconds);
  sheet.add(group, 'lifeboat: second snapshot, whole command', 's', second.seconds);
  sheet.add(group, 'lifeboat: second snapshot, stored', 'MB', second.storedBytes / MB);
  await settled();
  const restore = await ourRestore(product, folder);
  sheet.add('restore', 'lifeboat: restore, files written', 's', restore.files);
  sheet.add('restore', 'lifeboat: restore, proven and handed over', 's', restore.proven);
  await product.stop();
  for (const keeper of keepers) {
    await settled();
    const { seconds, storedBytes } = await keeper.backup();
    sheet.add(group, `${keeper.name}: second snapshot`, 's', seconds);
    sheet.add(group, `${keeper.name}: second snapshot, stored`, 'MB', storedBytes / MB);
    await settled();
    sheet.add('restore', `${keeper.name}: restore`, 's', await restoreBy(keeper, folder));
  }
}

/** The peak of the worker for smaller sources: it is not to grow with them. */
async function memory(sheet: Sheet, binary: string, folder: string, scale: number): Promise<void> {
  await inFolder(folder, async (own) => {
    await using source = await startServer({ binary, folder: own, name: 'source', replSet: 'src' });
    await loadData(source.client, scale);
    await using product = new Product(own, `${source.uri}&replicaSet=src`);
    await product.start();
    await ourSync(product);
    sheet.add('worker memory', `peak at scale ${scale}`, 'MB', (await product.workerPeakBytes()) / MB);
  });
}

async function idle(sheet: Sheet, binary: string, folder: string, minutes: number): Promise<void> {
  await inFolder(folder, async (own) => {
    await using source = await startServer({ binary, folder: own, name: 'source', replSet: 'src' });
    await using product = new Product(own, `${source.uri}&replicaSet=src`);
    await product.start();
    await ourSync(product);
    sheet.add('idle backup', 'events in its history', 'events/h', await idleEventsPerHour(product, minutes));
  });
}

async function inFolder(parent: string, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(parent, 'r'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function measure(options: Options, folder: string, peers: Peers): Promise<{ sheet: Sheet; dataMB: number }> {
  const { scale, repeats, parts, idleMinutes } = options;
  const binary = await findBinary('mongod');
  const sheet = new Sheet();
  let dataMB = 0;
  if (parts.has('sync') || parts.has('snapshots')) {
    await using source = await startServer({ binary, folder, name: 'source', replSet: 'src' });
    say(`Loading data at scale ${scale} ...`);
    await loadData(source.client, scale);
    dataMB = (await dataBytes(source.client)) / MB;
    for (let n = 1; n <= repeats; n++) {
      say(`Repeat ${n} of ${repeats}, ${Math.round(dataMB)} MB:`);
      await inFolder(folder, (own) => repeat(sheet, { binary, folder: own, source, peers }, options, n + 1));
    }
  }
  if (parts.has('entries')) {
    for (let n = 1; n <= repeats; n++) {
      say(`Entries, repeat ${n} of ${repeats}:`);
      await inFolder(folder, async (own) => {
        const entries = { entries: Math.round(500_000 * scale), entriesOfPeer: Math.round(10_000 * scale) };
        const rates = await entryRates({ binary, folder: own, peers, ...entries });
        sheet.add('oplog entries', 'lifeboat: entries applied', '/s', rates.ours);
        sheet.add('oplog entries', 'mongorestore --oplogReplay into a standalone', '/s', rates.standalone);
        sheet.add('oplog entries', 'mongorestore --oplogReplay into a replica set', '/s', rates.replicaSet);
      });
    }
  }
  if (parts.has('memory')) for (const share of [0.1, 0.5]) await memory(sheet, binary, folder, scale * share);
  if (parts.has('idle')) await idle(sheet, binary, folder, idleMinutes);
  return { sheet, dataMB };
}

async function reportOf(options: Options, peers: Peers, sheet: Sheet, dataMB: number): Promise<Report> {
  const versions = await Promise.all([...peers].map(async ([peer, path]) => [peer, await versionOf(peer, path)]));
  const [cpu] = cpus();
  return {
    machine: `${cpus().length} × ${cpu?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    date: new Date().toISOString().slice(0, 10),
    scale: options.scale,
    dataMB,
    versions: Object.fromEntries(versions) as Record<string, string>,
    missing: PEERS.filter((peer) => !peers.has(peer)),
    series: seriesWithFigures(sheet.series),
    verdicts: verdictsOf(sheet.series, goals(options.scale)),
  };
}

const MARKS = ['<!-- figures: npm run bench -- --write -->', '<!-- end of figures -->'] as const;

/** Puts the figures into a document, between its marks. */
async function writeInto(file: string, figures: string): Promise<void> {
  const text = await readFile(file, 'utf8');
  const [from, to] = MARKS.map((mark) => text.indexOf(mark));
  if (from === undefined || to === undefined || from < 0 || to < from)
    throw new Error(`${file} has no place for figures`);
  await writeFile(file, `${text.slice(0, from + MARKS[0].length)}\n\n${figures}\n${text.slice(to)}`);
}

function optionsOf(words: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...words],
    options: {
      json: { type: 'boolean' },
      scale: { type: 'string', default: '1' },
      repeats: { type: 'string', default: '3' },
      only: { type: 'string', multiple: true },
      'idle-minutes': { type: 'string', default: '12' },
      write: { type: 'string' },
    },
  });
  const number = (name: string, text: string): number => {
    const value = Number(text);
    if (!(value > 0)) throw new RangeError(`--${name} must be a number above 0, not ${text}`);
    return value;
  };
  const parts = (values.only ?? PARTS).map((name) => {
    const part = PARTS.find((known) => known === name);
    if (part === undefined) throw new RangeError(`--only must be one of ${PARTS.join(', ')}, not ${name}`);
    return part;
  });
  return {
    json: values.json ?? false,
    scale: number('scale', values.scale),
    repeats: Math.ceil(number('repeats', values.repeats)),
    parts: new Set(parts),
    idleMinutes: number('idle-minutes', values['idle-minutes']),
    write: values.write,
  };
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = optionsOf(process.argv.slice(2));
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return 2;
  }
  const folder = await mkdtemp(join(tmpdir(), 'lb-bench-'));
  await mkdir(folder, { recursive: true });
  try {
    const peers = await findPeers(process.env);
    const { sheet, dataMB } = await measure(options, folder, peers);
    const report = await reportOf(options, peers, sheet, dataMB);
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else process.stdout.write(`\n${markdown(report)}`);
    if (options.write !== undefined) await writeInto(options.write, markdown(report));
    return 0;
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

process.exitCode = await main();
