/**
 * One run of the fuzzer: a workload on a source, a backup of it beside that, and comparisons. The steps of the backup are
 * the product's own, run as its activities run them (support/data-path.ts).
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { BSON, type Collection, type MongoClient, type Timestamp } from 'mongodb';
import { fromTimestamp, toTimestamp } from '../../src/mongo/positions.ts';
import { isLifeboatError } from '../../src/shared/errors.ts';
import { proveEqual, type EqualityReport } from '../../src/proof/equality.ts';
import type { SnapshotSummary } from '../../src/shared/messages.ts';
import { compareOptimes, type Position } from '../../src/shared/optime.ts';
import { untilAborted } from '../../src/shared/signals.ts';
import { baseFor } from '../../src/oplogstore/restorable.ts';
import { readRestorable } from '../../src/restore/point.ts';
import { restoreDirectory, type RestoreRequest } from '../../src/steps/restore-directory.ts';
import { DataPath, passes, type Disturbance, type Disturbed } from '../support/data-path.ts';
import { testFolder } from '../support/folders.ts';
import { newestEntry } from '../support/head.ts';
import { inTurn } from '../support/in-turn.ts';
import { Random } from '../support/random.ts';
import { stepContext } from '../support/snapshots.ts';
import { withMongod } from '../support/with-mongod.ts';
import type { Bed } from './bed.ts';
import { Crowd, performCounted, type Tallies } from './crowd.ts';
import type { DisturbancePlan, Workload } from './operations.ts';
import type { Target } from './perform.ts';

export interface RunResult extends Counts {
  readonly seed: number;
  readonly version: string;
  /** What differs, or stopped the backup; nothing when all is well. */
  readonly findings: readonly string[];
  /** Why the backup stopped at what a race of the server's has left behind; null when it did not. */
  readonly refusal: string | null;
  /** It did not come to an end: something of it may still go on, on the servers that it had. */
  readonly hung: boolean;
  readonly tallies: Tallies;
  /** Where the source stood when the run began: its entries from there on are the run's. */
  readonly from: Position;
  readonly entries: number;
  readonly disturbed: Disturbed;
  readonly ms: number;
}

/** What was done in a run beside its operations. */
interface Counts {
  readonly comparisons: number;
  /** Collections that they compared, and what could not be, at an entry before the catalog was changed. */
  readonly compared: number;
  readonly leftOut: number;
  readonly restores: number;
  /** Of these, those of an older snapshot and the entries behind it. */
  readonly moments: number;
  /** Snapshots that were compared with the source as they were taken. */
  readonly verified: number;
  readonly restarts: number;
}

/** What may be changed for a test of the fuzzer itself. */
export interface Meddling {
  /** Called with the head in routine operation, before the last comparison. */
  readonly spoil?: (path: DataPath) => Promise<void>;
}

const NEVER = new AbortController().signal;

/** A run that takes longer hangs, in milliseconds. */
const PATIENCE_MS = 120_000;

/**
 * Does a workload on empty servers, and tells what came of it. Of an error of the backup only the run's result tells.
 * @param signal ends the run
 * @throws the signal's reason when it is aborted
 */
export async function runWorkload(
  bed: Bed,
  workload: Workload,
  meddling: Meddling = {},
  signal: AbortSignal = NEVER,
): Promise<RunResult> {
  const beganAt = performance.now();
  await bed.clear();
  const from = await newestEntry(bed.source.client);
  const run = new Run(bed, workload, meddling);
  const findings = await run.go(signal);
  const entries = await bed.source.client
    .db('local')
    .collection('oplog.rs')
    .countDocuments({ ts: { $gt: toTimestamp(from.ts) } });
  const { tallies, counts, disturbed, hung, refusal } = run;
  const ms = Math.round(performance.now() - beganAt);
  return {
    seed: workload.seed,
    version: bed.version,
    findings,
    refusal,
    hung,
    tallies,
    from,
    entries,
    ...counts,
    disturbed,
    ms,
  };
}

