/** Storing a stream of entries beside its reading: what comes while one batch is stored makes up the next. */
import type { ObjectId } from 'mongodb';
import type { EntryRun } from '../mongo/entries.ts';
import type { Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { appendBatch, type NewBatch } from './batches.ts';

export interface WriterOptions {
  readonly stores: Stores;
  readonly incarnation: ObjectId;
  readonly epoch: number;
  /** The end of the chain, or CHAIN_START. */
  readonly after: Position;
  /** Called when a batch is durable. */
  readonly stored: (batch: NewBatch) => void;
}

/** Raw bytes of a full batch. */
export const BATCH_BYTES = 8 * 1024 * 1024;

/** How long the first entry of a batch that is not full waits for company, in milliseconds: a batch each would be many. */
const LINGER_MS = 100;

/** Another writer has extended the chain. */
export class ChainExtended extends Error {}

/** One batch is stored at a time, each behind the one before. Not used any more once it has failed. */
export class EntryWriter {
  readonly #options: WriterOptions;
  #after: Position;
  #gathered: EntryRun[] = [];
  #bytes = 0;
  #since = 0;
  #urgent = false;
  #timer: NodeJS.Timeout | undefined;
  #storing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#after = options.after;
  }

  /** Takes a run that follows what it took before. */
  add(run: EntryRun): void {
    if (this.#gathered.length === 0) this.#since = Date.now();
    this.#gathered.push(run);
    this.#bytes += run.bytes.length;
    this.#pump();
  }

  /**
   * Waits while a full batch is gathered behind the one that is being stored.
   * @throws what storing failed with; ChainExtended when another writer was first
   */
  async room(): Promise<void> {
    while (this.#bytes >= BATCH_BYTES && this.#storing) await this.#storing;
    this.#throwFailure();
  }

  /** Stores all that was taken. @throws like room */
  async flush(): Promise<void> {
    this.#urgent = true;
    this.#pump();
    while (this.#storing) await this.#storing;
    this.#throwFailure();
  }

  /** Begins nothing further. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#failure ??= { error: new Error('stopped') };
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure.error;
  }

  #pump(): void {
    if (this.#storing || this.#failure || this.#gathered.length === 0) return;
    clearTimeout(this.#timer);
    const wait = this.#since + LINGER_MS - Date.now();
    if (this.#urgent || this.#bytes >= BATCH_BYTES || wait <= 0) {
      this.#storing = this.#store(this.#take()).finally(() => {
        this.#storing = undefined;
        this.#pump();
      });
    } else {
      this.#timer = setTimeout(() => this.#pump(), wait);
    }
  }

  #take(): NewBatch {
    const runs = this.#gathered;
    this.#gathered = [];
    this.#bytes = 0;
    const [first, last] = [runs[0], runs.at(-1)];
    if (!first || !last) throw new TypeError('no entries were gathered');
    return {
      after: this.#after,
      first: first.first,
      last: { ts: last.last.ts, term: last.last.term },
      lastWall: last.last.wall,
      entries: runs.reduce((sum, { entries }) => sum + entries, 0),
      bytes: runs.length === 1 ? first.bytes : Buffer.concat(runs.map(({ bytes }) => bytes)),
    };
  }

  async #store(batch: NewBatch): Promise<void> {
    const { stores, incarnation, epoch, stored } = this.#options;
    try {
      if (!(await appendBatch(stores, incarnation, batch, epoch))) throw new ChainExtended();
      this.#after = batch.last;
      stored(batch);
    } catch (error) {
      this.#failure ??= { error };
    }
  }
}
