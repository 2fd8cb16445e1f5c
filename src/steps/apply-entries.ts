/** Step: apply the stored oplog entries to the head, as they come, and remove what nothing needs any more. */
import { IS_SNAPSHOT, isGood } from '../blockstore/manifest.ts';
import type { HeadAttempt, HeadOwner } from '../head/owner.ts';
import { later, positionIn, reached, refuseDiverged } from '../head/state.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, fromTimestamp, toStoredPosition } from '../mongo/positions.ts';
import { beginOfChain, endOfChain, readEntries } from '../oplogstore/batches.ts';
import { baseOfEntries, keepEntriesFrom, type KeptSnapshot } from '../oplogstore/keep.ts';
import { removeApplied } from '../oplogstore/removal.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { HeadPosition } from '../shared/messages.ts';
import { Meter } from '../shared/meter.ts';
import { compareOptimes, earlierPosition, samePosition, type Position } from '../shared/optime.ts';
import { Pace, secondsLeft } from '../shared/pace.ts';
import { requireRecordedSet, type Source } from '../source/connect.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import type { ManifestRecord, MemberRecord } from '../stores/records.ts';
import type { StepContext } from './context.ts';
import { entriesBeingRead, removeFormer } from './former-syncs.ts';
import { fetchIncoming } from './fetch-incoming.ts';
import { unloadedHead } from './unloaded-head.ts';

export interface ApplyParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
  /** Read only when an entry renames a collection into the backup. */
  readonly source: () => Promise<Source>;
  /** Tells that entries were stored by this process; others are found by looking. */
  readonly arrivals: {
    readonly rung: number;
    wait(signal: AbortSignal, timeoutMs: number, rung: number): Promise<void>;
  };
  /** How long applied entries are kept, in milliseconds: `pointInTime.window` of the deployment. */
  readonly windowMs: number;
}

export interface ApplyRequest {
  /** How long to go on, in milliseconds. */
  readonly maxMs: number;
  /** Nothing after it is applied, and the step ends when it is reached. */
  readonly until?: Position;
}

export interface ApplyResult {
  readonly position: HeadPosition;
  /** The head stands at or behind `until`; without that, every entry that was stored is applied. */
  readonly caughtUp: boolean;
}

/** How long an idle step waits before it looks into the store, in milliseconds. */
const LOOK_MS = 1_000;
const NO_ENTRIES = Buffer.alloc(0);

/** How often the position is made durable and told, and how often entries are removed, in milliseconds. */
const TELL_MS = 2_000;
const REMOVE_MS = 10_000;

/**
 * Applies entries for about `maxMs`. While the head is `catching-up` nothing behind the stop point is applied.
 * @throws LifeboatError `UnknownEntry`, `EntryNotSupported`, `Diverged`, `EntriesMissing`, `EntriesDamaged`, `FenceLost`,
 *   `IndexBuildFailed`; `HeadMissing`, `HeadUnfinished` (see unloadedHead); `HeadLost`, `HeadStrained`, `DiskFull`,
 *   `StoreUnavailable` (retryable)
 */
export async function applyEntries(ctx: StepContext, parts: ApplyParts, request: ApplyRequest): Promise<ApplyResult> {
  const run = new ApplyRun(ctx, parts, request);
  const { sync } = await readMember(parts.stores, parts.fence);
  try {
    return await run.go(() => unloadedHead(parts.fence, sync));
  } catch (error) {
    if (isLifeboatError(error) && STOPS_REPLAY.has(error.kind)) await noteStuck(parts, error.kind);
    throw error;
  } finally {
    run.end();
  }
}

/** What a head cannot get over in the entries, no replay of them gets over neither. */
const STOPS_REPLAY: ReadonlySet<ErrorName> = new Set([
  'UnknownEntry',
  'EntryNotSupported',
  'ShadowedCollection',
  'Diverged',
  'FeatureVersionChanged',
  'IndexBuildFailed',
  'EntriesMissing',
  'EntriesDamaged',
]);

