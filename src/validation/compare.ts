/**
 * Comparing two runs of documents byte for byte, and finding out which documents differ.
 *
 * Both sides come into this process: comparing their bytes is several times cheaper than hashing them, and says more.
 */
import { hash } from 'node:crypto';
import { documentLength } from '../bson/raw.ts';
import { idDocument } from '../head/missing.ts';
import { release } from '../shared/memory.ts';
import type { RawBatch } from '../source/raw-cursor.ts';

/** A cursor of either side. */
export interface Documents extends AsyncDisposable {
  readonly ended: boolean;
  next(options?: { readonly batchSize?: number }): Promise<RawBatch>;
}

export interface Compared {
  readonly equal: boolean;
  /** Of the source; as far as it was read when they are not equal. */
  readonly documents: number;
  readonly bytes: number;
}

/** One batch is read while the one before it is looked at. */
class Ahead {
  readonly #cursor: Documents;
  readonly #batchSize: number;
  #coming: Promise<RawBatch | undefined>;

  constructor(cursor: Documents, batchSize: number) {
    this.#cursor = cursor;
    this.#batchSize = batchSize;
    this.#coming = this.#read();
  }

  async next(): Promise<RawBatch | undefined> {
    const batch = await this.#coming;
    if (batch) this.#coming = this.#read();
    return batch;
  }

  /** Waits for what is being read. */
  async settle(): Promise<void> {
    await this.#coming.catch(() => undefined);
  }

  #read(): Promise<RawBatch | undefined> {
    if (this.#cursor.ended) return Promise.resolve(undefined);
    const batch = this.#cursor.next({ batchSize: this.#batchSize });
    // Whoever asks for it learns of its failure.
    batch.catch(() => undefined);
    return batch;
  }
}

/** Compares what is left of two cursors. Ends at the first difference; neither cursor is then at a known place. */
export async function compareDocuments(source: Documents, head: Documents, batchSize: number): Promise<Compared> {
  const [a, b] = [new Ahead(source, batchSize), new Ahead(head, batchSize)];
  let documents = 0;
  let bytes = 0;
  let ofSource: Buffer = EMPTY;
  let ofHead: Buffer = EMPTY;
  /** What is being compared of the head: its memory is nobody else's. That of the source is the driver's. */
  let held: Buffer = EMPTY;
  try {
    for (;;) {
      while (ofSource.length === 0) {
        const batch = await a.next();
        if (!batch) break;
        documents += batch.documents;
        bytes += batch.bytes.length;
        ofSource = batch.bytes;
      }
      while (ofHead.length === 0) {
        release(held);
        const batch = await b.next();
        if (!batch) break;
        ofHead = held = batch.bytes;
      }
      const both = Math.min(ofSource.length, ofHead.length);
      if (both === 0) return { equal: ofSource.length === ofHead.length, documents, bytes };
      if (ofSource.compare(ofHead, 0, both, 0, both) !== 0) return { equal: false, documents, bytes };
      ofSource = ofSource.subarray(both);
      ofHead = ofHead.subarray(both);
    }
  } finally {
    await Promise.all([a.settle(), b.settle()]);
  }
}

const EMPTY = Buffer.alloc(0);

/** How many documents of a head are remembered to be compared one by one: some 60 MB. */
const MOST_HELD = 200_000;

interface Held {
  readonly hash: string;
  state: 'unseen' | 'same' | 'different';
}

/** What is said of one document of the source. */
export type Verdict = 'same' | 'missing' | 'different';

/** The documents of one range of the head, by the bytes of their `_id`s. */
export class HeldRange {
  readonly #held = new Map<string, Held>();

  /** Undefined when the range holds more documents than can be remembered. */
  static async read(head: Documents, batchSize: number): Promise<HeldRange | undefined> {
    const range = new HeldRange();
    while (!head.ended) {
      for (const document of each(await head.next({ batchSize }))) {
        range.#held.set(keyOf(document), { hash: digest(document), state: 'unseen' });
      }
      if (range.#held.size > MOST_HELD) return undefined;
    }
    return range;
  }

  /** Looks up a document of the source and remembers what was found. */
  meet(document: Buffer): Verdict {
    const held = this.#held.get(keyOf(document));
    if (!held) return 'missing';
    held.state = held.hash === digest(document) ? 'same' : 'different';
    return held.state;
  }

  /** What was said of a document before. */
  verdict(document: Buffer): Verdict {
    const held = this.#held.get(keyOf(document));
    return !held || held.state === 'unseen' ? 'missing' : held.state;
  }

  /** `{_id}` of those that the source was not seen to have, raw. */
  *extra(): Generator<Buffer> {
    for (const [key, { state }] of this.#held) if (state === 'unseen') yield Buffer.from(key, 'latin1');
  }
}

/** The documents of a batch, each a view of its bytes. */
export function* each({ bytes }: RawBatch): Generator<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const length = documentLength(bytes, at);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

function keyOf(document: Buffer): string {
  return (idDocument(document, 0) ?? EMPTY).toString('latin1');
}

function digest(document: Buffer): string {
  return hash('sha256', document, 'base64');
}
