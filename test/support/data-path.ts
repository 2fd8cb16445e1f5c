/**
 * The data path in one process, without Temporal: source → sync store → oplog store → head.
 *
 * Each step runs as an activity would run it: for a while, again and again, and with `disturb` cut short at any moment,
 * or started a second time while the first still runs.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MongoClient, ObjectId } from 'mongodb';
import { pino } from 'pino';
import { findBinary } from '../../src/embedded/binaries.ts';
import { reached } from '../../src/head/state.ts';
import { beginSeed, endSeed, headDirectory, takeDirectory } from '../../src/head/directory.ts';
import { HeadOwner, type HeadOptions } from '../../src/head/owner.ts';
import { fromStoredPosition, fromTimestamp } from '../../src/mongo/positions.ts';
import { mongodOn } from '../../src/mongod/process.ts';
import { Arrivals } from '../../src/stores/arrivals.ts';
import { proveEqual, type EqualityReport } from '../../src/proof/equality.ts';
import { isLifeboatError } from '../../src/shared/errors.ts';
import type { HeadPosition, SnapshotSummary } from '../../src/shared/messages.ts';
import type { Position } from '../../src/shared/optime.ts';
import { openSource, type Source } from '../../src/source/connect.ts';
import type { ReadLimit } from '../../src/source/read-pace.ts';
import { applyEntries } from '../../src/steps/apply-entries.ts';
import { beginSync, planSync } from '../../src/steps/begin-sync.ts';
import { buildHead } from '../../src/steps/build-head.ts';
import type { StepContext } from '../../src/steps/context.ts';
import { copySource } from '../../src/steps/copy-source.ts';
import { finishSync } from '../../src/steps/finish-sync.ts';
import { seedHead, type Fillable } from '../../src/steps/seed-head.ts';
import { tailOplog } from '../../src/steps/tail-oplog.ts';
import { takeSnapshot, type LockableHead } from '../../src/steps/take-snapshot.ts';
import { validateHead } from '../../src/steps/validate-head.ts';
import type { VerificationParts } from '../../src/steps/verify-part.ts';
import { FreshSlices } from '../../src/syncstore/fresh-slices.ts';
import { createMember, fenceOf } from '../../src/stores/claims.ts';
import { openStores, type Stores } from '../../src/stores/connect.ts';
import { readMember, type MemberFence } from '../../src/stores/members.ts';
import type { StoredVerification, ValidationRecord } from '../../src/stores/records.ts';
import { copyEach } from './copy-each.ts';
import { testFolder, type TestFolder } from './folders.ts';
import type { Random } from './random.ts';
import { startReplicaSet, type TestReplicaSet } from './replica-set.ts';

const DEPLOYMENT = 'shop';
const WINDOW_MS = 3_600_000;
/** Each disturbance leaves more time than the one before, so that a busy machine comes to an end too. */
const PATIENCE_MS = 20;
const PATIENCE_WITH_KILLS_MS = 200;

export interface Disturbance {
  readonly random: Random;
  /** A step is cut short after a random time below this. */
  readonly withinMs: number;
  /** How often, of all runs of a step, another run is started beside it instead. */
  readonly twins: number;
  /** Kills the mongod of the head after random times, at first below this. */
  readonly killHeadWithinMs?: number;
}

export interface DataPathOptions {
  /** URI of the source. */
  readonly source: string;
  /** The mongod of the head; the one of the environment when left out. */
  readonly mongod?: string;
  readonly disturb?: Disturbance;
  /** Raw bytes of a slice; small ones make many. */
  readonly sliceBytes?: number;
  readonly slicesInFlight?: number;
  /** Documents of a range that is compared; few make many ranges. */
  readonly rangeDocuments?: number;
  /** How fast documents of the source are read. */
  readonly readLimit?: ReadLimit;
  /** What is left out. */
  readonly exclude?: readonly string[];
  /** Holds the stores; one of its own, which goes with it, when left out. */
  readonly storeSet?: TestReplicaSet;
}

/** Moments of an initial sync; see DataPath.initialSync. */
export type SyncMoment = 'planned' | 'listed' | 'sliced' | 'copied';

/** How a step was ended before its time, and how often. */
export interface Disturbed {
  cut: number;
  twins: number;
  kills: number;
}