/** Of a head that differs from its source nobody knows since when, but for the last snapshot of it that does not. */
async function noteStuck({ stores, fence, head }: ApplyParts, kind: ErrorName): Promise<void> {
  const { position } = head.state();
  if (!position) return;
  const record = await readMember(stores, fence);
  const snapshots = kind === 'Diverged' ? await keptSnapshots(stores, record) : [];
  const last = snapshots.toSorted((a, b) => compareOptimes(a.optime, b.optime)).at(-1);
  if (kind === 'Diverged' && !last) return;
  await noteReplayStop(stores, fence, last?.position ?? position.appliedThrough);
}

class ApplyRun {
  readonly #ctx: StepContext;
  readonly #parts: ApplyParts;
  readonly #attempt: HeadAttempt;
  readonly #wanted: Position | undefined;
  readonly #deadline: number;
  /** Aborted with the step, and when its time is over: a turn may be long in coming while a snapshot is taken. */
  readonly #signal: AbortSignal;
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #meter: Meter;
  /** Seconds of the source's own time that are gone through: what is left of them tells when the head is there. */
  readonly #sourceTime = new Pace(() => performance.now());
  #sourceAt: number;
  #toldAt = 0;
  #removedAt = Date.now();

  constructor(ctx: StepContext, parts: ApplyParts, { maxMs, until }: ApplyRequest) {
    this.#ctx = ctx;
    this.#parts = parts;
    this.#attempt = parts.head.attempt('apply');
    const { stage, position } = parts.head.state();
    this.#meter = new Meter(stage === 'consistent' ? 'apply' : 'catch-up', 'entries', null);
    this.#sourceAt = position?.appliedThrough.ts.t ?? 0;
    this.#wanted = until;
    this.#deadline = Date.now() + maxMs;
    this.#timer = setTimeout(() => this.#over.abort(), maxMs);
    this.#signal = AbortSignal.any([ctx.signal, this.#over.signal]);
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  /** @param unloaded what is to be raised of a head that holds nothing */
  async go(unloaded: () => LifeboatError): Promise<ApplyResult> {
    const { arrivals } = this.#parts;
    // Asked in a turn: a head that was opened anew may have lost its directory since its state was last told.
    const isLoaded = await this.#withinTime(() =>
      this.#attempt.turn(async (head) => {
        if (head.record.position === null) return false;
        // One that a crash has left with every entry applied that it lacked becomes consistent without another.
        await this.#attempt.applier(head).run(NO_ENTRIES, undefined, this.#ctx.signal);
        return true;
      }, this.#signal),
    );
    if (isLoaded === false || this.#parts.head.state().position === null) throw unloaded();
    for (;;) {
      this.#ctx.signal.throwIfAborted();
      const { rung } = arrivals;
      const caughtUp = await this.#withinTime(() => this.#applyStored());
      const isOver = this.#isDone() || Date.now() >= this.#deadline;
      await this.#tell(isOver);
      if (isOver) {
        const reachedAll = this.#until ? this.#isDone() : (caughtUp ?? false);
        return { position: this.#position(), caughtUp: reachedAll };
      }
      if (caughtUp) await arrivals.wait(this.#ctx.signal, Math.min(LOOK_MS, this.#deadline - Date.now()), rung);
    }
  }

  /** Where to stop. While the head catches up that is where it is consistent, which an entry may have put off. */
  get #until(): Position | undefined {
    const { stage, position } = this.#parts.head.state();
    const stop = stage === 'consistent' ? null : (position?.inconsistentUntil ?? null);
    return later(stop, this.#wanted ?? null) ?? undefined;
  }

  #position(): HeadPosition {
    const { position } = this.#parts.head.state();
    if (position) return position;
    throw new LifeboatError('HeadInconsistent', `the head of ${this.#parts.fence.key} is not loaded yet`);
  }

  #isDone(): boolean {
    return this.#until !== undefined && reached(this.#position().appliedThrough, this.#until);
  }

