/** Step: follow the source's oplog into the oplog store. */
import { setTimeout as delay } from 'node:timers/promises';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, toStoredPosition } from '../mongo/positions.ts';
import type { Arrivals } from '../stores/arrivals.ts';
import { CHAIN_START, endOfChain, type NewBatch } from '../oplogstore/batches.ts';
import { BATCH_BYTES, ChainExtended, EntryWriter } from '../oplogstore/writer.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import { Meter } from '../shared/meter.ts';
import { compareOptimes, type Position } from '../shared/optime.ts';
import { untilAborted } from '../shared/signals.ts';
import { requireRecordedSet, type PinnedMember, type Source } from '../source/connect.ts';
import { readFailure } from '../source/failures.ts';
import { CursorEnded, OplogReader, withoutFirst } from '../source/oplog-reader.ts';
import { lastWrite } from '../source/positions.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import type { StoredProblem } from '../stores/records.ts';
import type { StepContext } from './context.ts';
import { noteOplog, OPLOG_LOOK_MS, type Watched } from './watch-oplog.ts';

export interface TailOplogParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  /** Rung after each stored batch. */
  readonly arrivals: Arrivals;
  /** What the configuration says that is watched beside the reading; without it nothing is. */
  readonly watched?: Watched;
}

export interface TailResult {
  /** The last stored entry; null while there is none. */
  readonly through: Position | null;
  /** How many this run stored. */
  readonly entries: number;
  /** All warnings of the member after the oplog was last looked at; undefined when it was not. */
  readonly warnings: readonly StoredProblem[] | undefined;
}

/** How long the source is asked to wait for a new entry, in milliseconds. */
const WAIT_MS = 1_000;
/** Least time between two questions while entries trickle in: asked at once, each would come alone. */
const PACE_MS = 20;
/** A reply of this many bytes is no trickle. */
const TRICKLE_BYTES = 64 * 1024;
/** How often the newest optime of the source is noted, and with that the claim looked at, in milliseconds. */
const SEEN_MS = 3_000;
/** How often in a row a reading may fail without an entry stored in between, and how long the first pause is. */
const FAILURES = 6;
const PAUSE_MS = 100;

/**
 * Follows for about `maxMs`, from the end of the stored chain, or from beginFetching of the plan while there is none. It
 * may be run again at any time, and beside a twin of itself: of two that extend the chain one does, the other goes on
 * from there. An idle source is waited on, not returned from.
 * @throws LifeboatError `OplogGap`, `SourceRolledBack`, `FenceLost`, `WrongReplicaSet`, `NotAuthorized`;
 *   `SourceUnavailable`, `SourceNotReady`, `StoreUnavailable`, `StoreFull` (retryable); the signal's reason when it is
 *   aborted, within about a second, and then a batch under way is stored whole or not at all
 */
export async function tailOplog(
  ctx: StepContext,
  parts: TailOplogParts,
  { maxMs }: { readonly maxMs: number },
): Promise<TailResult> {
  const { stores, source, fence, arrivals } = parts;
  const record = await readMember(stores, fence);
  requireRecordedSet(source, record.source);
  const { sync } = record;
  if (!sync) throw new LifeboatError('Internal', `${fence.key} has no plan that says where its entries begin`);
  let entries = 0;
  const meter = new Meter('follow', 'entries', null);
  const following: Following = {
    ctx,
    parts,
    begin: fromStoredPosition(sync.beginFetching),
    endAt: Date.now() + maxMs,
    seen: new Seen(parts, ctx.signal),
    extent: new ExtentNotes(ctx, parts),
    stored: (batch) => {
      entries += batch.entries;
      ctx.report(meter.add(batch.entries));
      ctx.count?.('entriesStored', batch.entries);
      ctx.count?.('oplogBytesRead', batch.bytes.length);
      arrivals.notify();
    },
  };
  for (let failures = 0; ;) {
    const before = entries;
    try {
      await followOnce(following);
      return { through: await endOfChain(stores, fence.incarnation), entries, warnings: following.extent.warnings };
    } catch (error) {
      ctx.signal.throwIfAborted();
      failures = entries > before ? 1 : failures + 1;
      await recover(following, error, failures);
    }
  }
}

