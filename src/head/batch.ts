/**
 * An `applyOps` command put together from the bytes of entries (research, mongodb-internals §2). Only what an operation
 * says of data goes in: `op`, `ns`, `ui`, `o`, `o2`, `b`. Sessions and retry images are none of a head's business.
 */
import { BSON } from 'mongodb';
import { BsonType } from '../bson/raw.ts';
import { booleanElement, document, stringElement, uuidElement } from './bytes.ts';
import type { HeadCollection } from './catalog.ts';
import type { OplogEntry } from './entry.ts';
import { BODY_OFFSET } from './socket.ts';
import { STATE_NS, toStored, type HeadRecord } from './state.ts';

/** What an operation is applied to. A head's own `admin.system.version` has another UUID than the source's. */
export type OpTarget = Pick<HeadCollection, 'db' | 'name' | 'uuid' | 'capped'> | { readonly ns: string };

export function isCapped(target: OpTarget): boolean {
  return 'capped' in target && target.capped;
}

export interface BatchOp {
  readonly entry: OplogEntry;
  /** The entry whose position the operation has: its own, or of the end of its transaction. */
  readonly at: OplogEntry;
  readonly target: OpTarget;
}

/** The server takes a little more than 16 MiB, the limit of a document; what is larger goes alone. */
const MAX_BYTES = 15 * 1024 * 1024;
const MAX_OPS = 5_000;
/**
 * Updates by difference that may be in one piece. Each writes its whole document anew, of a size that the entry does
 * not tell, and what one piece writes has to fit the cache: 1,000 updates of 100 KB documents stall a head with a cache
 * of 256 MiB for minutes, until it answers TransactionTooLargeForCache (6.0.5).
 */
const MAX_WHOLE_DIFFERENCES = 16;
/** More than everything of an operation but its documents and its prefix. */
const OVERHEAD = 64;
const FIRST_BYTES = 1024 * 1024;

/** Whether operations of so many bytes fit one command. */
export function fitsOneBatch(ops: number, bytes: number): boolean {
  return ops <= MAX_OPS && (ops === 1 || bytes <= MAX_BYTES);
}

export class OpBatch {
  #buffer = Buffer.allocUnsafe(FIRST_BYTES);
  #end = 0;
  #ops: BatchOp[] = [];
  #count = 0;
  #differences = 0;
  #isSealed = false;
  #isApart = false;
  #pushesOut = false;

  constructor() {
    this.clear();
  }

  get ops(): readonly BatchOp[] {
    return this.#ops;
  }

  get isEmpty(): boolean {
    return this.#ops.length === 0;
  }

  /** Whether it may go in one piece, and the cache of a head takes it. */
  get canBeWhole(): boolean {
    return !this.#isApart && this.#differences <= MAX_WHOLE_DIFFERENCES;
  }

  /** Whether capped collections lose with it what they have no more room for. */
  get pushesOut(): boolean {
    return this.#pushesOut;
  }