  /** Undefined when the step's time was over first; the work stands where it stands. */
  async #withinTime<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (this.#over.signal.aborted && !this.#ctx.signal.aborted && error === this.#over.signal.reason)
        return undefined;
      throw error;
    }
  }

  /** Applies what is stored now. True when that was all of it; false when it is to be read again. */
  async #applyStored(): Promise<boolean> {
    const { stores, fence } = this.#parts;
    if (this.#isDone()) return true;
    const end = await endOfChain(stores, fence.incarnation);
    if (!end) return true;
    const { applier, from } = await this.#attempt.turn((head) => {
      // A snapshot may have found out while there was nothing to apply.
      refuseDiverged(head.record);
      const begun = this.#attempt.applier(head);
      return Promise.resolve({ applier: begun, from: begun.readFrom });
    }, this.#signal);
    if (reached(this.#position().appliedThrough, end)) return true;
    for await (const { bytes } of readEntries(stores, fence.incarnation, from, this.#signal)) {
      let applied = 0;
      const until = this.#until;
      const isSame = await this.#attempt.turn(async (head) => {
        // Another one, after a failed repair of the validation, knows of no open transaction yet.
        if (this.#attempt.applier(head) !== applier) return false;
        const before = applier.entries;
        // Not when this slice of time is over: a build that takes longer would never end.
        let incoming = await applier.run(bytes, until, this.#ctx.signal);
        while (incoming) {
          // Before the head is changed.
          await noteReplayStop(stores, fence, positionIn(head.record).appliedThrough);
          await fetchIncoming(this.#ctx, head, await this.#recordedSource(), incoming);
          // What was applied by now is passed over.
          incoming = await applier.run(bytes, until, this.#ctx.signal);
        }
        applied = applier.entries - before;
        return true;
      }, this.#signal);
      if (!isSame) return false;
      this.#ctx.count?.('entriesApplied', applied);
      this.#report(applied, end);
      if (this.#isDone()) return true;
      // An entry has put it off: of this batch, those behind the old end were left.
      const moved = this.#until;
      if (until && moved && !samePosition(until, moved)) return false;
      this.#signal.throwIfAborted();
      await this.#tell(false);
    }
    return true;
  }

  async #recordedSource(): Promise<Source> {
    const { stores, fence } = this.#parts;
    const [source, member] = await Promise.all([this.#parts.source(), readMember(stores, fence)]);
    requireRecordedSet(source, member.source);
    return source;
  }

  /** @param end what is stored, to be caught up with while there is no stop point before it */
  #report(entries: number, end: Position): void {
    const { t } = this.#position().appliedThrough.ts;
    this.#sourceTime.add(Math.max(0, t - this.#sourceAt));
    this.#sourceAt = t;
    const target = this.#until ?? end;
    const etaSeconds = secondsLeft(target.ts.t - t, this.#sourceTime.perSecond());
    this.#ctx.report({ ...this.#meter.add(entries), etaSeconds });
  }

  /** Makes the position durable, tells the status of it, and removes entries, each now and then. */
  async #tell(isLast: boolean): Promise<void> {
    if (!isLast && Date.now() - this.#toldAt < TELL_MS) return;
    const { stores, fence, windowMs } = this.#parts;
    const durable = await this.#withinTime(() =>
      this.#attempt.turn(async (head) => {
        await head.save(head.record, { journaled: true });
        return positionIn(head.record);
      }, this.#signal),
    );
    if (!durable) return;
    this.#toldAt = Date.now();
    const appliedThrough = toStoredPosition(durable.appliedThrough);
    const oplogFrom = toStoredPosition(durable.oplogFrom);
    await updateMember(stores, fence, { head: { appliedThrough, oplogFrom, at: new Date() } });
    if (Date.now() - this.#removedAt < REMOVE_MS) return;
    this.#removedAt = Date.now();
    await removeUnneeded(this.#parts, durable);
    await removeFormer(stores, fence, windowMs, this.#ctx.signal);
  }
}

/** Notes that no replay of the stored entries goes beyond a position. */
async function noteReplayStop(stores: Stores, fence: MemberFence, at: Position): Promise<void> {
  const { replayStops = [] } = await readMember(stores, fence);
  const begin = await beginOfChain(stores, fence.incarnation);
  const others = replayStops.filter(
    ({ ts }) =>
      compareOptimes(fromTimestamp(ts), at.ts) !== 0 && (!begin || compareOptimes(fromTimestamp(ts), begin.ts) >= 0),
  );
  await updateMember(stores, fence, { replayStops: [...others, toStoredPosition(at)] });
}

/** Removes the entries that neither the head, nor a restore, nor the window of points in time needs (design decision 6). */
export async function removeUnneeded(
  { stores, fence, windowMs }: Pick<ApplyParts, 'stores' | 'fence' | 'windowMs'>,
  head: HeadPosition,
): Promise<void> {
  const record = await readMember(stores, fence);
  const { deployment, sync, keptFor } = record;
  const begin = await beginOfChain(stores, fence.incarnation);
  if (!begin || (sync !== null && sync.stage !== 'validated')) return;
  const now = await stores.now();
  const snapshots = await keptSnapshots(stores, record);
  const base = baseOfEntries({ windowMs, now, snapshots }, begin);
  // That deletion ends first, one way or the other.
  if (base?.isMarked) return;
  const bases = base ? [base.id] : [];
  const both = [...new Set([...(keptFor?.bases ?? []), ...bases])];
  if (keptFor?.windowMs !== windowMs || both.length > keptFor.bases.length) {
    await updateMember(stores, fence, { keptFor: { windowMs, bases: both } });
  }
  // Whoever deletes a snapshot marks it and looks at the record after that: of the two one gives way.
  if (base && !(await isThere(stores, base.id))) return;
  const kept = base ? [base] : [];
  const keepFrom = keepEntriesFrom({ windowMs, now, snapshots: kept, head, validated: true });
  if (!keepFrom) return;
  // Whoever restores takes a lease first and looks for the entries after that: one that began earlier is seen here.
  const read = await entriesBeingRead(stores, deployment, fence.incarnation);
  await removeApplied(stores, fence.incarnation, read ? earlierPosition(read, keepFrom) : keepFrom);
  if (both.length > bases.length) await updateMember(stores, fence, { keptFor: { windowMs, bases } });
}

async function isThere(stores: Stores, snapshot: string): Promise<boolean> {
  try {
    const found = await stores.manifests.findOne({ _id: snapshot, ...IS_SNAPSHOT }, { projection: { _id: 1 } });
    return found !== null;
  } catch (error) {
    throw castDriverError(error, 'store', `looking for snapshot ${snapshot}`);
  }
}

interface KeptManifest extends KeptSnapshot {
  readonly id: string;
  readonly position: Position;
  /** It is being deleted. */
  readonly isMarked: boolean;
}

async function keptSnapshots(
  stores: Stores,
  { deployment, member, incarnation, differs }: MemberRecord,
): Promise<KeptManifest[]> {
  try {
    const manifests = await stores.manifests
      .find({ deployment, member, incarnation })
      .project<Pick<ManifestRecord, '_id' | 'optime' | 'oplogFrom' | 'wallTime' | 'deleting' | 'verification'>>({
        deleting: 1,
        optime: 1,
        oplogFrom: 1,
        wallTime: 1,
        'verification.state': 1,
      })
      .toArray();
    const good = manifests.filter((one) => isGood(one, differs));
    return good.map(({ _id, optime, oplogFrom, wallTime, deleting }) => ({
      id: _id,
      isMarked: deleting !== undefined,
      position: fromStoredPosition(optime),
      optime: fromStoredPosition(optime).ts,
      oplogFrom: fromStoredPosition(oplogFrom),
      wallTime,
    }));
  } catch (error) {
    throw castDriverError(error, 'store', `reading the snapshots of ${deployment}`);
  }
}