interface OplogPlace {
  readonly ts: Timestamp;
  readonly t: { toString(): string };
}

/** From the entry of each prepare until that of its decision. */
async function undecidedTimes(oplog: Collection<OplogPlace>): Promise<(readonly [from: Timestamp, to: Timestamp])[]> {
  const transaction = { _id: { lsid: '$lsid', txnNumber: '$txnNumber' } };
  const ofPrepared = {
    $or: ['prepare', 'commitTransaction', 'abortTransaction'].map((field) => ({ [`o.${field}`]: { $exists: true } })),
  };
  const found = oplog.aggregate<{ from: Timestamp; to: Timestamp }>([
    { $match: { op: 'c', ...ofPrepared } },
    { $group: { ...transaction, from: { $min: '$ts' }, to: { $max: '$ts' } } },
  ]);
  return (await found.toArray()).map(({ from, to }) => [from, to]);
}

/** What a server has been at for longer than any operation here lasts, idle transactions included. */
async function longOperations(client: MongoClient): Promise<readonly string[]> {
  const operations = client.db('admin').aggregate([
    { $currentOp: { allUsers: true, idleSessions: true } },
    // Of the server's own nothing holds a client up.
    {
      $match: {
        $or: [{ secs_running: { $gte: 10 } }, { transaction: { $exists: true } }],
        ns: { $ne: 'local.oplog.rs' },
      },
    },
  ]);
  return (await operations.toArray()).map((operation) => JSON.stringify(operation).slice(0, 2_000));
}

class Run {
  readonly tallies: Tallies = new Map();
  disturbed: Disturbed = { cut: 0, twins: 0, kills: 0 };
  hung = false;
  refusal: string | null = null;
  readonly #counts = { comparisons: 0, compared: 0, leftOut: 0, restores: 0, moments: 0, verified: 0, restarts: 0 };
  readonly #bed: Bed;
  readonly #workload: Workload;
  readonly #meddling: Meddling;
  readonly #findings: string[] = [];
  /** What is under way, and the clients beside it. */
  #doing = 'the begin';
  #crowd: Crowd | undefined;
  #base: string | undefined;

  constructor(bed: Bed, workload: Workload, meddling: Meddling) {
    this.#bed = bed;
    this.#workload = workload;
    this.#meddling = meddling;
  }

  get counts(): Counts {
    return this.#counts;
  }

