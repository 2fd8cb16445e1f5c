/** One reading of the source for a validation: at the pace of the source, and no reply is waited for too long. */
import type { Db, Document, Timestamp } from 'mongodb';
import { RawCursor, type RawBatch } from '../source/raw-cursor.ts';
import type { ReadPace } from '../source/read-pace.ts';
import type { Documents } from './compare.ts';
import { BATCH_BYTES, batchSize } from './ranges.ts';

/** A reply did not come in time. The connection it was awaited on is closed, by which the server gives it up as well. */
export class SourceSilent extends Error {
  constructor() {
    super('the source did not reply in time');
    this.name = 'SourceSilent';
  }
}

export interface SourceCursorOptions {
  readonly database: Db;
  readonly pace: ReadPace;
  /** Bytes of a document on average, about. */
  readonly average: number;
  /** How long one reply is waited for, in milliseconds. */
  readonly replyMs: number;
  readonly signal: AbortSignal;
}

/**
 * The time is counted here and for each reply: `maxTimeMS` of a `find` is for all replies together, so that no long range
 * could be read to its end, and a `getMore` takes none of its own (6.0.5).
 */
export class SourceCursor implements Documents, AsyncDisposable {
  readonly #options: SourceCursorOptions;
  readonly #cursor: RawCursor;
  /** Of the reply that is awaited. */
  readonly #wait: Wait;

  private constructor(options: SourceCursorOptions, cursor: RawCursor, wait: Wait) {
    this.#options = options;
    this.#cursor = cursor;
    this.#wait = wait;
  }

  /** @throws SourceSilent; the driver's errors */
  static async open(
    options: SourceCursorOptions,
    command: Document,
    how: { readonly transactionAt?: Timestamp } = {},
  ): Promise<SourceCursor> {
    const { database, pace, replyMs, signal } = options;
    const wait = new Wait(replyMs, signal);
    const { bytes, settle } = await pace.admit(BATCH_BYTES, signal);
    let read = 0;
    try {
      const sized = { ...command, batchSize: batchSize(options, bytes) };
      const cursor = await wait.for(() => RawCursor.open(database, sized, wait.signal, how));
      // The first reply came with the opening.
      read = cursor.firstBytes;
      return new SourceCursor(options, cursor, wait);
    } finally {
      settle(read);
    }
  }

  get ended(): boolean {
    return this.#cursor.ended;
  }

  /** @throws as open */
  async next(): Promise<RawBatch> {
    if (this.#cursor.firstBytes > 0) return this.#cursor.next();
    const { pace, signal } = this.#options;
    const { bytes, settle } = await pace.admit(BATCH_BYTES, signal);
    let read = 0;
    try {
      const size = { batchSize: batchSize(this.#options, bytes) };
      const batch = await this.#wait.for(() => this.#cursor.next(size));
      read = batch.bytes.length;
      return batch;
    } finally {
      settle(read);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cursor[Symbol.asyncDispose]();
  }
}

/** Bounds how long each of several replies is waited for. */
class Wait {
  readonly #ms: number;
  readonly #over = new AbortController();
  readonly signal: AbortSignal;

  constructor(ms: number, signal: AbortSignal) {
    this.#ms = ms;
    this.signal = AbortSignal.any([signal, this.#over.signal]);
  }

  /** The answer of `ask`, which heeds the signal. */
  async for<T>(ask: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.#over.abort(new SourceSilent()), this.#ms);
    try {
      return await ask();
    } catch (error) {
      // The driver may wrap what the signal says.
      throw this.signal.aborted && this.#over.signal.aborted ? this.#over.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  }
}
