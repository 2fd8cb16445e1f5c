/** Whether a server stores a document as it is given. */
import { BsonType, documentLength, elementName, elements, findElement, type RawElement } from '../bson/raw.ts';
import { document, element, elementBytes } from './bytes.ts';
import type { OplogEntry } from './entry.ts';

/** CannotGrowDocumentInCappedNamespace. */
export const OTHER_SIZE = 10003;

/** `_id` and a NUL, as the number they make. */
const ID_NAME = Buffer.from('_id\0', 'latin1').readUInt32LE(0);
const ZERO = Buffer.alloc(8);

/**
 * True when an `insert`, or an `applyOps` that is all or nothing, stores the document at `offset` as it is. Both move
 * `_id` to the front and put the time of day in place of a Timestamp(0,0) at the top (insert.cpp, fixDocumentForInsert;
 * tried on 6.0.5). An `applyOps` that is not all or nothing leaves every byte.
 */
export function isStoredAsGiven(buffer: Buffer, offset: number): boolean {
  // Behind the length and the type of the first element stands its name.
  return (
    documentLength(buffer, offset) > 8 &&
    buffer.readUInt32LE(offset + 5) === ID_NAME &&
    !hasZeroTimestamp(buffer, offset)
  );
}

/**
 * An insert as an `applyOps` that is all or nothing stores it: with `_id` in front. What is no such insert stays as it is.
 */
export function withIdFirst(entry: OplogEntry): OplogEntry {
  const { op, buffer, oStart } = entry;
  if (op !== 'i' || buffer.readUInt32LE(oStart + 5) === ID_NAME) return entry;
  const id = findElement(buffer, '_id', oStart);
  if (!id) return entry;
  const others = [...elements(buffer, oStart)].filter(({ start }) => start !== id.start);
  const o = document(...[id, ...others].map((one) => elementBytes(buffer, one)));
  return { ...entry, buffer: o, oStart: 0, oEnd: o.length, o2Start: 0, o2End: 0 };
}

/** Whether a field at the top of a document is a Timestamp(0,0). */
export function hasZeroTimestamp(buffer: Buffer, offset: number): boolean {
  // Much faster than looking at each field, and nearly always the answer.
  if (!buffer.subarray(offset, offset + documentLength(buffer, offset)).includes(ZERO)) return false;
  return !zeroTimestamps(buffer, offset).next().done;
}

function* zeroTimestamps(buffer: Buffer, offset: number): Generator<RawElement> {
  for (const one of elements(buffer, offset)) {
    if (one.type === BsonType.timestamp && buffer.subarray(one.valueStart, one.end).equals(ZERO)) yield one;
  }
}

/**
 * The update by difference that puts each Timestamp(0,0) back which a server has taken from the replacement `entry`
 * (zeros.ts). The field keeps its place. Undefined when a difference cannot name such a field alone:
 * a name that stands there twice, and, where a difference has paths (up to the features of 4.4), one that is no name of a path.
 * @param asDelta whether the head takes differences as `$v: 2`
 */
export function zerosAgain(entry: OplogEntry, asDelta: boolean): OplogEntry | undefined {
  const { buffer, oStart, o2Start, o2End } = entry;
  const zeros = [...zeroTimestamps(buffer, oStart)];
  const names = [...elements(buffer, oStart)].map((one) => elementName(buffer, one));
  for (const one of zeros) {
    const name = elementName(buffer, one);
    if (names.indexOf(name) !== names.lastIndexOf(name)) return undefined;
    if (!asDelta && isNoPlainName(name)) return undefined;
  }
  const fields = document(...zeros.map((one) => elementBytes(buffer, one)));
  const [version, change] = asDelta
    ? [VERSION_2, element(BsonType.object, 'diff', document(element(BsonType.object, 'u', fields)))]
    : [VERSION_1, element(BsonType.object, '$set', fields)];
  const o = document(element(BsonType.int32, '$v', version), change);
  const both = Buffer.concat([o, buffer.subarray(o2Start, o2End)]);
  const at = { oStart: 0, oEnd: o.length, o2Start: o.length, o2End: both.length };
  return { ...entry, ...at, buffer: both, upsert: false };
}

function isNoPlainName(name: string): boolean {
  return name === '' || name.includes('.') || name.startsWith('$');
}

const VERSION_1 = Buffer.from([1, 0, 0, 0]);
const VERSION_2 = Buffer.from([2, 0, 0, 0]);

/**
 * What a server answers to a document that cannot take the place of the one that is there: one whose `_id` a collation
 * does not tell from it (ImmutableField, 13596; tried on 4.4.2, 5.0.32, 6.0.5), or one of another size in a capped
 * collection (10003).
 */
const ANOTHER_IN_PLACE: ReadonlySet<number> = new Set([66, 13596, OTHER_SIZE]);

/**
 * What a server answers to a document of the same `_id` in a clustered collection, when it cannot read that `_id` from
 * its own key: a fraction, a number beyond 2^63, NaN, most decimals, also inside a document; a text with a NUL (15, tried on
 * 6.0.5; the others on 6.0.27 as well). key_string.cpp, "KeyString format error".
 */
const KEY_NOT_READ: ReadonlySet<number> = new Set([
  ...Array.from({ length: 30 }, (_, n) => 50_810 + n),
  ...[15, 31_231, 50_846, 50_850],
]);

/** Whether a document was refused for one that is in its place. Such meet only while data of different times is brought together. */
export function isRefusedInPlace(code: number): boolean {
  return ANOTHER_IN_PLACE.has(code) || KEY_NOT_READ.has(code);
}

/**
 * The insert `entry` behind a delete of the document that has its `_id`, or one that a collation takes for it: what takes
 * the place of another is changed as by `insert`, what is new is not.
 */
export function anew(entry: OplogEntry): OplogEntry[] {
  const id = findElement(entry.buffer, '_id', entry.oStart);
  if (!id) return [entry];
  const buffer = document(elementBytes(entry.buffer, id));
  return [{ ...entry, op: 'd', buffer, oStart: 0, oEnd: buffer.length, o2Start: 0, o2End: 0, upsert: false }, entry];
}