  /** Whether operations of so many bytes can go into the same command. */
  fits(ops: number, bytes: number): boolean {
    if (this.#isSealed) return false;
    return this.isEmpty
      ? fitsOneBatch(ops, bytes)
      : this.#ops.length + ops <= MAX_OPS && this.#end + bytes <= MAX_BYTES;
  }

  /** Its operations are to be applied one after the other. */
  keepApart(): void {
    this.#isApart = true;
  }

  /** With it capped collections lose what they have no more room for; nothing more goes in. */
  pushOut(): void {
    this.#pushesOut = true;
    this.seal();
  }

  /** Nothing more goes in. */
  seal(): void {
    this.#isSealed = true;
  }

  add(op: BatchOp): void {
    const { buffer, oStart, oEnd, o2Start, o2End, upsert } = op.entry;
    const prefix = prefixOf(op);
    this.#reserve(prefix.length + (oEnd - oStart) + (o2End - o2Start) + OVERHEAD);
    const begin = this.#beginElement();
    const target = this.#buffer;
    let at = this.#end;
    at += prefix.copy(target, at);
    if (oEnd > 0) {
      at += O_NAME.copy(target, at);
      at += buffer.copy(target, at, oStart, oEnd);
    }
    if (o2End > 0) {
      at += O2_NAME.copy(target, at);
      at += buffer.copy(target, at, o2Start, o2End);
    }
    if (upsert) at += UPSERT.copy(target, at);
    target[at] = 0;
    at += 1;
    target.writeInt32LE(at - begin, begin);
    this.#end = at;
    this.#ops.push(op);
    if (isDifference(op.entry)) this.#differences += 1;
  }

  /**
   * The message, from the operation `from` on, with the state of the head as its last operation if one is given: where
   * the rest is all or nothing, the state is part of it.
   */
  message(options: { readonly atomic: boolean; readonly record?: HeadRecord; readonly from?: number }): Buffer {
    const from = options.from ?? 0;
    if (from > 0) this.#keepFrom(from);
    // The operations stay as they are: the same batch may be sent again by another road.
    const [operationsEnd, count] = [this.#end, this.#count];
    if (options.record) {
      const state = stateOperation(options.record);
      this.#reserve(state.length + OVERHEAD);
      this.#beginElement(false);
      this.#end += state.copy(this.#buffer, this.#end);
    }
    const tail = Buffer.concat([
      Buffer.from([0]),
      booleanElement('allowAtomic', options.atomic),
      booleanElement('alwaysUpsert', false),
      booleanElement('bypassDocumentValidation', true),
      stringElement('$db', 'admin'),
      Buffer.from([0]),
    ]);
    this.#reserve(tail.length);
    this.#buffer.writeInt32LE(this.#end + 1 - ARRAY_OFFSET, ARRAY_OFFSET);
    const end = this.#end + tail.copy(this.#buffer, this.#end);
    this.#buffer.writeInt32LE(end - BODY_OFFSET, BODY_OFFSET);
    this.#end = operationsEnd;
    this.#count = count;
    return this.#buffer.subarray(0, end);
  }

  clear(): void {
    this.#ops = [];
    this.#isSealed = false;
    this.#isApart = false;
    this.#pushesOut = false;
    this.#begin();
  }

  #begin(): void {
    this.#count = 0;
    this.#differences = 0;
    this.#end = ARRAY_OFFSET + 4;
    ARRAY_NAME.copy(this.#buffer, BODY_OFFSET + 4);
  }

  /** Drops the first operations: their copies are built anew, for an array counts from 0. */
  #keepFrom(from: number): void {
    const ops = this.#ops.slice(from);
    this.clear();
    for (const op of ops) this.add(op);
  }

  /** Writes an element's head. With `nested` the document's length is left open; its offset is given. */
  #beginElement(nested = true): number {
    const target = this.#buffer;
    let at = this.#end;
    target[at] = BsonType.object;
    at += 1;
    at += target.write(String(this.#count), at, 'latin1');
    target[at] = 0;
    at += 1;
    this.#count += 1;
    this.#end = nested ? at + 4 : at;
    return at;
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#end + bytes));
    this.#buffer.copy(larger, 0, 0, this.#end);
    this.#buffer = larger;
  }
}

/** An update that is no replacement: its `o` begins with `$v`, or with an operator in the oldest form. */
function isDifference({ op, buffer, oStart }: OplogEntry): boolean {
  return op === 'u' && buffer[oStart + NAME_OFFSET] === DOLLAR;
}

/** From the begin of a document to the name of its first element. */
const NAME_OFFSET = 5;
const DOLLAR = 0x24;

/** How many bytes an operation takes in a batch, about. */
export function bytesOf({ oStart, oEnd, o2Start, o2End }: OplogEntry): number {
  return oEnd - oStart + (o2End - o2Start) + 2 * OVERHEAD;
}

const ARRAY_NAME = Buffer.from('\x04applyOps\0', 'latin1');
const ARRAY_OFFSET = BODY_OFFSET + 4 + ARRAY_NAME.length;
const O_NAME = Buffer.from('\x03o\0', 'latin1');
const O2_NAME = Buffer.from('\x03o2\0', 'latin1');
const UPSERT = Buffer.from('\x08b\0\x01', 'latin1');

/** `op`, `ns` and `ui` of a target, made once: they are the same for every operation of a kind on a collection. */
const prefixes = new WeakMap<OpTarget, Map<string, Buffer>>();

function prefixOf({ entry, target }: BatchOp): Buffer {
  const known = prefixes.get(target)?.get(entry.op);
  if (known) return known;
  const ns = 'ns' in target ? target.ns : `${target.db}.${target.name}`;
  const parts = [stringElement('op', entry.op), stringElement('ns', ns)];
  if ('uuid' in target) parts.push(uuidElement('ui', Buffer.from(target.uuid, 'hex')));
  const prefix = Buffer.concat(parts);
  const ofTarget = prefixes.get(target) ?? new Map<string, Buffer>();
  prefixes.set(target, ofTarget.set(entry.op, prefix));
  return prefix;
}

function stateOperation(record: HeadRecord): Buffer {
  const o = toStored(record);
  return Buffer.from(BSON.serialize({ op: 'u', ns: STATE_NS, o2: { _id: o._id }, o }));
}

/** A command that applies one command entry. */
export function commandOperation(ns: string, uuid: string, o: Buffer): Buffer {
  const op = document(
    stringElement('op', 'c'),
    stringElement('ns', ns),
    ...(uuid === '' ? [] : [uuidElement('ui', Buffer.from(uuid, 'hex'))]),
    Buffer.concat([O_NAME, o]),
  );
  const array = document(Buffer.concat([Buffer.from('\x030\0', 'latin1'), op]));
  return document(
    Buffer.concat([ARRAY_NAME, array]),
    booleanElement('allowAtomic', false),
    booleanElement('alwaysUpsert', false),
    booleanElement('bypassDocumentValidation', true),
  );
}
