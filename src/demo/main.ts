/**
 * `npm run demo`: the whole lifecycle on this machine, by the real command line and real servers, ended by a proof.
 *
 * Exit code 0 only if what was restored equals the source at the snapshot's optime.
 */
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MongoClient } from 'mongodb';
import { findBinary } from '../embedded/binaries.ts';
import { privateSocketPath, startMongod, type RunningMongod } from '../mongod/process.ts';
import { proveEqual, type EqualityReport } from '../proof/equality.ts';
import { errorKind, isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { BackupStatus, RestoreSummary, SnapshotSummary, VerifyResult } from '../shared/messages.ts';
import { formatOptime, type Optime } from '../shared/optime.ts';
import { lifeboat, type CommandLine } from './lifeboat.ts';
import { startDemoSource, type DemoSource } from './source.ts';
import { fillShop, ShopWriter, TOTAL_BALANCE } from './writer.ts';

const ORDERS = 40_000;

interface Step {
  readonly step: string;
  readonly seconds: number;
  readonly figures: string;
}

interface Outcome {
  readonly proven: boolean;
  readonly optime: Optime;
  readonly equality: EqualityReport;
  readonly balanceRight: boolean;
  readonly writesDuringTheDemo: number;
  readonly snapshots: readonly SnapshotSummary[];
  readonly restore: RestoreSummary;
  readonly steps: readonly Step[];
}

interface Urls {
  readonly temporal: { readonly address: string; readonly ui: string };
  readonly blockstore: { readonly uri: string };
}

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Runs a step, says that it runs, and notes how long it took and what came of it. */
async function timed<T>(
  steps: Step[],
  step: string,
  work: () => Promise<T>,
  figures: (result: T) => string,
): Promise<T> {
  say(`${step} ...`);
  const from = performance.now();
  const result = await work();
  steps.push({ step, seconds: (performance.now() - from) / 1000, figures: figures(result) });
  return result;
}

function table(steps: readonly Step[]): string {
  const width = Math.max(...steps.map(({ step }) => step.length));
  return steps
    .map(({ step, seconds, figures }) => `  ${step.padEnd(width)}  ${seconds.toFixed(1).padStart(6)} s  ${figures}`)
    .join('\n');
}

async function total(client: MongoClient): Promise<number> {
  const pipeline = [{ $group: { _id: null, balance: { $sum: '$balance' } } }];
  const [row] = await client.db('shop').collection('accounts').aggregate<{ balance: number }>(pipeline).toArray();
  return row?.balance ?? 0;
}

/** Takes `restored` up by a plain mongod and holds it against the source at `optime`. */
async function prove(
  source: DemoSource,
  restored: string,
  folder: string,
  binary: string,
  optime: Optime,
): Promise<{ readonly equality: EqualityReport; readonly balanceRight: boolean }> {
  const mongod = await startMongod({
    binary,
    dbpath: restored,
    address: { socket: await privateSocketPath(restored) },
    cacheGiB: 0.25,
    logPath: join(folder, 'restored.log'),
    setParameters: { ttlMonitorEnabled: false, disableLogicalSessionCacheRefresh: true },
  });
  try {
    const copy = await MongoClient.connect(mongod.uri);
    try {
      const equality = await proveEqual({ source: { client: source.client, at: optime }, copy: { client: copy } });
      return { equality, balanceRight: (await total(copy)) === TOTAL_BALANCE };
    } finally {
      await copy.close();
    }
  } finally {
    await mongod.stop();
  }
}

async function lifecycle(
  line: CommandLine,
  source: DemoSource,
  writer: ShopWriter,
  folder: string,
  binary: string,
  signal: AbortSignal,
): Promise<Outcome> {
  const steps: Step[] = [];
  const run = <T>(...words: string[]): Promise<T> => lifeboat<T>(line, words, signal);
  await run('deployments', 'add', 'shop', '--uri-env', 'LIFEBOAT_DEMO_URI');
  await timed(
    steps,
    'initial sync to routine operation',
    () => run<unknown>('backup', 'start', 'shop', '--wait'),
    () => 'the first snapshot is committed',
  );
  const status = await run<BackupStatus>('backup', 'status', 'shop');
  const create = (): Promise<SnapshotSummary> => run('snapshots', 'create', 'shop', '--wait');
  const figures = (s: SnapshotSummary): string =>
    `${megabytes(s.logicalBytes)} at ${formatOptime(s.optime)}: ${s.newBlocks} new blocks (${megabytes(s.newStoredBytes)} stored), ${s.reusedBlocks} reused`;
  await timed(steps, 'a snapshot, under writes', create, figures);
  const snapshot = await timed(steps, 'another one', create, figures);
  await timed(
    steps,
    'verification of its blocks',
    () => run<VerifyResult>('snapshots', 'verify', snapshot.id),
    (result) =>
      `${result.blocksChecked} blocks, ${megabytes(result.bytesChecked)}, ${result.ok ? 'all sound' : 'DAMAGED'}`,
  );
  const restored = join(folder, 'restored');
  const restore = await timed(
    steps,
    'a restore to a directory',
    () => run<RestoreSummary>('restore', 'shop', '--snapshot', snapshot.id, '--to', `dir:${restored}`, '--wait'),
    (result) => `${megabytes(result.bytes)}, ${result.verified ? 'proven sound by mongod' : 'NOT verified'}`,
  );
  const { equality, balanceRight } = await timed(
    steps,
    'the proof: restored = source, byte for byte',
    () => prove(source, restored, folder, binary, snapshot.optime),
    (result) => `${result.equality.comparedDocuments} documents, ${megabytes(result.equality.comparedBytes)} compared`,
  );
  return {
    proven: equality.equal && balanceRight,
    optime: snapshot.optime,
    equality,
    balanceRight,
    writesDuringTheDemo: writer.writes,
    snapshots: [...(status.lastSnapshot ? [status.lastSnapshot] : []), snapshot],
    restore,
    steps,
  };
}

function print(outcome: Outcome): void {
  const { equality } = outcome;
  process.stdout.write(`\n${table(outcome.steps)}\n\n`);
  process.stdout.write(`  ${outcome.writesDuringTheDemo} documents were written to the source meanwhile.\n`);
  for (const { namespace, reason } of equality.notCompared) {
    process.stdout.write(`  Not compared: ${namespace}: ${reason}\n`);
  }
  for (const { namespace, kind, count } of equality.differences) {
    process.stdout.write(`  DIFFERENT: ${namespace}: ${kind}, ${count}\n`);
  }
  const verdict = outcome.proven
    ? `PROVEN: the restored data equals the source at optime ${formatOptime(outcome.optime)}.`
    : 'NOT PROVEN: see above.';
  process.stdout.write(`\n${verdict}\n`);
}

/** The environment without what could lead to somebody's production (design decision 13). */
function ownEnvironment(sourceUri: string): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('TEMPORAL_') && name !== 'LIFEBOAT_BLOCKSTORE_URI',
  );
  return { ...Object.fromEntries(kept), LIFEBOAT_DEMO_URI: sourceUri };
}

