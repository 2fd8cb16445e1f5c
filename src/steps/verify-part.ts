/**
 * Part of a step: while a head is held still for a snapshot, compare a part of its documents, and all definitions, with
 * the source as it was at that optime.
 *
 * Nothing that is wrong with the source fails a snapshot: what was not compared is told with its reason. The head is held
 * for it no longer than `maxMs`, and no longer than the source tells of that optime. How far the round is becomes durable
 * with the snapshot's own manifest, so that a snapshot that comes to nothing leaves no trace of this either.
 */
import { Binary, MongoError, type ObjectId } from 'mongodb';
import type { OpenHead } from '../head/open-head.ts';
import type { LockedHead } from '../head/types.ts';
import { castDriverError } from '../mongo/errors.ts';
import { uuidBinary } from '../mongo/uuid.ts';
import { isLifeboatError, type LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import { untilAborted } from '../shared/signals.ts';
import { requireRecordedSet, type Source } from '../source/connect.ts';
import { ReadPace, type ReadLimit } from '../source/read-pace.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberRecord, RotationRecord, StoredOmission, StoredVerification } from '../stores/records.ts';
import { headCatalog } from '../validation/catalog.ts';
import { compareDefinitions, type ComparedDefinitions, type HeadDefinitions } from '../validation/definitions.ts';
import { bounded } from '../validation/findings.ts';
import { comparePart, type ComparedPart } from '../validation/part.ts';
import { documentBytes } from '../validation/ranges.ts';
import { FIRST_ROUND, type Rotation } from '../validation/rotation.ts';
import { toCompare } from '../validation/scope.ts';
import { SourceReader } from '../validation/source-reader.ts';
import type { StepContext } from './context.ts';

export interface VerificationParts {
  /** Connects to the source. */
  readonly source: () => Promise<Source>;
  /** How fast its documents are read. */
  readonly readLimit: ReadLimit;
  /** How long the head may be held for it, in milliseconds; 0: nothing is compared. */
  readonly maxMs: number;
  /** How many snapshots are to cover the whole. */
  readonly within: number;
  /** What each snapshot compares at least, in bytes; 32 MiB when left out. */
  readonly leastBytes?: number;
  /** How many documents a range has at most; 50,000 when left out. */
  readonly rangeDocuments?: number;
}

/** What the manifest says of it, and how far the round is then. */
export interface Verified {
  readonly verification: StoredVerification;
  readonly rotation: Omit<RotationRecord, 'through'>;
}

const LEAST_BYTES = 32 * 1024 * 1024;
/** Longer than this no reply is waited for: the head stands still meanwhile. */
const REPLY_MS = 15_000;
/** How much longer it may take to tell apart what a range that differs differs in. */
const LATE_MS = 15_000;
/** How much of the time the definitions may take. */
const DEFINITIONS_SHARE = 0.3;
/** What a manifest holds: it is read with every list of snapshots. */
const MOST_OMISSIONS = 100;
const MOST_FINDINGS = 50;

/** What of a source keeps a comparison from being made, and says nothing of the head. */
const OF_THE_SOURCE: ReadonlySet<LifeboatError['kind']> = new Set<LifeboatError['kind']>([
  'SourceUnavailable',
  'SourceNotReady',
  'AuthFailed',
  'TlsFailed',
  'NotAuthorized',
]);

/** A source that can be compared with, or why there is none. */
type Reachable = { readonly reader: SourceReader } | { readonly reason: string };

export class PartVerifier implements AsyncDisposable {
  readonly #parts: VerificationParts;
  readonly #stores: Stores;
  readonly #incarnation: ObjectId;
  readonly #reachable: Reachable;

  private constructor(parts: VerificationParts, stores: Stores, incarnation: ObjectId, reachable: Reachable) {
    this.#parts = parts;
    this.#stores = stores;
    this.#incarnation = incarnation;
    this.#reachable = reachable;
  }

  /** Connects to the source, before the head is held: that may take its time. */
  static async open(
    ctx: StepContext,
    parts: VerificationParts,
    of: { readonly stores: Stores; readonly incarnation: ObjectId; readonly recorded: MemberRecord['source'] },
  ): Promise<PartVerifier> {
    const reachable = await reach(ctx, parts, of.recorded);
    return new PartVerifier(parts, of.stores, of.incarnation, reachable);
  }

  /**
   * Compares the next part of a head that is held.
   * @param signal aborted when the snapshot comes to nothing
   * @throws LifeboatError `HeadLost`, `StoreUnavailable` (retryable)
   */
  async verify(locked: LockedHead, signal: AbortSignal): Promise<Verified> {
    const beganAt = performance.now();
    const rotation = await readRotation(this.#stores, this.#incarnation);
    const found = await this.#found(locked, rotation, signal);
    const { part, definitions, notCompared, reason, totalBytes, ageSeconds } = found;
    const different = [...(definitions?.different ?? []), ...(part?.different ?? [])];
    const omissions = [...(definitions?.notCompared ?? []), ...notCompared];
    const next = part?.rotation ?? { ...rotation, snapshots: rotation.snapshots + 1 };
    const ended = next.round > rotation.round;
    const nothing = !part?.ranges;
    return {
      verification: {
        state: different.length > 0 ? 'different' : nothing ? 'not-compared' : 'equal',
        reason,
        round: rotation.round,
        snapshot: rotation.snapshots + 1,
        within: this.#parts.within,
        roundEnded: ended,
        totalBytes,
        roundBytes: rotation.bytes + (part?.bytes ?? 0),
        ranges: part?.ranges ?? 0,
        documents: part?.documents ?? 0,
        bytes: part?.bytes ?? 0,
        definitions: definitions !== undefined,
        ageSeconds,
        durationMs: Math.round(performance.now() - beganAt),
        notCompared: omissions.slice(0, MOST_OMISSIONS),
        omissions: omissions.length,
        different: bounded(different).slice(0, MOST_FINDINGS),
      },
      rotation: toRecord(this.#incarnation, next),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if ('reader' in this.#reachable) await this.#reachable.reader[Symbol.asyncDispose]();
  }

  async #found(locked: LockedHead, rotation: Rotation, signal: AbortSignal): Promise<Found> {
    if ('reason' in this.#reachable) return nothingFound(this.#reachable.reason);
    const { reader } = this.#reachable;
    const beganAt = performance.now();
    const { maxMs } = this.#parts;
    const at = locked.position.appliedThrough;
    if (locked.undecided) return nothingFound('a transaction was prepared and undecided at that optime');
    try {
      const time = new Budget(maxMs, signal);
      try {
        const age = await time.bound(ageOf(reader, at));
        // What a source is sure to tell of its past, a part of which has gone by.
        const most = reader.pace.mostAgeS + reader.pace.groupMs / 1000 - age;
        if (most <= 0)
          return nothingFound(`the optime of the snapshot was ${age} s behind the source, which is too far`);
        time.shorten(most * 1000);
        await time.bound(reader.reach(at, time.over));
        const found = await locked.read((head) => this.#compare(head, reader, at, rotation, time));
        const seconds = Math.ceil((performance.now() - beganAt) / 1000);
        return { ...found, ageSeconds: age + seconds };
      } finally {
        time.end();
      }
    } catch (error) {
      signal.throwIfAborted();
      return nothingFound(reasonOf(error, maxMs));
    }
  }

  async #compare(
    head: OpenHead,
    reader: SourceReader,
    at: Position,
    rotation: Rotation,
    time: Budget,
  ): Promise<Omit<Found, 'ageSeconds'>> {
    const { within, maxMs, leastBytes = LEAST_BYTES, rangeDocuments } = this.#parts;
    const notCompared: StoredOmission[] = [];
    const mine = await headCatalog(head, { indexes: true });
    const definitions = await definitionsOf({ mine, filter: head.filter, at }, reader, time, notCompared);
    const totalBytes = await documentBytes(head);
    const collections = mine.flatMap(toCompare);
    const { over, late, signal } = time;
    const plan = { within, leastBytes };
    const times = { over, late, signal };
    const part = await comparePart({
      head,
      reader,
      at,
      collections,
      rotation,
      plan,
      totalBytes,
      rangeDocuments,
      ...times,
    });
    const reason = part.endedBy === 'error' ? reasonOf(part.error, maxMs) : endOf(part, maxMs);
    return { part, definitions, notCompared: [...notCompared, ...part.notCompared], reason, totalBytes };
  }
}

interface Found {
  readonly part: ComparedPart | undefined;
  readonly definitions: ComparedDefinitions | undefined;
  readonly notCompared: readonly StoredOmission[];
  readonly reason: string | null;
  readonly totalBytes: number | null;
  readonly ageSeconds: number | null;
}

function nothingFound(reason: string): Found {
  return { part: undefined, definitions: undefined, notCompared: [], reason, totalBytes: null, ageSeconds: null };
}

/** Whether all that was due was compared. */
function endOf({ endedBy }: ComparedPart, maxMs: number): string | null {
  return endedBy === 'time' ? outOfTime(maxMs) : null;
}

function outOfTime(maxMs: number): string {
  return `the time for it was over (limits.verifyFor is ${maxMs / 1000} s; a source of 4.4 tells of its past for 5 s)`;
}

/**
 * Why the source could not be compared with.
 * @throws what says something of the head or the stores instead
 */
function reasonOf(error: unknown, maxMs: number): string {
  const cast = castDriverError(error, 'source', 'comparing a part of the head');
  if (cast instanceof Error && (cast.name === 'AbortError' || cast.name === 'SourceSilent')) return outOfTime(maxMs);
  if (isLifeboatError(cast) && (OF_THE_SOURCE.has(cast.kind) || error instanceof MongoError)) return cast.message;
  throw cast;
}

async function definitionsOf(
  of: HeadDefinitions,
  reader: SourceReader,
  time: Budget,
  notCompared: StoredOmission[],
): Promise<ComparedDefinitions | undefined> {
  const ms = time.leftMs() * DEFINITIONS_SHARE;
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), ms);
  try {
    const signal = AbortSignal.any([time.over, over.signal]);
    return await compareDefinitions(of, reader, signal);
  } catch (error) {
    time.signal.throwIfAborted();
    if (!over.signal.aborted && !time.over.aborted) throw error;
    const reason = `the definitions could not be compared within ${Math.round(ms / 1000)} s`;
    notCompared.push({ namespace: '*', reason });
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Connects before anything waits for it. What is wrong with the source is a reason, not a failure. */
async function reach(
  ctx: StepContext,
  { source, readLimit, maxMs }: VerificationParts,
  recorded: MemberRecord['source'],
): Promise<Reachable> {
  if (maxMs === 0) return { reason: 'the configuration wants none (limits.verifyFor is 0)' };
  try {
    const opened = await source();
    requireRecordedSet(opened, recorded);
    return { reader: await SourceReader.open(opened, { replyMs: REPLY_MS, readPace: new ReadPace(readLimit) }) };
  } catch (error) {
    ctx.signal.throwIfAborted();
    const cast = castDriverError(error, 'source', 'connecting to the source');
    if (!isLifeboatError(cast)) throw cast;
    ctx.logger.warn({ code: cast.code }, 'the source is not there to be compared with');
    return { reason: cast.message };
  }
}

/** How many seconds the source is ahead of an optime. */
async function ageOf(reader: SourceReader, at: Position): Promise<number> {
  return Math.max(0, (await reader.newest()).ts.t - at.ts.t);
}

/** The time that a comparison has. */
class Budget {
  readonly #over = new AbortController();
  readonly #late = new AbortController();
  #timers: NodeJS.Timeout[] = [];
  #endsAt = 0;
  readonly over: AbortSignal;
  readonly late: AbortSignal;
  readonly signal: AbortSignal;

  constructor(ms: number, signal: AbortSignal) {
    this.signal = signal;
    this.over = AbortSignal.any([signal, this.#over.signal]);
    this.late = AbortSignal.any([signal, this.#late.signal]);
    this.#set(ms);
  }

  /** Leaves it `ms` from now on, unless it has less. */
  shorten(ms: number): void {
    if (ms < this.leftMs()) this.#set(ms);
  }

  leftMs(): number {
    return Math.max(0, this.#endsAt - performance.now());
  }

  /** Waits for what heeds no signal, but not for longer than there is time. */
  async bound<T>(work: Promise<T>): Promise<T> {
    // When the time is over first, it is nobody's any more.
    work.catch(() => undefined);
    await untilAborted(work, this.over);
    this.over.throwIfAborted();
    return work;
  }

  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #set(ms: number): void {
    this.end();
    this.#endsAt = performance.now() + ms;
    this.#timers = [setTimeout(() => this.#over.abort(), ms), setTimeout(() => this.#late.abort(), ms + LATE_MS)];
  }
}

async function readRotation(stores: Stores, incarnation: ObjectId): Promise<Rotation> {
  try {
    const record = await stores.rotations.findOne({ _id: incarnation });
    if (!record) return FIRST_ROUND;
    const { round, snapshots, uuid, from, bytes, tries } = record;
    const at = uuid && { uuid: uuid.toString('hex'), from: from && Buffer.from(from.buffer) };
    return { round, snapshots, at, bytes, tries };
  } catch (error) {
    throw castDriverError(error, 'store', 'reading how far the head is compared');
  }
}

function toRecord(_id: ObjectId, { round, snapshots, at, bytes, tries }: Rotation): Verified['rotation'] {
  const uuid = at && uuidBinary(at.uuid);
  return { _id, round, snapshots, uuid, from: at?.from ? new Binary(at.from) : null, bytes, tries };
}
