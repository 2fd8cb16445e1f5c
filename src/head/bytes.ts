/** Putting BSON together from pieces of bytes that stay as they are. */
import { BsonType, elements, elementName, type RawElement } from '../bson/raw.ts';

/** One element: its type, name and the bytes of its value. */
export function element(type: number, name: string, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type]), Buffer.from(`${name}\0`), value]);
}

export function stringElement(name: string, value: string): Buffer {
  const text = Buffer.from(`${value}\0`);
  const length = Buffer.alloc(4);
  length.writeInt32LE(text.length);
  return element(BsonType.string, name, Buffer.concat([length, text]));
}

export function booleanElement(name: string, value: boolean): Buffer {
  return element(BsonType.boolean, name, Buffer.from([value ? 1 : 0]));
}

/** `uuid`: its 16 bytes. */
export function uuidElement(name: string, uuid: Buffer): Buffer {
  return element(BsonType.binary, name, Buffer.concat([Buffer.from([16, 0, 0, 0, 4]), uuid]));
}

/** A document of elements. */
export function document(...parts: readonly Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 5);
  const bytes = Buffer.alloc(length);
  bytes.writeInt32LE(length);
  let at = 4;
  for (const part of parts) at += part.copy(bytes, at);
  return bytes;
}

/** An array of documents. */
export function documentArray(documents: readonly Buffer[]): Buffer {
  return document(...documents.map((bytes, index) => element(BsonType.object, String(index), bytes)));
}

/** The bytes of one whole element. */
export function elementBytes(buffer: Buffer, { start, end }: RawElement): Buffer {
  return buffer.subarray(start, end);
}

/** A document's elements without those called one of `names`, in their order. */
export function elementsWithout(buffer: Buffer, names: readonly string[], offset = 0): Buffer[] {
  const kept: Buffer[] = [];
  for (const one of elements(buffer, offset)) {
    if (!names.includes(elementName(buffer, one))) kept.push(elementBytes(buffer, one));
  }
  return kept;
}