  async go(signal: AbortSignal): Promise<readonly string[]> {
    const { client, members } = this.#bed.source;
    const { binary, version, source, storeSet } = this.#bed;
    const primary = members[0]?.address ?? { port: 0 };
    const target = { client, primary, isRoomy: version.startsWith('4.'), acrossDatabases: inTurn() };
    const { sliceBytes, disturbance, exclude, seed } = this.#workload;
    for (const operation of this.#workload.before) await performCounted(target, operation, this.tallies);
    const disturb = disturbanceOf(disturbance, seed);
    let path: DataPath | undefined;
    try {
      path = await DataPath.open({
        ...{ source: source.uri, mongod: binary, storeSet, sliceBytes, exclude, rangeDocuments: 7 },
        ...(disturb ? { disturb } : {}),
      });
      await this.#inTime(this.#backUp(target, path), signal);
    } catch (error) {
      signal.throwIfAborted();
      if (isLifeboatError(error, 'ShadowedCollection')) this.refusal = error.message;
      else this.#findings.push(textOf(error), ...(await whatDiffers(path)));
    } finally {
      if (path) this.disturbed = path.disturbed;
      await path?.[Symbol.asyncDispose]().catch((error: unknown) => this.#findings.push(textOf(error)));
    }
    return [...new Set(this.#findings)];
  }

  /** What is not there in time is left behind, with the servers that it uses. */
  async #inTime(backup: Promise<void>, signal: AbortSignal): Promise<void> {
    // When it is over first, it is nobody's any more.
    backup.catch(() => undefined);
    const patience = AbortSignal.timeout(PATIENCE_MS);
    const over = AbortSignal.any([patience, signal]);
    await untilAborted(backup, over);
    signal.throwIfAborted();
    this.hung = patience.aborted;
    if (!this.hung) return backup;
    const { client } = this.#bed.source;
    throw new Error(
      [
        `it did not come to an end: ${this.#doing}`,
        ...(this.#crowd?.inHand ?? []).map((operation) => `a client is at ${JSON.stringify(operation)}`),
        ...(await longOperations(client)).map((operation) => `the source is at ${operation}`),
      ].join('\n'),
    );
  }

  async #backUp(target: Target, path: DataPath): Promise<void> {
    const { clients, syncAfterSteps } = this.#workload;
    const during = new Crowd(
      target,
      clients.map(({ duringSync }) => duringSync),
      this.tallies,
    );
    this.#crowd = during;
    try {
      this.#doing = 'the first steps of the clients';
      await during.taken(syncAfterSteps);
      this.#doing = 'the initial sync';
      await path.initialSync();
      this.#doing = 'the validation';
      await this.#validate(path);
      this.#doing = 'steps of the clients';
      await during.done();
    } finally {
      await during.stop();
    }
    const routine = new Crowd(
      target,
      clients.map((client) => client.routine),
      this.tallies,
    );
    this.#crowd = routine;
    try {
      const { stops, restoreAtEnd } = this.#workload;
      this.#doing = 'the snapshot that restores to a moment begin with';
      if (restoreAtEnd || stops.some(({ restore }) => restore)) this.#base = (await this.#snapshot(path)).id;
      this.#doing = 'steps of routine operation';
      await this.#stops(path, routine);
      await routine.done();
    } finally {
      await routine.stop();
    }
    await this.#meddling.spoil?.(path);
    await this.#compare(path, { between: 0, restore: this.#workload.restoreAtEnd });
  }

  /** Nothing may be found that has to be fetched anew: the next validation finds it, too, but nobody tests that copy. */
  async #validate(path: DataPath): Promise<void> {
    const { state, repaired } = await path.validate();
    if (state !== 'equal') this.#findings.push(`the validation ended as ${state}`);
    for (const { namespace, kind, count, names } of repaired) {
      this.#findings.push(`the validation had to repair: ${namespace} ${kind} ${count} ${names.join(', ')}`);
    }
  }

  async #stops(path: DataPath, crowd: Crowd): Promise<void> {
    for (const stop of this.#workload.stops) {
      await crowd.taken(stop.afterSteps);
      if (stop.restart) {
        this.#counts.restarts += 1;
        await path.restartHead();
      }
      this.#doing = 'waiting for everybody to hold still';
      await crowd.hold();
      await this.#compare(path, stop);
      crowd.goOn();
    }
  }

  /** At some entry since the last comparison, where that can be, and at the newest one. */
  async #compare(
    path: DataPath,
    { between, restore }: { readonly between: number; readonly restore: boolean },
  ): Promise<void> {
    this.#doing = 'a comparison';
    const at = await this.#somewhere(path, between);
    if (at) {
      // Of a catalog that has changed since, no server can tell what it was.
      const report = await path.prove(at);
      this.#counts.leftOut += report.notCompared.length;
      this.#note(`at an entry before ${at.ts.t},${at.ts.i}`, { ...report, notCompared: [] });
    }
    const end = await path.newest();
    this.#note(`at ${end.ts.t},${end.ts.i}`, await path.prove(end));
    if (restore) await this.#restore(path);
  }

