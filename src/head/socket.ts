/**
 * A connection to a head that sends and receives bytes as they are (OP_MSG; mongodb specifications, message/OP_MSG).
 *
 * The driver would decode and encode what passes through it; user documents must not be. One request is under way at a
 * time: a head's work is strictly ordered, and two connections could overtake each other.
 */
import { randomUUID } from 'node:crypto';
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { BSON, type Document } from 'mongodb';
import { BsonType, elements, elementName, stringValue } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { document, stringElement } from './bytes.ts';
import { refuseTrouble } from './replies.ts';

const OP_MSG = 2013;
/** Message header (16), flags (4), and the kind byte of the body section. */
export const BODY_OFFSET = 21;
/** The length of a message, which is its first field. */
const LENGTH_BYTES = 4;
/** MaxMessageSizeBytes of the server (mongo, src/mongo/rpc/message.h). */
const MAX_MESSAGE_BYTES = 48 * 1000 * 1000;
const READ_BYTES = 256 * 1024;
/** How long an operation that was told to end is given before it is told again, in milliseconds. */
const INTERRUPT_AGAIN_MS = 100;
/** How long it is given at all, in milliseconds. */
const INTERRUPT_MS = 20_000;

/** What a head answered: the reply's bytes and the fields that say whether it succeeded. */
export interface Reply {
  /** The whole reply document, raw. Its memory is the reply's alone. */
  readonly body: Buffer;
  readonly ok: boolean;
  /** The server's error code, 0 when there is none. */
  readonly code: number;
  /** `codeName`: never a document, so it may be shown. */
  readonly codeName: string;
}

/** A run of raw documents sent beside a command's body. */
export interface DocumentSequence {
  /** The field of the command, such as `documents`. */
  readonly field: string;
  readonly documents: readonly Buffer[];
}

export class HeadSocket {
  readonly #path: string;
  readonly #socket: Socket;
  /** The reply that is coming in, as long as its first bytes say; before those are there, room for them. */
  #reply = Buffer.allocUnsafe(LENGTH_BYTES);
  #received = 0;
  #waiting: { readonly settle: (reply: Buffer) => void; readonly fail: (error: LifeboatError) => void } | undefined;
  #lost: LifeboatError | undefined;

  private constructor(path: string) {
    this.#path = path;
    const callback = (bytes: number, buffer: Uint8Array): boolean => {
      this.#receive(buffer.subarray(0, bytes));
      return true;
    };
    // One buffer for all that comes in: megabytes of small ones would have to be collected.
    this.#socket = createConnection({ path, onread: { buffer: Buffer.allocUnsafeSlow(READ_BYTES), callback } });
    this.#socket.on('error', (error) => this.#lose(error));
    this.#socket.on('close', () => this.#lose());
  }