interface Following {
  readonly ctx: StepContext;
  readonly parts: TailOplogParts;
  /** The first entry of the chain while it is empty. */
  readonly begin: Position;
  readonly endAt: number;
  readonly seen: Seen;
  readonly extent: ExtentNotes;
  readonly stored: (batch: NewBatch) => void;
}

/** Settles when following can be tried again; throws what no further try will mend. */
async function recover({ ctx, parts }: Following, error: unknown, failures: number): Promise<void> {
  const { stores, source, fence } = parts;
  if (isLifeboatError(error, 'SourceRolledBack')) await updateMember(stores, fence, { otherHistory: true });
  const what = `following the oplog of ${source.name}`;
  if (error instanceof ChainExtended) {
    await readMember(stores, fence);
    return;
  }
  const lost = error instanceof CursorEnded || (!(error instanceof LifeboatError) && readFailure(error) !== 'fatal');
  const unavailable = error instanceof LifeboatError && error.kind === 'SourceUnavailable';
  if (!lost && !unavailable) throw castDriverError(error, 'source', what);
  if (failures >= FAILURES) {
    throw new LifeboatError('SourceUnavailable', `${what}: reading failed ${failures} times in a row`, {
      cause: error,
    });
  }
  await delay(PAUSE_MS * 2 ** failures, undefined, { signal: ctx.signal });
}

/** Follows from the end of the chain until the time is up or something fails. */
async function followOnce(following: Following): Promise<void> {
  const { ctx, parts, begin, stored } = following;
  const { stores, source, fence } = parts;
  const { incarnation, epoch } = fence;
  const end = await endOfChain(stores, incarnation);
  const { member, reader: opened } = await openStream(source, end ?? begin, ctx.signal);
  try {
    await using reader = opened;
    const writer = new EntryWriter({
      stores,
      incarnation,
      epoch,
      after: end ?? CHAIN_START,
      stored,
    });
    try {
      await pump(following, member, reader, writer, end);
    } finally {
      // What was read before reading failed is as good as any: it is stored, unless all is to end at once.
      await untilAborted(
        writer.flush().catch(() => undefined),
        ctx.signal,
      );
      writer.stop();
    }
  } finally {
    await member.close();
  }
}

interface OpenStream {
  readonly member: PinnedMember;
  readonly reader: OplogReader;
}

/**
 * Opens the stream on a member that still has its begin. Oplogs of one set do not all reach back equally far: they
 * differ in size, and one that was synced anew begins there. So only what every member that answers lacks is a gap.
 */
async function openStream(source: Source, from: Position, signal: AbortSignal): Promise<OpenStream> {
  const first = await source.pinned();
  try {
    return await openOn(source, first, from, signal);
  } catch (error) {
    if (!isLifeboatError(error, 'OplogGap')) throw error;
    for (const host of await source.hosts()) {
      signal.throwIfAborted();
      if (host === first.host) continue;
      const other = await source
        .pinned(host)
        .then((member) => openOn(source, member, from, signal))
        .catch(() => undefined);
      if (other) return other;
    }
    signal.throwIfAborted();
    throw error;
  }
}

/** Closes the member when the stream cannot be opened on it. */
async function openOn(source: Source, member: PinnedMember, from: Position, signal: AbortSignal): Promise<OpenStream> {
  try {
    return { member, reader: await OplogReader.open({ source, member, from, replyBytes: BATCH_BYTES, signal }) };
  } catch (error) {
    await member.close();
    throw error;
  }
}