export class DataPath implements AsyncDisposable {
  readonly disturbed: Disturbed = { cut: 0, twins: 0, kills: 0 };
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly #options: DataPathOptions;
  readonly #headOptions: HeadOptions;
  #head: HeadOwner;
  readonly #source: Source;
  readonly #set: TestReplicaSet;
  readonly #folder: TestFolder;
  readonly #arrivals = new Arrivals();
  readonly #closing = new AbortController();
  readonly #logger = pino({ level: process.env['LIFEBOAT_TEST_LOG'] ?? 'silent' });
  #tailing: Promise<void> = Promise.resolve();
  #killing: Promise<void> = Promise.resolve();
  #isCalm = false;
  #disturb: Disturbance | undefined;
  #failure: unknown;

  private constructor(parts: {
    options: DataPathOptions;
    stores: Stores;
    fence: MemberFence;
    head: HeadOwner;
    headOptions: HeadOptions;
    source: Source;
    set: TestReplicaSet;
    folder: TestFolder;
  }) {
    this.#options = parts.options;
    this.#disturb = parts.options.disturb;
    this.stores = parts.stores;
    this.fence = parts.fence;
    this.#head = parts.head;
    this.#headOptions = parts.headOptions;
    this.#source = parts.source;
    this.#set = parts.set;
    this.#folder = parts.folder;
  }

  /** Opens everything and makes an empty head; nothing is read from the source yet. */
  static async open(options: DataPathOptions): Promise<DataPath> {
    const undo = new AsyncDisposableStack();
    try {
      const set = options.storeSet ?? undo.use(await startReplicaSet({ name: 'blocks' }));
      const folder = undo.use(await testFolder());
      const stores = undo.adopt(await openStores({ blockstore: set.uri }), (opened) => opened.close());
      const source = undo.adopt(
        await openSource({ name: DEPLOYMENT, uri: options.source, readLimit: options.readLimit }),
        (opened) => opened.close(),
      );
      const { replicaSetId, setName, version, featureCompatibilityVersion } = source.identity;
      const identity = { setName, version, featureCompatibilityVersion };
      const claim = await createMember(stores, {
        deployment: DEPLOYMENT,
        source: { ...identity, replicaSetId: ObjectId.createFromHexString(replicaSetId) },
        daemon: 'here',
        phase: 'initial-sync',
      });
      const headOptions = {
        identity: { deployment: DEPLOYMENT, member: claim.member, incarnation: claim.incarnation, replicaSetId },
        epoch: claim.epoch,
        dataDir: folder.path,
        binary: options.mongod ?? (await findBinary('mongod')),
        cacheGiB: 0.25,
        logger: pino({ level: process.env['LIFEBOAT_TEST_LOG'] ?? 'silent' }),
      };
      const head = await HeadOwner.open(headOptions);
      return new DataPath({ options, stores, fence: fenceOf(claim), head, headOptions, source, set, folder });
    } catch (error) {
      await undo.disposeAsync();
      throw error;
    }
  }

  get head(): HeadOwner {
    return this.#head;
  }

  /** Ends the head and opens it anew, as a worker does that was restarted; what it knew of open transactions is gone. */
  async restartHead(): Promise<void> {
    await this.#head.close();
    for (;;) {
      try {
        this.#head = await HeadOwner.open(this.#headOptions);
        return;
      } catch (error) {
        // Killed while it was opened.
        if (!passes(error)) throw error;
      }
    }
  }

