/**
 * Comparing one part of a head that is held still at an optime: range after range, until the part, the round or the time
 * is at its end. Nothing is written here; what is said of a range is said of all of it.
 */
import { namespaceOf, type HeadCollection } from '../head/catalog.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { Position } from '../shared/optime.ts';
import type { StoredFinding, StoredOmission } from '../stores/records.ts';
import { compareRange, somethingElse, tellDifferences, type RangeWork, type ToldApart } from './documents.ts';
import { nextCut, shapeOf, type Range, type Shape } from './ranges.ts';
import {
  dueBytes,
  FIRST_ROUND,
  MOST_TRIES,
  placeBehind,
  placeIn,
  type Place,
  type Rotation,
  type RoundPlan,
} from './rotation.ts';
import type { CollectionToCompare } from './scope.ts';
import { notAtThatTime, type SourceReader } from './source-reader.ts';

export interface PartWork {
  readonly head: OpenHead;
  readonly reader: SourceReader;
  /** Where the head stands. */
  readonly at: Position;
  readonly collections: readonly CollectionToCompare[];
  readonly rotation: Rotation;
  readonly plan: RoundPlan;
  /** All documents of the head, about, in bytes. */
  readonly totalBytes: number;
  /** How many documents a range has at most. */
  readonly rangeDocuments?: number | undefined;
  /** Aborted when the time is over: the range in hand counts for nothing then. */
  readonly over: AbortSignal;
  /** Aborted some time after that: until then it is told apart what a range that differs differs in. */
  readonly late: AbortSignal;
  /** Aborted when the work is given up; the others are then too. */
  readonly signal: AbortSignal;
}

/** `part`: what was due is compared. `round`: there is nothing left in this round. `error`: it could not go on. */
export type PartEnd = 'part' | 'round' | 'time' | 'error';

/** What was compared and equal, what could not be compared, and what is not equal. */
export interface ComparedPart {
  readonly ranges: number;
  readonly documents: number;
  readonly bytes: number;
  readonly different: readonly StoredFinding[];
  readonly notCompared: readonly StoredOmission[];
  readonly endedBy: PartEnd;
  /** What it could not go on for: one of the driver's errors, or a LifeboatError. What is said of the ranges before holds. */
  readonly error?: unknown;
  /** How far the round is with it. */
  readonly rotation: Rotation;
}

/**
 * Goes on with a round. What could not be read is passed over and said to be; behind a range that differs the round does
 * not go, so that it is compared again with every snapshot there is.
 * @throws the reason of `signal` alone
 */
export async function comparePart(work: PartWork): Promise<ComparedPart> {
  return new Part(work).go();
}

class Part {
  readonly #work: PartWork;
  readonly #different: StoredFinding[] = [];
  readonly #notCompared: StoredOmission[] = [];
  #at: Place | null;
  /** The first range that differs. */
  #stays: Place | undefined;
  #ranges = 0;
  #documents = 0;
  #bytes = 0;

  constructor(work: PartWork) {
    this.#work = work;
    this.#at = work.rotation.at;
  }

