/** The ranges of one turn, handed out to several who compare them beside each other. */
import type { HeadCollection } from '../head/catalog.ts';
import type { OpenHead } from '../head/open-head.ts';
import { Turns } from '../head/turns.ts';
import type { ValidationLog } from './log.ts';
import { isRange, nextCut, rangeOf, type Range, type RangeSize, type Shape } from './ranges.ts';

/** A range to compare: the next one of a collection, or one that differed. */
export interface Item {
  readonly uuid: string;
  readonly collection: HeadCollection;
  readonly shape: Shape;
  readonly range: Range;
  /** Whether it was found to differ before. */
  readonly again: boolean;
  /** Whether all that was handed out of the collection before it was noted. If not, nothing is known of what follows. */
  readonly before: Promise<boolean>;
  /** Says whether it was noted. To be called once, whatever happens. */
  readonly end: (isNoted: boolean) => void;
}

export interface RangeQueueParts {
  /** Stands still for as long as the queue is used. */
  readonly head: OpenHead;
  readonly log: ValidationLog;
  readonly shapeOf: (collection: HeadCollection) => Promise<Shape>;
  /** How large a range may be now. */
  readonly size: () => Promise<RangeSize>;
}

interface HandedOut {
  /** Where the next range begins; undefined when the collection has come to its end. */
  next: Buffer | null | undefined;
  readonly again: Range[];
  last: Promise<boolean>;
}

export class RangeQueue {
  readonly #parts: RangeQueueParts;
  readonly #turns = new Turns();
  readonly #handedOut = new Map<string, HandedOut>();

  constructor(parts: RangeQueueParts) {
    this.#parts = parts;
  }

  /** Undefined when there is nothing left to hand out. A collection that is gone is noted as that. */
  async next(): Promise<Item | undefined> {
    return this.#turns.run(() => this.#take());
  }

  async #take(): Promise<Item | undefined> {
    const { head, log } = this.#parts;
    const { round } = log.record;
    for (const [uuid, record] of log.collections) {
      const handed = this.#handedOutOf(uuid);
      const stale = record.differing.find(
        (one) => one.round < round && !handed.again.some((range) => isRange(one, range)),
      );
      if (!stale && (record.state !== 'checked' || handed.next === undefined)) continue;
      const collection = head.catalog.get(uuid);
      if (collection) return this.#itemOf(uuid, collection, handed, stale && rangeOf(stale));
      log.change(uuid, { state: 'gone', differing: [] });
    }
    return undefined;
  }

  #handedOutOf(uuid: string): HandedOut {
    const known = this.#handedOut.get(uuid);
    if (known) return known;
    const next = this.#parts.log.collections.get(uuid)?.next;
    const handed = { next: next ? Buffer.from(next.buffer) : null, again: [], last: Promise.resolve(true) };
    this.#handedOut.set(uuid, handed);
    return handed;
  }

  async #itemOf(uuid: string, collection: HeadCollection, handed: HandedOut, again: Range | undefined): Promise<Item> {
    const { head, shapeOf, size } = this.#parts;
    const shape = await shapeOf(collection);
    let range = again;
    if (range) {
      handed.again.push(range);
    } else {
      const from = handed.next ?? null;
      range = { from, to: await nextCut(head, collection, from, shape, await size()) };
      handed.next = range.to ?? undefined;
    }
    const before = handed.last;
    let end: (isNoted: boolean) => void = () => undefined;
    handed.last = new Promise((settle) => {
      end = settle;
    });
    return { uuid, collection, shape, range, again: again !== undefined, before, end };
  }
}
