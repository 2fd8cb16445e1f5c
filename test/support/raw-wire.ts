/**
 * BSON built by hand and sent as it is: what the driver would never send, and people's databases nevertheless hold
 * (duplicate keys, types that are long deprecated, an `_id` that is not the first field).
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { deserialize, serialize, type Document } from 'bson';
import type { MongodAddress } from '../../src/mongod/process.ts';

/** One element of raw BSON: type byte, name, value bytes. */
export type RawField = readonly [type: number, name: string, value: Buffer];

export function rawDocument(fields: readonly (RawField | Buffer)[]): Buffer {
  const parts = fields.map((field) =>
    Buffer.isBuffer(field) ? field : Buffer.concat([Buffer.of(field[0]), Buffer.from(`${field[1]}\0`), field[2]]),
  );
  const body = Buffer.concat([...parts, Buffer.of(0)]);
  return Buffer.concat([int32(4 + body.length), body]);
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

export function double(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

export function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return bytes;
}

/** A length-prefixed text, as the types string, code and symbol hold it. */
export function text(value: string | Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.from(value), Buffer.of(0)]);
  return Buffer.concat([int32(bytes.length), bytes]);
}

export function rawArray(documents: readonly Buffer[]): Buffer {
  return rawDocument(documents.map((document, n) => [0x03, String(n), document] as const));
}

/** The elements of a document that the library encodes. */
export function fields(document: Document): Buffer {
  return serialize(document).subarray(4, -1) as Buffer;
}

const OP_MSG = 2013;
const HEADER = 16;

/** What a server answers to a command that it does not take. */
export class RefusedByServer extends Error {
  readonly code: number;
  /** Whether a client is meant to begin the transaction again: a conflict, or one rolled back to free the cache. */
  readonly isTransient: boolean;

  constructor(code: number, message: string, labels: readonly string[] = []) {
    super(`the server refused a raw command: ${code} ${message}`);
    this.code = code;
    this.isTransient = labels.includes('TransientTransactionError');
  }
}

/** A connection that sends commands as raw BSON, one at a time. */
export class RawWire implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #incoming: AsyncIterator<Buffer>;
  #rest = Buffer.alloc(0);
  #requests = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#incoming = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  static async open(address: MongodAddress): Promise<RawWire> {
    const socket = 'socket' in address ? connect(address.socket) : connect(address.port, '127.0.0.1');
    await once(socket, 'connect');
    return new RawWire(socket);
  }

  /** Sends one command, whose `$db` is already in it; fails when the server says it failed. */
  async command(body: Buffer): Promise<Document> {
    const message = Buffer.concat([Buffer.alloc(HEADER + 4), Buffer.of(0), body]);
    message.writeInt32LE(message.length, 0);
    message.writeInt32LE(++this.#requests, 4);
    message.writeInt32LE(OP_MSG, 12);
    this.#socket.write(message);
    while (this.#rest.length < 4 || this.#rest.length < this.#rest.readInt32LE(0)) {
      const { value, done } = await this.#incoming.next();
      if (done) throw new Error('the server closed the connection');
      this.#rest = Buffer.concat([this.#rest, value]);
    }
    // A refusal may quote what is not text.
    const reply = deserialize(this.#rest.subarray(HEADER + 5, this.#rest.readInt32LE(0)), {
      validation: { utf8: false },
    });
    this.#rest = this.#rest.subarray(this.#rest.readInt32LE(0));
    const failure = reply['writeErrors']?.[0] ?? (reply['ok'] === 1 ? undefined : reply);
    if (failure) throw new RefusedByServer(Number(failure.code), String(failure.errmsg), reply['errorLabels']);
    return reply;
  }

  /** Inserts documents through `insert`, which moves `_id` to the front and fills in a zero timestamp. */
  async insert(db: string, collection: string, documents: readonly Buffer[]): Promise<void> {
    const command = Buffer.concat([
      fields({ insert: collection }),
      element(0x04, 'documents', rawArray(documents)),
      fields({ $db: db }),
    ]);
    await this.command(rawDocument([command]));
  }

  /**
   * Inserts documents through `applyOps`, which stores them as they are. The collection has to exist. Not atomically: a
   * primary then corrects the documents that it stores and not those that it logs (6.0.5).
   */
  async insertExactly(namespace: string, documents: readonly Buffer[]): Promise<void> {
    const operations = documents.map((o) => rawDocument([fields({ op: 'i', ns: namespace }), element(0x03, 'o', o)]));
    const command = Buffer.concat([
      element(0x04, 'applyOps', rawArray(operations)),
      fields({ allowAtomic: false, $db: 'admin' }),
    ]);
    await this.command(rawDocument([command]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await Promise.resolve();
  }
}

function element(type: number, name: string, value: Buffer): Buffer {
  return Buffer.concat([Buffer.of(type), Buffer.from(`${name}\0`), value]);
}