  /** The directory of the head is lost; a head is made from the newest snapshot. */
  async loseHead(): Promise<void> {
    await this.#head.destroy();
    const { identity, epoch, dataDir } = this.#headOptions;
    const directory = headDirectory(dataDir, identity);
    const heads: Fillable = {
      async beginFilling(_stores, _fence, snapshot) {
        await takeDirectory(directory, identity, epoch);
        await beginSeed(directory, identity, epoch, snapshot);
        return directory;
      },
      filled: (_stores, _fence, snapshot) => endSeed(directory, identity, epoch, snapshot),
    };
    await seedHead(this.#context(), { stores: this.stores, fence: this.fence, heads, daemon: 'here' });
    this.#head = await HeadOwner.open(this.#headOptions);
  }

  #context(signal = this.#closing.signal): StepContext {
    return { signal, report: () => undefined, logger: this.#logger };
  }

  /**
   * The whole initial sync; the oplog is followed from its begin on until this is disposed of.
   * @param at is waited for at each moment, with nothing under way but the following of the oplog: the optimes are chosen
   *   and nothing is listed; all is listed and nothing copied; of each collection one slice is copied, or all where one
   *   reply holds it; all is copied, and there is no stop point yet
   */
  async initialSync(at?: (moment: SyncMoment) => Promise<unknown>): Promise<void> {
    const { stores, fence } = this;
    const source = this.#source;
    const { exclude = [] } = this.#options;
    if (at) {
      await this.#until(
        (ctx) => planSync(ctx, { stores, source, fence, exclude }),
        () => true,
      );
      await at('planned');
    }
    await this.#until(
      (ctx) => beginSync(ctx, { stores, source, fence, exclude }),
      () => true,
    );
    this.#tailing = this.#tail();
    if (at) {
      await at('listed');
      await copyEach({ stores, source, fence }, 'one slice');
      await at('sliced');
      await copyEach({ stores, source, fence }, 'all');
      await at('copied');
    }
    // Another one where it was restarted at such a moment.
    const { head } = this;
    this.#killing = this.#killHeads();
    const { sliceBytes, slicesInFlight = 2 } = this.#options;
    // With little patience, so that some of them have to be read back.
    const fresh = new FreshSlices({ mostBytes: 2 * (sliceBytes ?? 10_000_000), patienceMs: 20 });
    const copying = {
      ...{ stores, source, fence, slicesInFlight, fresh },
      ...(sliceBytes === undefined ? {} : { sliceBytes }),
    };
    await Promise.all([
      this.#until(
        (ctx) => copySource(ctx, copying, { maxMs: 5_000 }),
        ({ finished }) => finished,
      ),
      this.#until(
        (ctx) => buildHead(ctx, { stores, fence, head, fresh }, { maxMs: 5_000 }),
        ({ finished }) => finished,
      ),
    ]);
    const stop = (await readMember(stores, fence)).sync?.stop;
    if (!stop) throw new Error('the copying ended without a stop point');
    await this.applyUntil(fromStoredPosition(stop));
    await this.#until(
      async (ctx) => {
        await finishSync(ctx, { stores, fence, head });
        return true;
      },
      (finished) => finished,
    );
  }

  /** From now on steps are disturbed in that way, or not at all. */
  disturb(disturb: Disturbance | undefined): void {
    this.#disturb = disturb;
    this.#killing = this.#killing.then(() => this.#killHeads());
  }

  /** Validates the head, entries applied beside it, and gives the report. */
  async validate(): Promise<ValidationRecord> {
    const applying = new AbortController();
    const applied = this.#applyBeside(applying.signal);
    try {
      await this.#until(
        (ctx) => this.validateFor(ctx),
        ({ finished }) => finished,
      );
    } finally {
      applying.abort();
      await applied;
    }
    return this.validation();
  }

  /** One run of the validation's step. */
  async validateFor(ctx: StepContext, maxMs = 5_000): Promise<{ readonly finished: boolean }> {
    const { stores, fence, head } = this;
    const { rangeDocuments } = this.#options;
    const parts = { stores, source: this.#source, fence, head };
    return validateHead(ctx, { ...parts, ...(rangeDocuments === undefined ? {} : { rangeDocuments }) }, { maxMs });
  }

  /** How a part of this head is compared with its source. */
  verification(options: Partial<VerificationParts> = {}): VerificationParts {
    const readLimit = (): Promise<null> => Promise.resolve(null);
    const source = (): Promise<Source> => Promise.resolve(this.#source);
    return { source, readLimit, maxMs: 60_000, within: 28, ...options };
  }

  /** Brings the head to the newest entry of the source and takes a snapshot there. */
  async snapshot(
    options: Partial<VerificationParts> = {},
    head: LockableHead = this.head,
    signal: AbortSignal = this.#closing.signal,
  ): Promise<SnapshotSummary> {
    const { stores, fence } = this;
    const { member, source } = await readMember(stores, fence);
    const parts = { stores, fence, head, deployment: DEPLOYMENT, member, source, daemon: 'here' };
    const { ts } = await this.#applyConsistent(await this.newest());
    return takeSnapshot(this.#context(signal), { ...parts, verification: this.verification(options) }, { minimum: ts });
  }

  /** What the manifest of a snapshot says of its comparison. */
  async verificationOf(id: string): Promise<StoredVerification> {
    const manifest = await this.stores.manifests.findOne({ _id: id });
    if (!manifest?.verification) throw new Error(`nothing is said of snapshot ${id}`);
    return manifest.verification;
  }

  /** URI of the set that holds the stores. */
  get storesUri(): string {
    return this.#set.uri;
  }

  /** The newest report. */
  async validation(): Promise<ValidationRecord> {
    const { incarnation } = this.fence;
    const record = await this.stores.validations.findOne({ incarnation }, { sort: { startedAt: -1 } });
    if (!record) throw new Error('nothing was validated');
    return record;
  }

  /** A client of the head's own mongod, good until that ends. */
  async connectHead(): Promise<MongoClient> {
    return MongoClient.connect(await this.#headUri());
  }

  /** Process id of the head's mongod. */
  async headPid(): Promise<number> {
    const pid = await mongodOn(this.#dbpath);
    if (pid === undefined) throw new Error('no mongod runs on the head');
    return pid;
  }

  async #applyBeside(signal: AbortSignal): Promise<void> {
    const { stores, fence, head } = this;
    const source = (): Promise<Source> => Promise.resolve(this.#source);
    const parts = { stores, fence, head, source, arrivals: this.#arrivals, windowMs: WINDOW_MS };
    const context = { signal: AbortSignal.any([signal, this.#closing.signal]), report: () => undefined };
    while (!context.signal.aborted) {
      try {
        await applyEntries({ ...context, logger: this.#logger }, parts, { maxMs: 2_000 });
      } catch (error) {
        if (context.signal.aborted) return;
        // A head that was killed is opened anew; whatever else is wrong ends the validation too, which waits for entries.
        if (passes(error)) continue;
        this.#failure = error;
        this.#closing.abort(error);
      }
    }
  }

  /**
   * Applies entries up to and including the one at `until`, and no further, unless an initial sync is only consistent
   * behind it.
   */
  async applyUntil(until: Position): Promise<HeadPosition> {
    const parts = {
      stores: this.stores,
      fence: this.fence,
      head: this.head,
      source: (): Promise<Source> => Promise.resolve(this.#source),
      arrivals: this.#arrivals,
      windowMs: WINDOW_MS,
    };
    const { position } = await this.#until(
      (ctx) => applyEntries(ctx, parts, { maxMs: 2_000, until }),
      ({ position: { appliedThrough }, caughtUp }) => caughtUp && reached(appliedThrough, until),
    );
    return position;
  }

  /** As applyUntil, or further: what an entry has brought into the backup is of a time behind it. */
  async #applyConsistent(until: Position): Promise<Position> {
    for (let at = until; ;) {
      const { inconsistentUntil } = await this.applyUntil(at);
      if (!inconsistentUntil) return at;
      at = inconsistentUntil;
    }
  }

  /** The newest entry of the source. */
  async newest(): Promise<Position> {
    const { lastWrite } = await this.#source.client.db('admin').command({ hello: 1 }, { readPreference: 'primary' });
    return { ts: fromTimestamp(lastWrite.opTime.ts), term: Number(lastWrite.opTime.t) };
  }

  /** Brings the head to `at`, the newest entry when left out, and compares it with the source as it was there, undisturbed. */
  async prove(at?: Position): Promise<EqualityReport> {
    this.#isCalm = true;
    try {
      const position = await this.#applyConsistent(at ?? (await this.newest()));
      await using copy = await MongoClient.connect(await this.#headUri());
      const source = { client: this.#source.client, at: position.ts };
      const { exclude = [] } = this.#options;
      return await proveEqual({ source, copy: { client: copy }, exclude, ids: 5 });
    } finally {
      this.#isCalm = false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#tailing;
    await this.#killing;
    await this.head.close();
    await this.#source.close();
    await this.stores.close();
    if (!this.#options.storeSet) await this.#set[Symbol.asyncDispose]();
    await this.#folder[Symbol.asyncDispose]();
    if (this.#failure !== undefined) throw this.#failure;
  }

  get #dbpath(): string {
    return join(this.#folder.path, 'heads', this.fence.key, 'db');
  }

  /** The socket of the head's mongod, from that process's own command line. */
  async #headUri(): Promise<string> {
    const words = (await readFile(`/proc/${await mongodOn(this.#dbpath)}/cmdline`, 'utf8')).split('\0');
    const socket = words[words.indexOf('--bind_ip') + 1] ?? '';
    return `mongodb://${encodeURIComponent(socket)}/?directConnection=true`;
  }

  async #tail(): Promise<void> {
    const parts = { stores: this.stores, source: this.#source, fence: this.fence, arrivals: this.#arrivals };
    try {
      let cuts = 0;
      while (!this.#closing.signal.aborted) {
        const result = await this.#once((ctx) => tailOplog(ctx, parts, { maxMs: 2_000 }), cuts);
        cuts = result ? 0 : cuts + 1;
      }
    } catch (error) {
      this.#failure = error;
      this.#closing.abort(error);
    }
  }

  /** Runs a step again and again until it says that it is done. */
  async #until<T>(step: (ctx: StepContext) => Promise<T>, isDone: (result: T) => boolean): Promise<T> {
    for (let cuts = 0; ; cuts++) {
      this.#closing.signal.throwIfAborted();
      const result = await this.#once(step, cuts);
      if (result !== undefined && isDone(result)) return result;
    }
  }

  /**
   * One run of a step; undefined when it was disturbed.
   * @param cuts how often in a row it was
   */
  async #once<T>(step: (ctx: StepContext) => Promise<T>, cuts: number): Promise<T | undefined> {
    const disturb = this.#disturb;
    if (!disturb) return this.#attempt(step, this.#closing.signal);
    // A head that was killed just before is opened anew.
    if (this.#isCalm) return this.#attempt(step, this.#closing.signal).catch(excuse);
    if (disturb.random.chance(disturb.twins)) {
      this.disturbed.twins++;
      const first = this.#attempt(step, this.#closing.signal).catch(excuse);
      first.catch(() => undefined);
      await delay(disturb.random.below(disturb.withinMs));
      const second = this.#attempt(step, this.#closing.signal).catch(excuse);
      // Both may fail of the same; each is looked at.
      const [, result] = await Promise.all([first, second]);
      return result;
    }
    const cut = new AbortController();
    const timer = setTimeout(
      () => {
        this.disturbed.cut++;
        cut.abort();
      },
      disturb.random.below(disturb.withinMs) + cuts * PATIENCE_MS,
    );
    try {
      return await this.#attempt(step, AbortSignal.any([cut.signal, this.#closing.signal]));
    } catch (error) {
      if (cut.signal.aborted && !this.#closing.signal.aborted && isCut(error)) return undefined;
      excuse(error);
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  async #attempt<T>(step: (ctx: StepContext) => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
    try {
      return await step({ signal, report: () => undefined, logger: this.#logger });
    } catch (error) {
      if (this.#closing.signal.aborted && isCut(error)) return undefined;
      throw error;
    }
  }

  async #killHeads(): Promise<void> {
    const disturb = this.#disturb;
    const { random, killHeadWithinMs } = disturb ?? {};
    if (!random || killHeadWithinMs === undefined) return;
    for (let kills = 0; !this.#closing.signal.aborted && this.#disturb === disturb;) {
      const pause = random.below(killHeadWithinMs) + kills * PATIENCE_WITH_KILLS_MS;
      await delay(pause, undefined, { signal: this.#closing.signal }).catch(() => undefined);
      const pid = await mongodOn(this.#dbpath);
      if (pid === undefined || this.#isCalm || this.#disturb !== disturb || this.#closing.signal.aborted) continue;
      this.disturbed.kills++;
      kills++;
      process.kill(pid, 'SIGKILL');
    }
  }
}

function isCut(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

/** Whether what a step failed with passes when it is run again. */
export function passes(error: unknown): boolean {
  return isLifeboatError(error) && error.retryable && error.kind !== 'Internal';
}

/** What a disturbed step may fail with: it was superseded by its twin, or whatever passes when it is run again. */
function excuse(error: unknown): undefined {
  if (isLifeboatError(error, 'FenceLost')) return undefined;
  if (passes(error)) return undefined;
  throw error;
}
