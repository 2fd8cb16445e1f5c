/** Reading through the driver without decoding: what the server sent, document by document, in its own bytes. */
import {
  ReadConcern,
  ReadPreference,
  type ClientSession,
  type Db,
  type Document,
  type Long,
  type RunCommandOptions,
  type Timestamp,
} from 'mongodb';

/** Only the batches stay raw; a cursor id has to stay a 64-bit integer. */
const RAW = { fieldsAsRaw: { firstBatch: true, nextBatch: true }, promoteLongs: false } as const;

interface Batch {
  readonly documents: readonly Buffer[];
  readonly cursor: Long;
}

/**
 * The raw documents of a command that answers with a cursor. Holds at most two batches: the one being read, and the one
 * that is under way.
 */
export class RawCursor implements AsyncDisposable {
  readonly #db: Db;
  readonly #session: ClientSession;
  readonly #command: Document;
  readonly #options: RunCommandOptions = RAW;
  #namespace = '';
  #id: Long | undefined;
  #coming: Promise<Batch> | undefined;
  #batch: readonly Buffer[] = [];
  #at = 0;

  /**
   * @param inTransactionAt reads in a transaction at that cluster time: the only way in which 4.4 reads the past (tried
   *   on 4.4.2). It lasts as long as the cursor; the server ends it after `transactionLifetimeLimitSeconds`.
   */
  constructor(db: Db, command: Document, inTransactionAt?: Timestamp) {
    this.#db = db;
    this.#command = command;
    // A cursor belongs to the session that opened it; a causal one would add a read concern of its own.
    this.#session = db.client.startSession({ causalConsistency: false });
    if (!inTransactionAt) return;
    // The driver knows levels only, and sends what it is given.
    const readConcern = Object.assign(new ReadConcern('snapshot'), { atClusterTime: inTransactionAt });
    this.#session.startTransaction({ readConcern });
    this.#options = { ...RAW, readPreference: ReadPreference.primary };
  }

  /** The next document, when one is at hand. */
  take(): Buffer | undefined {
    return this.#batch[this.#at++];
  }

  /** Brings the next document to hand; false at the end. Call it when `take` gave nothing. */
  async fill(): Promise<boolean> {
    this.#batch = [];
    this.#at = 0;
    while (this.#batch.length === 0) {
      if (this.#id?.isZero()) return false;
      const { documents, cursor } = await (this.#coming ?? this.#fetch());
      this.#coming = undefined;
      this.#id = cursor;
      this.#batch = documents;
      if (!cursor.isZero()) {
        this.#coming = this.#fetch();
        // Whoever asks for the next batch gets the error; nobody may ever ask.
        this.#coming.catch(() => undefined);
      }
    }
    return true;
  }

  /** All that is left. */
  async rest(): Promise<Buffer[]> {
    const all: Buffer[] = [];
    for (;;) {
      const document = this.take();
      if (document) all.push(document);
      else if (!(await this.fill())) return all;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#coming?.catch(() => undefined);
    // Ending the session ends the cursors it opened.
    if (this.#id && !this.#id.isZero()) {
      await this.#db
        .command({ killCursors: this.#namespace, cursors: [this.#id] }, { session: this.#session })
        .catch(() => undefined);
    }
    // With it ends a transaction.
    await this.#session.endSession();
  }

  async #fetch(): Promise<Batch> {
    const command = this.#id === undefined ? this.#command : { getMore: this.#id, collection: this.#namespace };
    const reply = await this.#db.command(command, { ...this.#options, session: this.#session });
    const { ns, id, firstBatch, nextBatch } = reply['cursor'] as CursorReply;
    this.#namespace = ns.slice(this.#db.databaseName.length + 1);
    return { documents: firstBatch ?? nextBatch ?? [], cursor: id };
  }
}

/** The `cursor` of a reply, as the options of this module have it decoded. */
interface CursorReply {
  readonly ns: string;
  readonly id: Batch['cursor'];
  readonly firstBatch?: Batch['documents'];
  readonly nextBatch?: Batch['documents'];
}
