/** Reading one collection of a member, by UUID, in natural order, as raw bytes cut at places that can be gone back to. */
import { BSON, type Binary, type Document, type MongoClient, type Timestamp } from 'mongodb';
import { RawCursor, type RawBatch } from './raw-cursor.ts';
import type { ReadPace } from './read-pace.ts';

/** What is to be read. */
export interface CollectionReading {
  /** Of one member. */
  readonly client: MongoClient;
  readonly db: string;
  readonly uuid: Binary;
  /** Raw BSON of a resume token of this member; null begins at the start. */
  readonly after: Uint8Array | null;
  /** The reading sees at least what is on a majority at this optime. */
  readonly afterClusterTime: Timestamp;
  /** About how many bytes a piece has. */
  readonly pieceBytes: number;
  readonly pace: ReadPace;
  /** True when the piece in hand is to be given out as it is. */
  readonly cutShort?: (() => boolean) | undefined;
  readonly signal: AbortSignal;
}

/** A run of documents. */
export interface Piece {
  /** Concatenated raw documents, in several buffers. */
  readonly runs: readonly Buffer[];
  readonly bytes: number;
  readonly documents: number;
  /** Raw BSON of the resume token behind the last document; null at the end of the collection. */
  readonly token: Buffer | null;
}

/** Documents of the first reply: a small collection takes one round trip. */
const FIRST_BATCH = 1_000;
/** What a document is taken for while none was seen, and the reading is held to a limit: rather too large. */
const GUESSED_BYTES = 16 * 1024;
/** A reply that would make the piece larger than this many times its size begins the next piece. */
const TOLERANCE = 1.5;

/** The command that begins a reading. */
export function findCommand({ uuid, after, afterClusterTime }: CollectionReading, batchSize = FIRST_BATCH): Document {
  return {
    find: uuid,
    hint: { $natural: 1 },
    $_requestResumeToken: true,
    // Record ids are Int64: a number that JavaScript would make of them is refused.
    ...(after === null ? {} : { $_resumeAfter: BSON.deserialize(after, { promoteValues: false }) }),
    noCursorTimeout: true,
    batchSize,
    readConcern: { level: 'majority', afterClusterTime },
  };
}

/** One reading under way. The caller asks for a piece when it has room for it. */
export class CollectionReader implements AsyncDisposable {
  readonly #cursor: RawCursor;
  readonly #reading: CollectionReading;
  /** What was read of the next piece already. */
  #runs: Buffer[] = [];
  #bytes = 0;
  #documents = 0;
  #token: Buffer | null = null;
  /** All that was read, for the average size of a document. */
  #totalBytes = 0;
  #totalDocuments = 0;
  #ended = false;

  private constructor(cursor: RawCursor, reading: CollectionReading) {
    this.#cursor = cursor;
    this.#reading = reading;
  }

  /** @throws the driver's errors (see readFailure) */
  static async open(reading: CollectionReading): Promise<CollectionReader> {
    const { client, db, signal, pace, pieceBytes } = reading;
    const { bytes, settle } = await pace.admit(pieceBytes, signal);
    const documents = bytes < pieceBytes ? Math.min(FIRST_BATCH, Math.ceil(bytes / GUESSED_BYTES)) : FIRST_BATCH;
    let read = 0;
    try {
      const cursor = await RawCursor.open(client.db(db), findCommand(reading, documents), signal);
      // The first reply came with the opening.
      read = cursor.firstBytes;
      return new CollectionReader(cursor, reading);
    } finally {
      settle(read);
    }
  }

  /** True once the piece with token null was given out. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The next piece. The last one has token null, and may be without documents. */
  async next(): Promise<Piece> {
    while (!this.#cursor.ended) {
      const batch = await this.#batch();
      const full = this.#bytes > 0 && this.#bytes + batch.bytes.length > TOLERANCE * this.#reading.pieceBytes;
      const piece = full ? this.#take(this.#token) : undefined;
      if (batch.documents > 0) this.#runs.push(batch.bytes);
      this.#bytes += batch.bytes.length;
      this.#documents += batch.documents;
      this.#totalBytes += batch.bytes.length;
      this.#totalDocuments += batch.documents;
      this.#token = batch.token;
      if (piece) return piece;
      if (this.#full()) return this.#take(this.#token);
    }
    this.#ended = true;
    return this.#take(null);
  }

  /** Whether the piece is large enough to be given out before its end; the last one is given out by itself. */
  #full(): boolean {
    if (this.#cursor.ended) return false;
    const { pieceBytes, cutShort } = this.#reading;
    return this.#bytes >= pieceBytes || (this.#bytes > 0 && cutShort?.() === true);
  }

  async #batch(): Promise<RawBatch> {
    const { pace, pieceBytes, signal } = this.#reading;
    if (this.#cursor.firstBytes > 0) return this.#cursor.next();
    const { bytes, settle } = await pace.admit(Math.max(1, pieceBytes - this.#bytes), signal);
    let read = 0;
    try {
      const batch = await this.#cursor.next({ batchSize: this.#batchSize(bytes) });
      read = batch.bytes.length;
      return batch;
    } finally {
      settle(read);
    }
  }

  /** How many documents of the average size come to `bytes`. */
  #batchSize(bytes: number): number {
    if (this.#totalDocuments === 0) return FIRST_BATCH;
    return Math.max(1, Math.ceil(bytes / (this.#totalBytes / this.#totalDocuments)));
  }

  #take(token: Buffer | null): Piece {
    const piece = { runs: this.#runs, bytes: this.#bytes, documents: this.#documents, token };
    this.#runs = [];
    this.#bytes = 0;
    this.#documents = 0;
    return piece;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cursor[Symbol.asyncDispose]();
  }
}
