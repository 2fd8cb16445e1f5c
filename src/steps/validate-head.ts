/**
 * Step: compare a head that is whole with its source, fetch anew what differs, and only then let go of the slices.
 *
 * Documents are compared in turns of the head of a few seconds each: it stands at its optime meanwhile, and the source is
 * read as it was there. What differs is noted, and fetched anew when everything is compared: all of it behind one mark
 * (docs/design-decisions.md), and then compared again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { HeadCollection } from '../head/catalog.ts';
import { overConnections, type HeadConnection } from '../head/connections.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { HeadAttempt, HeadOwner } from '../head/owner.ts';
import { forgetMissing, readMissing } from '../head/missing.ts';
import { isInRepair, isTolerant, later, OPEN_ENDED, positionIn, reached, refuseDiverged } from '../head/state.ts';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';
import { compareOptimes, formatOptime, type Position } from '../shared/optime.ts';
import { requireRecordedSet, type Source } from '../source/connect.ts';
import { primaryWrite } from '../source/positions.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { StoredDifference, StoredFinding, ValidationCollectionRecord } from '../stores/records.ts';
import { planValidated } from '../syncstore/plan.ts';
import { removeSync } from '../syncstore/remove.ts';
import { headCatalog, isSameDifference, type CatalogDifference } from '../validation/catalog.ts';
import type { Compared } from '../validation/compare.ts';
import { findingOf, lookAtCatalog, type HeadDefinitions } from '../validation/definitions.ts';
import { compareRange, findDifferences, repairRange, type RangeWork } from '../validation/documents.ts';
import { besideOthers, extentOf, merged, Tally, type Extent } from '../validation/findings.ts';
import { ValidationLog } from '../validation/log.ts';
import {
  documentBytes,
  isRange,
  rangeAround,
  rangeOf,
  shapeOf,
  storedRange,
  type Range,
  type Shape,
} from '../validation/ranges.ts';
import { toCompare } from '../validation/scope.ts';
import { RangeQueue, type Item } from '../validation/range-queue.ts';
import { checkCollection } from '../validation/server-check.ts';
import { notAtThatTime, SourceReader } from '../validation/source-reader.ts';
import type { StepContext } from './context.ts';
import { unloadedHead } from './unloaded-head.ts';

export interface ValidateParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
  /** How many documents a range has at most; 50,000 when left out. */
  readonly rangeDocuments?: number;
}

/** How long the head stands still while its server checks collections, in milliseconds; the one in hand is ended. */
const CHECK_MS = 3_000;
/** A server checks a collection on one processor. */
const CHECKS_AT_ONCE = 2;
/** While one reply is compared others come in. */
const COMPARED_AT_ONCE = 2;
/** How often ranges that differ are fetched anew. */
const MOST_ROUNDS = 5;
/** How often the catalogs are compared. */
const MOST_LISTINGS = 8;
const PAUSE_MS = 1_000;
const WHAT_IS_EQUAL = {
  all: 'the head is equal to its source',
  part: 'what was compared of the head is equal to its source; the rest was not compared',
  nothing: 'no documents of the head were compared with its source',
} as const satisfies Record<Extent, string>;
/** A head with more differing ranges than this in one collection has to be made anew. */
const MOST_DIFFERING = 1_000;

/**
 * Goes on with the validation for about `maxMs`, while entries are applied by another step. Finished when all that can be
 * compared was found, or made, equal: the plan is then validated and the slices are gone.
 * @throws LifeboatError `ValidationFailed`, `Diverged`, `IndexBuildFailed`, `HeadMissing`, `WrongReplicaSet`, `FenceLost`;
 *   `HeadInconsistent`, `HeadLost`, `HeadStrained`, `DiskFull`, `SourceUnavailable`, `StoreUnavailable` (retryable)
 */