async function demo(
  options: { readonly keep: boolean; readonly json: boolean },
  signal: AbortSignal,
): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'lifeboat-demo-'));
  const home = join(folder, 'home');
  await mkdir(home);
  const binary = await findBinary('mongod');
  let source: DemoSource | undefined;
  let writer: ShopWriter | undefined;
  let line: CommandLine | undefined;
  try {
    say(`A replica set with ${ORDERS} orders and live writes ...`);
    source = await startDemoSource(binary, folder);
    await fillShop(source.client, ORDERS);
    writer = new ShopWriter(source.client, ORDERS);
    line = { home, config: join(folder, 'lifeboat.yaml'), env: ownEnvironment(source.uri) };
    say('Temporal, the blockstore and a worker ...');
    const urls = await lifeboat<Urls>(line, ['up', '--detach'], signal);
    say(`Watch it in the Temporal UI: ${urls.temporal.ui}`);
    const outcome = await lifecycle(line, source, writer, folder, binary, signal);
    if (options.json) process.stdout.write(`${JSON.stringify(outcome, null, 2)}\n`);
    else print(outcome);
    return outcome.proven;
  } finally {
    await writer?.stop().catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    await source?.client.close();
    if (options.keep && line && !signal.aborted) tellHowToEnd(line, source?.mongod, folder);
    else await cleanUp(line, source?.mongod, folder);
  }
}

function tellHowToEnd(line: CommandLine, source: RunningMongod | undefined, folder: string): void {
  say(`\nEverything is left running, its files under ${folder}.`);
  say(`  source:  ${line.env['LIFEBOAT_DEMO_URI'] ?? ''} (mongod, process ${source?.pid ?? 'gone'})`);
  say(`  look:    npx lifeboat --home ${line.home} --config ${line.config} backup status shop`);
  say(`  end it:  npx lifeboat --home ${line.home} down; kill ${source?.pid ?? ''}`);
}

async function cleanUp(
  line: CommandLine | undefined,
  source: RunningMongod | undefined,
  folder: string,
): Promise<void> {
  try {
    // The demo may have been interrupted: what ends it must not be.
    if (line && (await exists(line.home))) await lifeboat(line, ['down'], new AbortController().signal);
  } finally {
    source?.kill('SIGKILL');
    await source?.exited;
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { keep: { type: 'boolean' }, json: { type: 'boolean' }, sharded: { type: 'boolean' } },
  });
  const interrupted = new AbortController();
  // Every time: a terminal sends it to each process of the group, and the launcher passes its own on.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupted.abort());
  try {
    if (values.sharded) throw new LifeboatError('NotBuiltYet', 'the demo of a sharded cluster is not built yet');
    const proven = await demo({ keep: values.keep ?? false, json: values.json ?? false }, interrupted.signal);
    return proven ? 0 : 1;
  } catch (error) {
    if (interrupted.signal.aborted) return 130;
    const known = isLifeboatError(error) ? error : undefined;
    const { code, fix } = known ?? errorKind('Internal');
    const message = error instanceof Error ? error.message : String(error);
    if (values.json) process.stdout.write(`${JSON.stringify({ error: { code, message, fix } })}\n`);
    say(`${code}: ${message}\n${fix}`);
    return known?.kind === 'NotBuiltYet' ? 2 : 1;
  }
}

process.exitCode = await main();