  /** @throws LifeboatError `HeadLost` when nobody listens */
  static async open(path: string): Promise<HeadSocket> {
    const opened = new HeadSocket(path);
    await new Promise<void>((settle, fail) => {
      opened.#socket.once('connect', settle);
      opened.#socket.once('error', (cause) =>
        fail(new LifeboatError('HeadLost', 'the head does not answer', { cause })),
      );
    });
    return opened;
  }

  /** A further connection to the same head. Whoever opened it closes it. @throws as open */
  async another(): Promise<HeadSocket> {
    return HeadSocket.open(this.#path);
  }

  /** True once the connection has ended; whatever was under way then has an unknown outcome. */
  get lost(): boolean {
    return this.#lost !== undefined;
  }

  close(): void {
    this.#socket.destroy();
    this.#lose();
  }

  /**
   * Sends a whole message whose first `BODY_OFFSET` bytes are left free for its header, and gives the reply's document.
   * The buffer must not be written to before that.
   * @throws LifeboatError `HeadLost` when the connection ends first: the outcome is unknown
   */
  async send(message: Buffer): Promise<Reply> {
    message.writeInt32LE(message.length, 0);
    message.writeInt32LE(0, 4);
    message.writeInt32LE(0, 8);
    message.writeInt32LE(OP_MSG, 12);
    message.writeInt32LE(0, 16);
    message[20] = 0;
    return this.#exchange([message]);
  }

  /** Runs a command given as values. Only for commands of our own: never for what holds user documents. */
  async command(db: string, command: Document): Promise<Reply> {
    return this.raw(db, Buffer.from(BSON.serialize(command)));
  }

  /**
   * Runs a command that may take hours, given as bytes, and has the head give it up when `signal` is aborted. If it does
   * not within 20 s, the connection is closed: whoever uses the head next ends its mongod.
   * @throws the signal's reason; LifeboatError `HeadLost`
   */
  async interruptible(db: string, command: Buffer, signal: AbortSignal): Promise<Reply> {
    signal.throwIfAborted();
    const comment = randomUUID();
    const commented = document(command.subarray(4, -1), stringElement('comment', comment));
    const over = new AbortController();
    let interrupting: Promise<void> = Promise.resolve();
    let patience: NodeJS.Timeout | undefined;
    const interrupt = (): void => {
      interrupting = this.#interrupt(comment, over.signal);
      patience = setTimeout(() => this.close(), INTERRUPT_MS);
    };
    signal.addEventListener('abort', interrupt, { once: true });
    try {
      const reply = await this.raw(db, commented);
      // What came to its end all the same is done.
      if (!reply.ok) signal.throwIfAborted();
      return reply;
    } catch (error) {
      // Where it could not be ended otherwise, the connection was.
      signal.throwIfAborted();
      throw error;
    } finally {
      over.abort();
      clearTimeout(patience);
      signal.removeEventListener('abort', interrupt);
      await interrupting;
    }
  }

  /**
   * Ends the operation of that comment, over a connection of its own; it may not have begun, or pass over a first try.
   *
   * An index build also has an operation of that comment on a thread of its own. That one ends with the command. Told to
   * end beside it, both can wait for each other for ever (tried on 6.0.5: a build in 20 or so).
   */
  async #interrupt(comment: string, over: AbortSignal): Promise<void> {
    const byConnection = { 'command.comment': comment, connectionId: { $exists: true } };
    let other: HeadSocket | undefined;
    try {
      other = await HeadSocket.open(this.#path);
      // One that does not answer at all would be waited for.
      over.addEventListener('abort', () => other?.close(), { once: true });
      while (!over.aborted) {
        const reply = await other.command('admin', { currentOp: 1, ...byConnection });
        const { inprog } = replyValues(succeeded(reply, 'looking for what it does')) as { inprog: { opid: number }[] };
        for (const { opid } of inprog) await other.command('admin', { killOp: 1, op: opid });
        await delay(INTERRUPT_AGAIN_MS, undefined, { signal: over }).catch(() => undefined);
      }
    } catch {
      // It cannot be asked: whoever uses it next ends its mongod.
      if (!over.aborted) this.close();
    } finally {
      other?.close();
    }
  }

  /** Runs a command given as bytes (without `$db`), with documents beside it. */
  async raw(db: string, command: Buffer, sequence?: DocumentSequence): Promise<Reply> {
    const dbField = Buffer.from(BSON.serialize({ $db: db }));
    const bodyBytes = command.length + dbField.length - 5;
    const documents = sequence?.documents ?? [];
    const nameBytes = sequence ? Buffer.byteLength(sequence.field) + 1 : 0;
    const sequenceBytes = sequence ? 4 + nameBytes + documents.reduce((sum, { length }) => sum + length, 0) : 0;
    const head = Buffer.alloc(BODY_OFFSET + bodyBytes + (sequence ? 1 + 4 + nameBytes : 0));
    const total = BODY_OFFSET + bodyBytes + (sequence ? 1 + sequenceBytes : 0);
    head.writeInt32LE(total, 0);
    head.writeInt32LE(OP_MSG, 12);
    command.copy(head, BODY_OFFSET, 0, command.length - 1);
    head.writeInt32LE(bodyBytes, BODY_OFFSET);
    dbField.copy(head, BODY_OFFSET + command.length - 1, 4);
    if (sequence) {
      let at = BODY_OFFSET + bodyBytes;
      at = head.writeUInt8(1, at);
      at = head.writeInt32LE(sequenceBytes, at);
      head.write(`${sequence.field}\0`, at);
    }
    return this.#exchange([head, ...documents]);
  }

  async #exchange(parts: readonly Buffer[]): Promise<Reply> {
    if (this.#lost) throw this.#lost;
    if (this.#waiting) throw new LifeboatError('Internal', 'two requests at a time on the connection of a head');
    const body = await new Promise<Buffer>((settle, fail) => {
      this.#waiting = { settle, fail };
      // Many small documents in one system call.
      this.#socket.cork();
      for (const part of gather(parts)) this.#socket.write(part);
      this.#socket.uncork();
    });
    return readReply(body);
  }

  #receive(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#lost;) {
      const part = bytes.subarray(at, at + this.#reply.length - this.#received);
      this.#reply.set(part, this.#received);
      this.#received += part.length;
      at += part.length;
      if (this.#received === LENGTH_BYTES) this.#makeRoom();
      else if (this.#received === this.#reply.length) this.#settle();
    }
  }

  #makeRoom(): void {
    const length = this.#reply.readInt32LE(0);
    // Nothing that speaks the protocol says so: nothing more of it is to be believed.
    if (length <= BODY_OFFSET || length > MAX_MESSAGE_BYTES) {
      this.close();
      return;
    }
    const whole = Buffer.allocUnsafe(length);
    whole.set(this.#reply);
    this.#reply = whole;
  }

  #settle(): void {
    const message = this.#reply;
    this.#reply = Buffer.allocUnsafe(LENGTH_BYTES);
    this.#received = 0;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.settle(message.subarray(BODY_OFFSET));
  }

  #lose(cause?: Error): void {
    this.#lost ??= new LifeboatError('HeadLost', 'the connection to the head ended', { cause });
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.fail(this.#lost);
  }
}

const GATHER_BYTES = 256 * 1024;

/** Joins small pieces: a socket write for each of a hundred thousand documents would take longer than their insert. */
function* gather(parts: readonly Buffer[]): Generator<Buffer> {
  let group: Buffer[] = [];
  let bytes = 0;
  for (const part of parts) {
    if (bytes + part.length > GATHER_BYTES && bytes > 0) {
      yield joined(group);
      group = [];
      bytes = 0;
    }
    group.push(part);
    bytes += part.length;
  }
  if (bytes > 0) yield joined(group);
}

/** One that is alone is not copied. */
function joined(group: readonly Buffer[]): Buffer {
  const [only, ...more] = group;
  return only && more.length === 0 ? only : Buffer.concat(group);
}

function readReply(body: Buffer): Reply {
  let ok = false;
  let code = 0;
  let codeName = '';
  for (const element of elements(body)) {
    switch (elementName(body, element)) {
      case 'ok':
        ok = numberValue(body, element.type, element.valueStart) === 1;
        break;
      case 'code':
        code = numberValue(body, element.type, element.valueStart);
        break;
      case 'codeName':
        codeName = stringValue(body, element);
        break;
      default:
    }
  }
  return { body, ok, code, codeName };
}

function numberValue(buffer: Buffer, type: number, at: number): number {
  if (type === BsonType.double) return buffer.readDoubleLE(at);
  if (type === BsonType.int32) return buffer.readInt32LE(at);
  return type === BsonType.int64 ? Number(buffer.readBigInt64LE(at)) : Number(buffer[at] === 1);
}

/**
 * Gives a reply that succeeded.
 * @param what was being done and to what, for the message, without any document
 * @throws LifeboatError `HeadLost`, `DiskFull`, `HeadStrained` (retryable) or `Internal` for a reply that did not
 */
export function succeeded(reply: Reply, what: string): Reply {
  if (reply.ok) return reply;
  const label = `${reply.code} ${reply.codeName}`.trim();
  refuseTrouble(reply, what);
  throw new LifeboatError('Internal', `${what}: the head answered ${label}`);
}

/** A reply of our own command as values. Never for a reply that may hold user documents. */
export function replyValues(reply: Reply): Document {
  return BSON.deserialize(reply.body);
}
