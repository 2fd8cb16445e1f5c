/** Reading a cursor of a head as raw bytes: inside a turn only. */
import { Long, type Document } from 'mongodb';
import { documentsIn, findElement, valueBytes } from '../bson/raw.ts';
import type { HeadConnection } from '../head/connections.ts';
import type { OpenHead } from '../head/open-head.ts';
import { succeeded, type Reply } from '../head/socket.ts';
import { LifeboatError } from '../shared/errors.ts';
import { parseCursorReply, type RawBatch } from '../source/raw-cursor.ts';

/** One reading under way; nothing else can be asked over its connection while a batch is awaited. */
export class HeadCursor implements AsyncDisposable {
  readonly #on: HeadConnection;
  readonly #db: string;
  readonly #what: string;
  #id = Long.ZERO;
  #collection = '';
  #first: RawBatch | null = null;

  private constructor(on: HeadConnection, db: string, what: string) {
    this.#on = on;
    this.#db = db;
    this.#what = what;
  }

  /**
   * Runs a command of our own that answers with a cursor.
   * @throws LifeboatError `HeadLost`, `DiskFull` (retryable), `Internal`
   */
  static async open(on: HeadConnection, db: string, command: Document, what: string): Promise<HeadCursor> {
    const cursor = new HeadCursor(on, db, what);
    cursor.#first = cursor.#read(await on.socket.command(db, command));
    return cursor;
  }

  /** True when everything has been handed out. */
  get ended(): boolean {
    return this.#first === null && this.#id.isZero();
  }

  async next(options: { readonly batchSize?: number } = {}): Promise<RawBatch> {
    const first = this.#first;
    if (first) {
      this.#first = null;
      return first;
    }
    const more = { getMore: this.#id, collection: this.#collection, ...options };
    return this.#read(await this.#on.socket.command(this.#db, more));
  }

  #read(reply: Reply): RawBatch {
    if (!reply.ok) this.#on.head.refuseTrouble(reply);
    const { body } = succeeded(reply, this.#what);
    const found = findElement(body, 'cursor');
    if (!found) throw new LifeboatError('Internal', `${this.#what}: the head answered without a cursor`);
    const { id, ns, ...batch } = parseCursorReply(valueBytes(body, found));
    this.#id = id;
    this.#collection = ns.slice(ns.indexOf('.') + 1);
    return batch;
  }

  /** Ends the cursor on the head, unless the head is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    const id = this.#id;
    this.#id = Long.ZERO;
    this.#first = null;
    const { socket } = this.#on;
    if (id.isZero() || socket.lost) return;
    await socket.command(this.#db, { killCursors: this.#collection, cursors: [id] }).catch(() => undefined);
  }
}

/** Copies of all documents that a command answers with. Only for what is small: listings. */
export async function headDocuments(head: OpenHead, db: string, command: Document, what: string): Promise<Buffer[]> {
  const documents: Buffer[] = [];
  await using cursor = await HeadCursor.open({ head, socket: head.socket }, db, command, what);
  while (!cursor.ended) {
    const { bytes } = await cursor.next();
    for (const one of documentsIn(bytes)) documents.push(Buffer.from(one));
  }
  return documents;
}