export async function validateHead(
  ctx: StepContext,
  parts: ValidateParts,
  { maxMs }: { readonly maxMs: number },
): Promise<{ readonly finished: boolean }> {
  const { stores, source, fence } = parts;
  const { sync, deployment, member, source: recorded } = await readMember(stores, fence);
  requireRecordedSet(source, recorded);
  if (sync?.stage === 'built') {
    if (!parts.head.state().position) throw unloadedHead(fence, sync);
    const inRepair = isInRepair(parts.head.state().position);
    const log = await ValidationLog.open(stores, fence, { deployment, member, inRepair });
    if (log.record.state === 'running') {
      await using reader = await SourceReader.open(source);
      const run = new ValidateRun(ctx, parts, log, reader, maxMs);
      try {
        if (!(await run.go())) return { finished: false };
      } catch (error) {
        throw castDriverError(error, 'source', `validating the head of ${fence.key}`);
      } finally {
        run.end();
      }
    }
    if (!(await planValidated(stores, fence))) return { finished: false };
  } else if (sync?.stage !== 'validated') {
    throw new LifeboatError('HeadInconsistent', `the head of ${fence.key} is not whole yet`);
  }
  // The slices are the last that could build it again.
  const attempt = parts.head.attempt('validate');
  const isLoaded = await attempt.turn((head) => Promise.resolve(head.record.position !== null), ctx.signal);
  if (!isLoaded) throw unloadedHead(fence, { stage: 'validated' });
  await removeSync(stores, fence.incarnation);
  return { finished: true };
}

/** What comparing a range has found. */
interface Outcome {
  readonly compared: Compared;
  readonly found: readonly StoredFinding[];
}

class ValidateRun {
  readonly #ctx: StepContext;
  readonly #parts: ValidateParts;
  readonly #attempt: HeadAttempt;
  readonly #log: ValidationLog;
  readonly #reader: SourceReader;
  readonly #deadline: number;
  /** Aborted with the step, and when its time is over: a turn, or the head's coming up, may be long in coming. */
  readonly #signal: AbortSignal;
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #beganAt = performance.now();
  readonly #shapes = new Map<string, Shape>();
  /** Keys of what was never alike so far, and what no entry explained in the last look. */
  #unlike: ReadonlySet<string> | undefined;
  #suspected: readonly CatalogDifference[] = [];
  #listings = 0;
  /** Bytes of all documents of the head, about, and those that were compared when this run began. */
  #totalBytes: number | undefined;
  #bytesBefore = 0;

  constructor(ctx: StepContext, parts: ValidateParts, log: ValidationLog, reader: SourceReader, maxMs: number) {
    this.#ctx = ctx;
    this.#parts = parts;
    this.#attempt = parts.head.attempt('validate');
    this.#log = log;
    this.#reader = reader;
    this.#deadline = Date.now() + maxMs;
    this.#timer = setTimeout(() => this.#over.abort(), maxMs);
    this.#signal = AbortSignal.any([ctx.signal, this.#over.signal]);
    this.#bytesBefore = this.#comparedBytes();
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  /** True when the validation has ended well. */
  async go(): Promise<boolean> {
    while (Date.now() < this.#deadline) {
      this.#ctx.signal.throwIfAborted();
      if (await this.#withinTime(() => this.#goOn())) return true;
    }
    return false;
  }

  /** Undefined when the step's time was over first; what was done is noted. */
  async #withinTime<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      const isOver = this.#over.signal.aborted && !this.#ctx.signal.aborted;
      if (isOver && error instanceof Error && error.name === 'AbortError') return undefined;
      throw error;
    }
  }

