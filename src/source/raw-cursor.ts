/**
 * Reading a cursor of the source as raw bytes: no object is made of a document, nothing is decoded.
 *
 * With `raw: true` the driver hands out the sub-document `cursor` of a reply as bytes. Its documents are moved together
 * in place, so that a batch is one run of concatenated BSON documents without a second copy of megabytes.
 */
import { Long, ReadConcern, type ClientSession, type Db, type Document, type Timestamp } from 'mongodb';
import { BsonType, documentLength, findElement, stringValue, valueBytes } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { untilAborted } from '../shared/signals.ts';

/** How long each step of ending a cursor may take, in milliseconds: whoever stops must not wait for a server that is gone. */
const KILL_TIMEOUT_MS = 1_000;

/** One reply of a cursor. */
export interface RawBatch {
  /** The documents, one behind the other. The bytes are the caller's own. */
  readonly bytes: Buffer;
  readonly documents: number;
  /** Offset in `bytes` of the last document; 0 when there is none. */
  readonly lastOffset: number;
  /** Raw BSON of postBatchResumeToken, when the command asked for one. */
  readonly token: Buffer | null;
}

interface ParsedBatch extends RawBatch {
  readonly id: Long;
  readonly ns: string;
}

/** A batch as `elements` of a reply's `cursor` describe it. Moves the documents together inside `reply`. */
export function parseCursorReply(reply: Buffer): ParsedBatch {
  const batch = findElement(reply, 'firstBatch') ?? findElement(reply, 'nextBatch');
  const id = findElement(reply, 'id');
  const ns = findElement(reply, 'ns');
  if (batch?.type !== BsonType.array || id?.type !== BsonType.int64 || !ns) {
    throw new LifeboatError('Internal', 'the source answered with a cursor that is none');
  }
  const token = findElement(reply, 'postBatchResumeToken');
  const head = {
    id: Long.fromBigInt(reply.readBigInt64LE(id.valueStart)),
    ns: stringValue(reply, ns),
    token: token?.type === BsonType.object ? Buffer.from(valueBytes(reply, token)) : null,
  };
  return { ...head, ...compactArray(reply, batch.valueStart) };
}

/** Moves the documents of the array at `offset` to its begin, one behind the other. */
function compactArray(buffer: Buffer, offset: number): Pick<RawBatch, 'bytes' | 'documents' | 'lastOffset'> {
  const last = offset + documentLength(buffer, offset) - 1;
  let documents = 0;
  let lastOffset = 0;
  let to = offset;
  let at = offset + 4;
  while (at < last) {
    if (buffer[at] !== BsonType.object) throw new LifeboatError('Internal', 'a batch of the source holds no documents');
    // An element is its type, its name (the digits of its index), NUL, and the document.
    at += 2;
    while (buffer[at] !== 0) at += 1;
    at += 1;
    const length = documentLength(buffer, at);
    buffer.copyWithin(to, at, at + length);
    lastOffset = to - offset;
    to += length;
    at += length;
    documents += 1;
  }
  return { bytes: buffer.subarray(offset, to), documents, lastOffset };
}

/**
 * A cursor of one server, with the session that its `getMore`s need. Whoever opened it closes it; errors are the driver's own.
 */
export class RawCursor implements AsyncDisposable {
  readonly #db: Db;
  readonly #session: ClientSession;
  readonly #signal: AbortSignal;
  #id = Long.ZERO;
  #collection = '';
  #first: RawBatch | null = null;

  private constructor(db: Db, session: ClientSession, signal: AbortSignal) {
    this.#db = db;
    this.#session = session;
    this.#signal = signal;
  }

  /**
   * Runs `command`, which answers with a cursor. `db` is of a client that talks to one server only.
   * @param options with `transactionAt`, all of it is read in a transaction that sees that time, and ends with the cursor
   */
  static async open(
    db: Db,
    command: Document,
    signal: AbortSignal,
    options: { readonly transactionAt?: Timestamp } = {},
  ): Promise<RawCursor> {
    const session = db.client.startSession({ causalConsistency: false });
    if (options.transactionAt) {
      const readConcern = Object.assign(new ReadConcern('snapshot'), { atClusterTime: options.transactionAt });
      session.startTransaction({ readConcern, readPreference: 'primary' });
    }
    const cursor = new RawCursor(db, session, signal);
    try {
      cursor.#first = await (options.transactionAt ? cursor.#begin(command) : cursor.#run(command));
      return cursor;
    } catch (error) {
      await cursor[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** True when everything has been handed out. A tailable cursor ends when its place in the collection is lost. */
  get ended(): boolean {
    return this.#first === null && this.#id.isZero();
  }

  /** Bytes of the documents that came with the opening and were not handed out yet; 0 when there are none. */
  get firstBytes(): number {
    return this.#first?.bytes.length ?? 0;
  }

  /** The next batch; an empty one from a tailable cursor that has waited in vain. */
  async next(options: { readonly batchSize?: number; readonly maxTimeMS?: number } = {}): Promise<RawBatch> {
    const first = this.#first;
    if (first) {
      this.#first = null;
      return first;
    }
    return this.#run({ getMore: this.#id, collection: this.#collection, ...options });
  }

  /**
   * The first command of a transaction is answered before anything else is done. Were it cut, the `abortTransaction` that
   * follows might overtake it and find nothing to abort, and the transaction that begins after it would stay until the
   * server's limit, a minute: who wants to drop a collection then waits, and everybody behind him (tried on 4.4.2).
   */
  async #begin(command: Document): Promise<RawBatch> {
    const late = new AbortController();
    const first = this.#run(command, late.signal);
    // Of an error only the last line tells.
    const answered = first.then(
      () => undefined,
      () => undefined,
    );
    await untilAborted(answered, this.#signal);
    const timer = setTimeout(() => late.abort(this.#signal.reason), KILL_TIMEOUT_MS);
    await answered;
    clearTimeout(timer);
    this.#signal.throwIfAborted();
    return first;
  }

  async #run(command: Document, signal = this.#signal): Promise<RawBatch> {
    const reply = await this.#db.command(command, { raw: true, session: this.#session, signal });
    const batch = parseCursorReply(reply['cursor'] as Buffer);
    this.#id = batch.id;
    this.#collection = batch.ns.slice(batch.ns.indexOf('.') + 1);
    return batch;
  }

  /** Ends the cursor on the server. One that cannot be reached any more ends it with the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    const id = this.#id;
    this.#id = Long.ZERO;
    this.#first = null;
    if (!id.isZero()) {
      const command = { killCursors: this.#collection, cursors: [id] };
      const signal = AbortSignal.timeout(KILL_TIMEOUT_MS);
      await this.#db.command(command, { session: this.#session, signal }).catch(() => undefined);
    }
    // With a transaction that it is to abort, it asks the server.
    const ended = this.#session.endSession().catch(() => undefined);
    await untilAborted(ended, AbortSignal.timeout(KILL_TIMEOUT_MS));
  }
}