  async go(): Promise<ComparedPart> {
    try {
      return this.#ended(await this.#compareAll());
    } catch (error) {
      this.#work.signal.throwIfAborted();
      return { ...this.#ended('error'), error };
    }
  }

  #ended(endedBy: PartEnd): ComparedPart {
    const compared = { ranges: this.#ranges, documents: this.#documents, bytes: this.#bytes };
    const found = { different: this.#different, notCompared: this.#notCompared };
    return { ...compared, ...found, endedBy, rotation: this.#next(endedBy) };
  }

  #next(endedBy: PartEnd): Rotation {
    const { rotation } = this.#work;
    if (endedBy === 'round' && !this.#stays) return { ...FIRST_ROUND, round: rotation.round + 1 };
    const isStuck = endedBy === 'time' && this.#ranges === 0 && this.#at === rotation.at;
    return {
      round: rotation.round,
      snapshots: rotation.snapshots + 1,
      at: this.#stays ?? this.#at,
      bytes: rotation.bytes + this.#bytes,
      tries: isStuck ? rotation.tries + 1 : 0,
    };
  }

  async #compareAll(): Promise<PartEnd> {
    const { collections, rotation, totalBytes, plan, over, signal } = this.#work;
    const due = dueBytes(rotation, totalBytes, plan);
    let tooSlow = rotation.tries >= MOST_TRIES;
    let shape: { readonly uuid: string; readonly of: Shape } | undefined;
    for (;;) {
      const place = placeIn(collections, this.#at);
      if (!place) return 'round';
      if (this.#bytes >= due) return 'part';
      signal.throwIfAborted();
      if (over.aborted) return 'time';
      const { collection, from } = place;
      const onHead = this.#work.head.catalog.get(collection.uuid);
      const reason = tooSlow
        ? `no snapshot of ${rotation.tries} had the time to compare a range of it (limits.verifyFor, limits.verifyReadMiBps)`
        : collection.notCompared;
      tooSlow = false;
      if (!onHead || reason !== null) {
        if (reason !== null) this.#notRead(collection, reason);
        if (!this.#pass(collection.uuid)) return 'round';
        continue;
      }
      if (shape?.uuid !== collection.uuid)
        shape = { uuid: collection.uuid, of: await shapeOf(this.#work.head, onHead) };
      const outcome = await this.#compareNext(onHead, from, shape.of, due - this.#bytes);
      if (outcome === 'time') return 'time';
      if (outcome !== 'more' && !this.#pass(collection.uuid)) return 'round';
    }
  }

  /** Goes behind a collection. False when it was the last one. */
  #pass(uuid: string): boolean {
    const next = placeBehind(this.#work.collections, uuid);
    if (next) this.#at = next;
    return next !== null;
  }

  /** One range: is there more of its collection, was that its end, can it not be read, or is the time over? */
  async #compareNext(
    collection: HeadCollection,
    from: Buffer | null,
    shape: Shape,
    dueBytesLeft: number,
  ): Promise<'more' | 'end' | 'unreadable' | 'time'> {
    const { head, reader, at, rangeDocuments, over, signal } = this.#work;
    try {
      const readable = await reader.bytesWithin(reader.pace.rangeSeconds, over);
      const size = { documents: rangeDocuments, bytes: Math.max(shape.average, Math.min(readable, dueBytesLeft)) };
      const range: Range = { from, to: await nextCut(head, collection, from, shape, size) };
      const work: RangeWork = { head, socket: head.socket, reader, collection, range, shape, at, signal: over };
      const compared = await compareRange(work);
      if (!compared.equal && !reader.tellsOfPast(collection.db)) {
        this.#notRead(collection, 'it differs from what the source holds by now, and cannot be read as it was');
        return 'unreadable';
      }
      if (compared.equal || (await this.#isOnlyInDisorder(work))) this.#equal(compared);
      return range.to === null ? 'end' : this.#goOnAt(collection, range.to);
    } catch (error) {
      signal.throwIfAborted();
      if (over.aborted) return 'time';
      const why = notAtThatTime(error);
      if (why === undefined) throw error;
      this.#notRead(collection, `the source could not be read as it was at the optime of the snapshot (${why})`);
      return 'unreadable';
    }
  }

  #goOnAt({ uuid }: HeadCollection, from: Buffer): 'more' {
    this.#at = { uuid, from };
    return 'more';
  }

  /** Finds out, of a range whose bytes are not the same, whether both sides hold the same documents all the same. */
  async #isOnlyInDisorder(work: RangeWork): Promise<boolean> {
    const { collection, range, shape } = work;
    const { found, isAll } = await this.#toldApart(work);
    if (isAll && found.length === 0) return true;
    // By `_id` there is one order only; without one, what was not all looked at may still be the same.
    if (found.length === 0 && shape.order === 'natural') {
      this.#notRead(collection, 'it has no order that both sides share, and is too large to be compared without one');
      return false;
    }
    this.#different.push(...found, ...(isAll ? [] : [somethingElse(collection)]));
    this.#stays ??= { uuid: collection.uuid, from: range.from };
    return false;
  }

  async #toldApart(work: RangeWork): Promise<ToldApart> {
    const { late, signal } = this.#work;
    try {
      return await tellDifferences({ ...work, signal: late });
    } catch (error) {
      signal.throwIfAborted();
      if (!late.aborted && notAtThatTime(error) === undefined) throw error;
      return { found: [], isAll: false };
    }
  }

  #equal({ documents, bytes }: { readonly documents: number; readonly bytes: number }): void {
    this.#ranges += 1;
    this.#documents += documents;
    this.#bytes += bytes;
  }

  #notRead(collection: HeadCollection, reason: string): void {
    this.#notCompared.push({ namespace: namespaceOf(collection), reason });
  }
}