  async #goOn(): Promise<boolean> {
    switch (this.#log.record.stage) {
      case 'server':
        await this.#checkByServer();
        return false;
      case 'catalog':
        await this.#compareCatalogs();
        return false;
      case 'compare':
        return this.#compare();
      case 'repair':
        await this.#repair();
        return false;
    }
  }

  // ---- the server's own check -------------------------------------------------------------------------------------

  async #checkByServer(): Promise<void> {
    if (this.#log.collections.size === 0) {
      const found = await this.#turn((head) => headCatalog(head, { indexes: false }));
      await this.#log.list(found.flatMap(toCompare));
    }
    const listed = [...this.#log.collections].filter(([, { state }]) => state === 'listed');
    await this.#turn(async (head) => {
      const until = Date.now() + CHECK_MS;
      const waiting = listed.values();
      await overConnections(head.socket, CHECKS_AT_ONCE, this.#ctx.signal, async (own, ended) => {
        for (const [uuid, record] of waiting) {
          ended.throwIfAborted();
          await this.#check({ head, socket: own }, uuid, record);
          this.#report(false);
          if (Date.now() > until) break;
        }
      });
      await this.#log.flush();
    });
    if ([...this.#log.collections.values()].some(({ state }) => state === 'listed')) return;
    const damaged = this.#differing();
    if (damaged.length > 0) await this.#fail(damaged.flatMap(({ found }) => found));
    await this.#log.flush({ stage: 'catalog' });
  }

  async #check(on: HeadConnection, uuid: string, { reason }: ValidationCollectionRecord): Promise<void> {
    const collection = on.head.catalog.get(uuid);
    const outcome = collection ? await checkCollection(on, collection) : 'gone';
    if (!collection || outcome === 'gone') {
      this.#log.change(uuid, { state: 'gone' });
    } else if (outcome === 'damaged') {
      const namespace = `${collection.db}.${collection.name}`;
      const found: StoredFinding[] = [{ namespace, kind: 'damaged', count: 1, ids: [], names: [] }];
      this.#log.change(uuid, { state: 'compared', differing: [{ from: null, to: null, round: 0, found }] });
    } else {
      this.#log.change(uuid, { state: reason === null ? 'checked' : 'not-compared' });
    }
  }

  // ---- names, options, indexes, views -----------------------------------------------------------------------------

  async #compareCatalogs(): Promise<void> {
    await this.#comparable();
    const definitions = await this.#turn(async (head): Promise<HeadDefinitions | undefined> => {
      if (isTolerant(head.record)) return undefined;
      const { appliedThrough } = positionIn(head.record);
      return { at: appliedThrough, filter: head.filter, mine: await headCatalog(head, { indexes: true }) };
    });
    if (!definitions) return;
    const { at, ...mine } = definitions;
    const { client } = this.#reader.member;
    await this.#reader.reach(at, this.#ctx.signal);
    // What was alike in one look was alike then, and has been changed by entries only since.
    const look = { at, ...mine, among: this.#unlike };
    const { differences, unexplained } = await lookAtCatalog(client, look, this.#ctx.signal);
    this.#unlike = new Set(differences.map(({ key }) => key));
    if (differences.length === 0) {
      await this.#log.flush({ stage: 'compare' });
      return;
    }
    // One look may have come between two entries; a difference that stays is one.
    const certain = unexplained.filter((one) => this.#suspected.some((other) => isSameDifference(one, other)));
    this.#suspected = unexplained;
    if (certain.length > 0) await this.#fail(certain.map(findingOf));
    this.#listings += 1;
    if (this.#listings >= MOST_LISTINGS && unexplained.length === 0) {
      const leftOut = [...new Set(differences.map(({ namespace }) => namespace))];
      await this.#log.flush({ stage: 'compare', definitionsLeftOut: leftOut });
      return;
    }
    await this.#newer(at);
  }

  // ---- documents ----------------------------------------------------------------------------------------------------

  /** One group of ranges. True when there is nothing left to compare or to repair. */
  async #compare(): Promise<boolean> {
    if (!this.#isToCompare()) return this.#judge();
    await this.#comparable();
    const failedAt = await this.#turn((head) => this.#compareGroup(head));
    if (failedAt) await this.#newer(failedAt);
    return false;
  }

  /** Where the head stood when something could not be read there. */
  async #compareGroup(head: OpenHead): Promise<Position | undefined> {
    refuseDiverged(head.record);
    if (isTolerant(head.record)) return undefined;
    await this.#takeMissing(head);
    const at = positionIn(head.record).appliedThrough;
    if (head.record.undecided) {
      this.#ctx.logger.info(
        { at: formatOptime(at.ts) },
        'a prepared transaction is undecided: the comparison waits for it',
      );
      return at;
    }
    await this.#reader.reach(at, this.#ctx.signal);
    this.#totalBytes ??= await documentBytes(head);
    const until = Date.now() + this.#reader.pace.groupMs;
    const queue = this.#queue(head);
    const unreadable = new AbortController();
    await overConnections(head.socket, COMPARED_AT_ONCE, this.#ctx.signal, async (socket, ended) => {
      for (let item = await queue.next(); item; item = await queue.next()) {
        if (!(await this.#compareItem({ head, socket }, item, at))) unreadable.abort();
        this.#report(true);
        ended.throwIfAborted();
        if (unreadable.signal.aborted || Date.now() > until) break;
      }
    });
    await this.#log.flush({}, at);
    return unreadable.signal.aborted ? at : undefined;
  }

  /** Takes over what entries did not find: it differs for sure, and is fetched anew with the rest. */
  async #takeMissing(head: OpenHead): Promise<boolean> {
    const missing = await readMissing(head.socket);
    for (const { uuid, id } of missing) {
      const collection = head.catalog.get(uuid);
      const record = this.#log.collections.get(uuid);
      if (!collection) continue;
      const namespace = `${collection.db}.${collection.name}`;
      // Of a collection that was made later, by entries alone, nothing can be missing.
      if (!record) {
        await head.diverged(positionIn(head.record).appliedThrough, `a document of ${namespace} is missing`);
        continue;
      }
      const tally = new Tally('missing');
      tally.add(id);
      const range = await rangeAround(head, collection, id, await this.#shapeOf(head, collection));
      if (record.differing.some((one) => isRange(one, range))) continue;
      this.#log.change(uuid, { differing: this.#with(record.differing, range, tally.found(namespace)) });
      await this.#refuseTooMuch(uuid);
    }
    if (missing.length === 0) return false;
    await this.#log.flush();
    await forgetMissing(head.socket, missing);
    return true;
  }

  #isToCompare(): boolean {
    const { round } = this.#log.record;
    const isOpen = ({ state, differing }: ValidationCollectionRecord): boolean =>
      state === 'checked' || differing.some((one) => one.round < round);
    return [...this.#log.collections.values()].some(isOpen);
  }

  #queue(head: OpenHead): RangeQueue {
    const { rangeSeconds } = this.#reader.pace;
    return new RangeQueue({
      head,
      log: this.#log,
      shapeOf: (collection) => this.#shapeOf(head, collection),
      size: async () => ({
        documents: this.#parts.rangeDocuments,
        bytes: await this.#reader.bytesWithin(rangeSeconds, this.#ctx.signal),
      }),
    });
  }

  /** False when the source could not be read at that optime, there or in a range before it: nothing is noted then. */
  async #compareItem(on: HeadConnection, item: Item, at: Position): Promise<boolean> {
    const { collection, range, shape, before } = item;
    let isNoted = false;
    try {
      const work = { ...on, reader: this.#reader, collection, range, shape, at, signal: this.#ctx.signal };
      const outcome = await this.#outcomeOf(work);
      if (!(await before)) return false;
      if (typeof outcome === 'string') {
        this.#notRead(item, outcome);
        return false;
      }
      this.#note(item, outcome);
      isNoted = true;
      await this.#refuseTooMuch(item.uuid);
      return true;
    } finally {
      item.end(isNoted);
    }
  }

  /** What was found, or why the source could not be read. */
  async #outcomeOf(work: RangeWork): Promise<Outcome | string> {
    let compared: Compared;
    try {
      compared = await compareRange(work);
    } catch (error) {
      const why = notAtThatTime(error);
      if (why === undefined) throw error;
      return why;
    }
    if (compared.equal) return { compared, found: [] };
    if (!this.#reader.tellsOfPast(work.collection.db)) return 'it differs from what the source holds by now';
    return { compared, found: await findDifferences(work) };
  }

  #note({ uuid, range, again, collection: { db, name } }: Item, { compared, found }: Outcome): void {
    const record = this.#log.collections.get(uuid);
    if (!record) return;
    const stored = storedRange(range);
    const others = again ? record.differing.filter((one) => !isRange(one, range)) : record.differing;
    const before = again ? record.differing.filter((one) => isRange(one, range)) : [];
    const isEqual = found.length === 0;
    this.#log.change(uuid, {
      db,
      name,
      tries: 0,
      ...(again ? {} : { next: stored.to, state: stored.to === null ? 'compared' : 'checked' }),
      ...(isEqual
        ? {
            ranges: record.ranges + 1,
            documents: record.documents + compared.documents,
            bytes: record.bytes + compared.bytes,
          }
        : {}),
      differing: isEqual ? others : this.#with(others, range, found),
      ...(isEqual && before.length > 0
        ? { repaired: merged([...record.repaired, ...before.flatMap((one) => one.found)]) }
        : {}),
    });
  }

  #with(
    others: readonly StoredDifference[],
    range: Range,
    found: readonly StoredFinding[],
  ): readonly StoredDifference[] {
    const { round } = this.#log.record;
    return [...others, { ...storedRange(range), round, found: besideOthers(found, others.length) }];
  }

  /** Before it is written: what one record holds is bounded. */
  async #refuseTooMuch(uuid: string): Promise<void> {
    const differing = this.#log.collections.get(uuid)?.differing ?? [];
    if (differing.length > MOST_DIFFERING) await this.#fail(this.#differing().flatMap(({ found }) => found));
  }

  /** A collection that cannot be read is left out, but for ranges that are known to differ: those have to come right. */
  #notRead({ uuid, range, again }: Item, why: string): void {
    const record = this.#log.collections.get(uuid);
    if (!record) return;
    const tries = record.tries + 1;
    const { round } = this.#log.record;
    this.#ctx.logger.info(
      { namespace: `${record.db}.${record.name}`, why, tries },
      'not readable at the optime of the head',
    );
    if (tries < this.#reader.pace.tries) {
      this.#log.change(uuid, { tries });
    } else if (again) {
      const differing = record.differing.map((one) => (isRange(one, range) ? { ...one, round } : one));
      this.#log.change(uuid, { tries: 0, differing });
    } else {
      const reason = `the source could not be read as it was at the optime of the head (${why})`;
      this.#log.change(uuid, { tries: 0, state: 'not-compared', reason });
    }
  }

  async #shapeOf(head: OpenHead, collection: HeadCollection): Promise<Shape> {
    const known = this.#shapes.get(collection.uuid);
    if (known) return known;
    const shape = await shapeOf(head, collection);
    this.#shapes.set(collection.uuid, shape);
    return shape;
  }

  /** With everything compared: is it equal, can it be repaired, or not? */
  async #judge(): Promise<boolean> {
    const { record } = this.#log;
    const differing = this.#differing();
    if (differing.length === 0) {
      await this.#comparable();
      if (!(await this.#turn((head) => this.#release(head)))) return false;
      await this.#log.end('equal');
      const { _id: validation, ranges, documents, bytes, repaired, notCompared } = this.#log.record;
      const counts = { repaired: repaired.length, notCompared: notCompared.length };
      this.#ctx.logger.info(
        { validation, ranges, documents, bytes, ...counts },
        WHAT_IS_EQUAL[extentOf(this.#log.record)],
      );
      return true;
    }
    if (record.round >= MOST_ROUNDS) await this.#fail(differing.flatMap(({ found }) => found));
    await this.#log.flush({ stage: 'repair' });
    return false;
  }

  /** Lets the head go into routine operation, where a missing document is a divergence. False when one came up just now. */
  async #release(head: OpenHead): Promise<boolean> {
    refuseDiverged(head.record);
    if (isTolerant(head.record) || (await this.#takeMissing(head))) return false;
    await head.save({ ...head.record, awaitsValidation: false }, { journaled: true });
    return true;
  }

  #differing(): ValidationCollectionRecord['differing'] {
    return [...this.#log.collections.values()].flatMap(({ differing }) => differing);
  }

  // ---- fetching anew --------------------------------------------------------------------------------------------------

  /** Not cut short by the step's time: the mark is not closed before all of it is done. */
  async #repair(): Promise<void> {
    const { signal } = this.#ctx;
    await this.#attempt.turn(async (head) => {
      refuseDiverged(head.record);
      const position = { ...positionIn(head.record), inconsistentUntil: OPEN_ENDED };
      await head.save({ ...head.record, position }, { journaled: true });
    }, signal);
    let until: Position | undefined;
    for (const [uuid, { differing }] of this.#log.collections) {
      for (const range of differing) {
        const at = await this.#repairRange(uuid, rangeOf(range), range.found);
        if (at && (!until || compareOptimes(at.ts, until.ts) > 0)) until = at;
      }
    }
    const mark = await this.#endOfRepair(until);
    await this.#attempt.turn(async (head) => {
      const position = { ...positionIn(head.record), inconsistentUntil: mark };
      await head.save({ ...head.record, position }, { journaled: true });
      // With no entry to come it is there already.
      if (reached(position.appliedThrough, mark)) {
        await this.#attempt.applier(head).run(Buffer.alloc(0), undefined, signal);
      }
    }, signal);
    const { round, _id: validation } = this.#log.record;
    this.#ctx.logger.info({ validation, round: round + 1, until: formatOptime(mark.ts) }, 'fetched anew what differed');
    await this.#log.flush({ stage: 'compare', round: round + 1 });
  }

  /**
   * Behind all that was fetched, and behind what an entry in between has brought into the backup (Incoming), whose mark the
   * open one has covered: everything on a majority is on the primary.
   */
  async #endOfRepair(until: Position | undefined): Promise<Position> {
    const { source } = this.#parts;
    const primary = await primaryWrite(source.client, this.#ctx.signal);
    if (!primary) throw new LifeboatError('SourceNotReady', `${source.name} has no primary`);
    return later(await this.#reader.newest(until), primary) ?? primary;
  }

  /** The optime of the source that the range is now of; undefined when its collection is gone. */
  async #repairRange(uuid: string, range: Range, found: readonly StoredFinding[]): Promise<Position | undefined> {
    for (let tries = 1; ; tries += 1) {
      const outcome = await this.#attempt.turn(async (head) => {
        const collection = head.catalog.get(uuid);
        if (!collection) return undefined;
        const shape = await this.#shapeOf(head, collection);
        const at = await this.#reader.newest(positionIn(head.record).appliedThrough);
        await this.#reader.reach(at, this.#ctx.signal);
        const work = {
          ...{ head, socket: head.socket, reader: this.#reader, collection, range, shape, at },
          signal: this.#ctx.signal,
        };
        try {
          const done = await repairRange(work, this.#attempt.applier(head));
          // What does not tell of its past was read as it was by now.
          return { at: this.#reader.tellsOfPast(collection.db) ? at : await this.#reader.newest(at), done };
        } catch (error) {
          if (notAtThatTime(error) === undefined) throw error;
          return { at, done: undefined };
        }
      }, this.#ctx.signal);
      if (!outcome || outcome.done) return outcome?.at;
      if (outcome.done === false || tries >= this.#reader.pace.tries) await this.#fail(found);
      await delay(PAUSE_MS, undefined, { signal: this.#ctx.signal });
    }
  }

  // ---- waiting and telling --------------------------------------------------------------------------------------------

  #turn<T>(work: (head: OpenHead) => Promise<T>): Promise<T> {
    return this.#attempt.turn(work, this.#signal);
  }

  /** Waits until the head is consistent and near enough to the source. */
  async #comparable(): Promise<void> {
    const { head } = this.#parts;
    const { mostAgeS } = this.#reader.pace;
    for (;;) {
      const newest = await this.#reader.newest();
      const { position, tolerant } = head.state();
      if (!position) throw new LifeboatError('HeadInconsistent', `the head of ${this.#parts.fence.key} is not loaded`);
      const age = newest.ts.t - position.appliedThrough.ts.t;
      if (!tolerant && age <= mostAgeS) {
        await this.#reader.reach(position.appliedThrough, this.#signal);
        return;
      }
      await head.waitApplied(age <= mostAgeS ? position.appliedThrough.ts : newest.ts, this.#signal);
    }
  }

  /** Waits until the head stands behind `at`, if the source has anything behind it. */
  async #newer(at: Position): Promise<void> {
    await delay(PAUSE_MS, undefined, { signal: this.#signal });
    const newest = await this.#reader.newest(at);
    await this.#parts.head.waitApplied(newest.ts, this.#signal);
  }

  async #fail(found: readonly StoredFinding[]): Promise<never> {
    await this.#log.end('different', found);
    return this.#log.fail();
  }

  #comparedBytes(): number {
    return [...this.#log.collections.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #report(ofDocuments: boolean): void {
    const collections = [...this.#log.collections.values()];
    if (!ofDocuments) {
      const done = collections.filter(({ state }) => state !== 'listed').length;
      this.#ctx.report({ ...progress(done, collections.length, null), unit: 'collections' });
      return;
    }
    const done = this.#comparedBytes();
    const seconds = (performance.now() - this.#beganAt) / 1000;
    const perSecond = seconds > 0 ? Math.round((done - this.#bytesBefore) / seconds) : null;
    this.#ctx.report({ ...progress(done, this.#totalBytes ?? null, perSecond), unit: 'bytes' });
  }
}

function progress(done: number, total: number | null, perSecond: number | null): Omit<Progress, 'unit'> {
  const left = total === null ? 0 : Math.max(0, total - done);
  const etaSeconds = total !== null && perSecond ? Math.round(left / perSecond) : null;
  return { stage: 'validate', done, total, perSecond, etaSeconds };
}
