/**
 * Looking into BSON bytes without decoding them.
 *
 * Decoding and encoding in JavaScript changes documents (numeric-looking keys are re-ordered, deprecated types and
 * duplicate keys are lost: research, mongodb-internals §2), so what is copied is only ever looked into. Every function
 * takes a buffer and the offset of a document in it; nothing here copies bytes.
 *
 * The format: bsonspec.org, version 1.1.
 */
import { LifeboatError } from '../shared/errors.ts';

/** BSON element types, by the byte that stands for them. */
export const BsonType = {
  double: 0x01,
  string: 0x02,
  object: 0x03,
  array: 0x04,
  binary: 0x05,
  undefined: 0x06,
  objectId: 0x07,
  boolean: 0x08,
  date: 0x09,
  null: 0x0a,
  regex: 0x0b,
  dbPointer: 0x0c,
  code: 0x0d,
  symbol: 0x0e,
  codeWithScope: 0x0f,
  int32: 0x10,
  timestamp: 0x11,
  int64: 0x12,
  decimal128: 0x13,
  minKey: 0xff,
  maxKey: 0x7f,
} as const;

/** One element of a document, as places in the buffer it was found in. */
export interface RawElement {
  readonly type: number;
  /** Where the element begins: its type byte. */
  readonly start: number;
  /** Where its name begins and ends (the NUL behind it is not part of it). */
  readonly nameStart: number;
  readonly nameEnd: number;
  /** Where its value begins and ends; `end` is also where the next element begins. */
  readonly valueStart: number;
  readonly end: number;
}

function damaged(what: string): LifeboatError {
  return new LifeboatError('Internal', `BSON bytes are not well-formed: ${what}`);
}

/** The length in bytes of the document at `offset`. */
export function documentLength(buffer: Buffer, offset = 0): number {
  if (offset + 5 > buffer.length) throw damaged('a document is cut short');
  const length = buffer.readInt32LE(offset);
  if (length < 5 || offset + length > buffer.length) throw damaged('a document says it is longer than its buffer');
  return length;
}

function cstringEnd(buffer: Buffer, from: number): number {
  const end = buffer.indexOf(0, from);
  if (end < 0) throw damaged('a name has no end');
  return end;
}

/** Where the value of that type at `at` ends. */
export function valueEnd(buffer: Buffer, type: number, at: number): number {
  switch (type) {
    case BsonType.double:
    case BsonType.date:
    case BsonType.timestamp:
    case BsonType.int64:
      return at + 8;
    case BsonType.string:
    case BsonType.code:
    case BsonType.symbol:
      return at + 4 + buffer.readInt32LE(at);
    case BsonType.object:
    case BsonType.array:
    case BsonType.codeWithScope:
      return at + buffer.readInt32LE(at);
    case BsonType.binary:
      return at + 5 + buffer.readInt32LE(at);
    case BsonType.undefined:
    case BsonType.null:
    case BsonType.minKey:
    case BsonType.maxKey:
      return at;
    case BsonType.objectId:
      return at + 12;
    case BsonType.boolean:
      return at + 1;
    case BsonType.regex:
      return cstringEnd(buffer, cstringEnd(buffer, at) + 1) + 1;
    case BsonType.dbPointer:
      return at + 4 + buffer.readInt32LE(at) + 12;
    case BsonType.int32:
      return at + 4;
    case BsonType.decimal128:
      return at + 16;
    default:
      throw damaged(`unknown element type 0x${type.toString(16)}`);
  }
}

/** The elements of the document at `offset`, in their order, one level deep. */
export function* elements(buffer: Buffer, offset = 0): Generator<RawElement, void, void> {
  const last = offset + documentLength(buffer, offset) - 1;
  let at = offset + 4;
  while (at < last) {
    const type = buffer[at] ?? 0;
    const nameEnd = cstringEnd(buffer, at + 1);
    const end = valueEnd(buffer, type, nameEnd + 1);
    if (end > last) throw damaged('an element reaches beyond its document');
    yield { type, start: at, nameStart: at + 1, nameEnd, valueStart: nameEnd + 1, end };
    at = end;
  }
}

/** The name of an element. */
export function elementName(buffer: Buffer, element: RawElement): string {
  return buffer.toString('utf8', element.nameStart, element.nameEnd);
}

/** The first element called `name` of the document at `offset`, or undefined. */
export function findElement(buffer: Buffer, name: string, offset = 0): RawElement | undefined {
  for (const element of elements(buffer, offset)) {
    if (element.nameEnd - element.nameStart === name.length && elementName(buffer, element) === name) return element;
  }
  return undefined;
}

/** The bytes of an element's value; a view, not a copy. */
export function valueBytes(buffer: Buffer, element: RawElement): Buffer {
  return buffer.subarray(element.valueStart, element.end);
}

/** The text of an element of type string. */
export function stringValue(buffer: Buffer, element: RawElement): string {
  if (element.type !== BsonType.string) throw damaged('a string was expected');
  return buffer.toString('utf8', element.valueStart + 4, element.end - 1);
}

/** The documents of a run, one behind the other; views of its bytes, no copies. */
export function* documentsIn(bytes: Buffer): Generator<Buffer, void, void> {
  for (let at = 0; at < bytes.length;) {
    const end = at + documentLength(bytes, at);
    yield bytes.subarray(at, end);
    at = end;
  }
}