/** Moves runs from the reader to the writer. `end`: the first entry, if it is stored already. */
async function pump(
  { ctx, begin, seen, extent, endAt }: Following,
  member: PinnedMember,
  reader: OplogReader,
  writer: EntryWriter,
  end: Position | null,
): Promise<void> {
  let read = end ?? begin;
  for (let begun = end === null; Date.now() < endAt || !begun;) {
    ctx.signal.throwIfAborted();
    await untilAborted(writer.room(), ctx.signal);
    const askedAt = Date.now();
    const run = await reader.next(Math.max(1, Math.min(WAIT_MS, endAt - askedAt)));
    const fresh = run && !begun ? withoutFirst(run) : run;
    if (run) begun = true;
    if (fresh) writer.add(fresh);
    read = fresh?.last ?? read;
    await seen.note(member, fresh?.last);
    await extent.note(member, read);
    const pause = PACE_MS - (Date.now() - askedAt);
    if (run && run.bytes.length < TRICKLE_BYTES && pause > 0) await delay(pause, undefined, { signal: ctx.signal });
  }
  await untilAborted(writer.flush(), ctx.signal);
  ctx.signal.throwIfAborted();
}

/** How long a set is waited for that does not say how far it is: following goes on without it, in milliseconds. */
const ASK_MS = 500;

/**
 * The newest optime known of the source, noted now and then. The member that is followed may itself be far behind, so the
 * set is asked, too.
 */
class Seen {
  readonly #parts: TailOplogParts;
  readonly #signal: AbortSignal;
  #newest: Position | undefined;
  #noteAt = 0;
  #asking: Promise<void> | undefined;

  constructor(parts: TailOplogParts, signal: AbortSignal) {
    this.#parts = parts;
    this.#signal = signal;
  }

  async note(member: PinnedMember, read: Position | undefined): Promise<void> {
    this.#advance(read);
    if (Date.now() < this.#noteAt) return;
    this.#noteAt = Date.now() + SEEN_MS;
    this.#advance((await lastWrite(member.client, this.#signal)).majority);
    await Promise.race([this.#askSet(), delay(ASK_MS, undefined, { ref: false })]);
    const { stores, fence } = this.#parts;
    if (!this.#newest) return;
    const { ts, term } = this.#newest;
    await updateMember(stores, fence, { seen: { position: toStoredPosition({ ts, term }), at: await stores.now() } });
  }

  /** One question at a time: without a primary it takes seconds until there is an answer. */
  #askSet(): Promise<void> {
    this.#asking ??= this.#parts.source
      .majorityPosition()
      .then((position) => this.#advance(position))
      .catch(() => undefined)
      .finally(() => {
        this.#asking = undefined;
      });
    return this.#asking;
  }

  #advance(position: Position | undefined): void {
    if (position && (!this.#newest || compareOptimes(position.ts, this.#newest.ts) > 0)) this.#newest = position;
  }
}

/** How far back the oplog reaches, noted every minute. */
class ExtentNotes {
  readonly #ctx: StepContext;
  readonly #parts: TailOplogParts;
  #noteAt = 0;
  warnings: readonly StoredProblem[] | undefined;

  constructor(ctx: StepContext, parts: TailOplogParts) {
    this.#ctx = ctx;
    this.#parts = parts;
  }

  /** A look that fails is no reason not to read on: what ails the member shows in the reading itself. */
  async note(member: PinnedMember, read: Position): Promise<void> {
    const { watched, stores, fence } = this.#parts;
    if (watched === undefined || Date.now() < this.#noteAt) return;
    this.#noteAt = Date.now() + OPLOG_LOOK_MS;
    const { signal, logger } = this.#ctx;
    try {
      this.warnings = (await noteOplog({ stores, fence, watched }, member, read.ts, signal)) ?? this.warnings;
    } catch (error) {
      signal.throwIfAborted();
      if (isLifeboatError(error, 'FenceLost')) throw error;
      logger.debug({ code: isLifeboatError(error) ? error.code : undefined }, 'the oplog could not be looked at');
    }
  }
}