  #note(where: string, { differences, notCompared, comparedCollections }: EqualityReport): void {
    this.#counts.comparisons += 1;
    this.#counts.compared += comparedCollections;
    for (const { namespace, ...what } of differences) {
      // Which of two clients' inserts at once comes first in a capped collection is no matter of entries.
      if (what.kind === 'order') continue;
      this.#findings.push(`${where}: ${namespace} differs: ${JSON.stringify(what)}`);
    }
    for (const { namespace, reason } of notCompared) {
      this.#findings.push(`${where}: ${namespace} could not be compared: ${reason}`);
    }
  }

  async #somewhere(path: DataPath, between: number): Promise<Position | undefined> {
    const { position } = path.head.state();
    if (!position || between === 0) return undefined;
    const behind = position.appliedThrough.ts;
    const oplog = this.#bed.source.client.db('local').collection<OplogPlace>('oplog.rs');
    const entries = await oplog.find({ ts: { $gt: toTimestamp(behind) } }, { projection: { ts: 1, t: 1 } }).toArray();
    const undecided = await undecidedTimes(oplog);
    // A source that is asked for such a moment shows what was prepared, when it counts as committed by then.
    const isDecided = ({ ts }: OplogPlace): boolean =>
      !undecided.some(([from, to]) => !ts.lessThan(from) && ts.lessThan(to));
    const entry = entries.slice(Math.floor(between * entries.length)).find(isDecided);
    const at = entry && { ts: fromTimestamp(entry.ts), term: Number(entry.t.toString()) };
    return at && compareOptimes(at.ts, behind) > 0 ? at : undefined;
  }

  /** As its activity is: again and again while what fails it passes. */
  async #snapshot(path: DataPath): Promise<SnapshotSummary> {
    for (;;) {
      try {
        return await path.snapshot();
      } catch (error) {
        if (!passes(error)) throw error;
      }
    }
  }

  async #restore(path: DataPath): Promise<void> {
    this.#doing = 'a restore';
    await using folder = await testFolder();
    const { binary, source } = this.#bed;
    const { id, optime, verification } = await this.#snapshot(path);
    if (verification.state !== 'not-compared') this.#counts.verified += 1;
    if (verification.state === 'different') {
      this.#findings.push(`snapshot ${id} was compared: ${verification.different.join(', ')} differ`);
    }
    const { exclude } = this.#workload;
    const parts = { stores: path.stores, daemon: 'here', mongodFor: () => Promise.resolve(binary) };
    const compared = async (what: string, from: Pick<RestoreRequest, 'snapshot' | 'until'>): Promise<void> => {
      const request = { id: randomUUID(), path: join(folder.path, from.snapshot), ...from };
      await restoreDirectory(stepContext(), parts, request);
      const report = await withMongod(request.path, { binary }, (copy) =>
        proveEqual({ source: { client: source.client, at: optime }, copy: { client: copy }, exclude, ids: 5 }),
      );
      this.#counts.restores += 1;
      this.#note(what, report);
    };
    await compared(`a restore of ${id}`, { snapshot: id });
    const { snapshots, chains } = await readRestorable(path.stores, 'shop');
    const [base, until] = [this.#base, id].map((wanted) => snapshots.find((one) => one.id === wanted));
    // What was renamed into the backup in between is on no stored entry.
    if (!base || !until || base === until || !baseFor(optime, [base], chains)) return;
    this.#counts.moments += 1;
    await compared(`a restore of ${base.id} and the entries up to ${id}`, { snapshot: base.id, until: until.position });
  }
}

function disturbanceOf(
  { cutWithinMs, twins, killHeadWithinMs }: DisturbancePlan,
  seed: number,
): Disturbance | undefined {
  if (cutWithinMs === null) return undefined;
  const random = new Random(seed);
  return { random, withinMs: cutWithinMs, twins, ...(killHeadWithinMs === null ? {} : { killHeadWithinMs }) };
}

/** What the newest validation found, in namespaces. */
async function whatDiffers(path: DataPath | undefined): Promise<string[]> {
  const record = await path?.validation().catch(() => undefined);
  return (record?.failed ?? []).map(({ namespace, kind, count, names, ids }) => {
    const documents = ids.map(({ buffer }) => BSON.EJSON.stringify(BSON.deserialize(buffer, { promoteValues: false })));
    return ['the validation found:', namespace, kind, count, ...names, ...documents].join(' ');
  });
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : '';
  return `${error.stack ?? error.message}${cause}`;
}
