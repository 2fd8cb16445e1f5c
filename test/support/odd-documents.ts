/**
 * Documents that JavaScript would change, beyond those that every workload begins with (workload-data.ts): values, keys and
 * shapes that a server stores and a decoder has a mind of its own about.
 */
import { int32, int64, rawDocument, text, type RawField } from './raw-wire.ts';
import { everyType, NO_ID } from './workload-data.ts';

/** How deep a document may be nested (bson_depth.h: 200, less 20 that the server keeps for itself). */
export const DEEPEST = 180;

const LATIN1_KEY = Buffer.concat([Buffer.of(0x10), Buffer.from([0xe9, 0xff, 0xc3, 0x28, 0]), int32(1)]);

function binaryOf(subtype: number, bytes: Buffer): Buffer {
  return Buffer.concat([int32(bytes.length), Buffer.of(subtype), bytes]);
}

/** A document of `levels` documents in one another. */
export function nested(levels: number, innermost: Buffer = rawDocument([])): Buffer {
  let inner = innermost;
  for (let level = 1; level < levels; level++)
    inner = rawDocument([[level % 2 ? 0x03 : 0x04, level % 2 ? 'd' : '0', inner]]);
  return inner;
}

/** Values that are one thing in memory and several in bytes, or that no decoder agrees with another about. */
export function oddValues(): RawField[] {
  return [
    ...everyType(),
    [0x01, 'nanPayload', Buffer.from('efbeadde0000f8ff', 'hex')],
    [0x01, 'signallingNan', Buffer.from('010000000000f07f', 'hex')],
    [0x01, 'denormal', Buffer.from('0100000000000000', 'hex')],
    [0x13, 'decimalNanPayload', Buffer.from('0123456789abcdef000000000000007c', 'hex')],
    [0x13, 'decimalSignallingNan', Buffer.from('0000000000000000000000000000007e', 'hex')],
    [0x13, 'decimalInfinityPayload', Buffer.from('ffffffffffffffff00000000000000f8', 'hex')],
    [0x13, 'decimalTooLarge', Buffer.from('ffffffffffffffffffffffffffff3130', 'hex')],
    [0x13, 'decimalOtherForm', Buffer.from('01000000000000000000000000000c6c', 'hex')],
    [0x13, 'decimalMinusZero', Buffer.from('000000000000000000000000000040b0', 'hex')],
    [0x13, 'decimalTrailingZeros', Buffer.from('10270000000000000000000000003830', 'hex')],
    [0x09, 'earliestDate', int64(-(2n ** 63n))],
    [0x09, 'dateBeyondDoubles', int64(2n ** 53n + 1n)],
    [0x12, 'leastInt64', int64(-(2n ** 63n))],
    [0x11, 'latestTimestamp', int64(-1n)],
    [0x02, 'loneSurrogate', text(Buffer.from([0xed, 0xa0, 0x80]))],
    [0x02, 'overlong', text(Buffer.from([0xc0, 0x80]))],
    [0x02, 'byteOrderMark', text('\uFEFFtext')],
    [0x0b, 'regexOddOptions', Buffer.from('^a[\0xsmi\0')],
    [0x0b, 'regexNoOptions', Buffer.from('\0\0')],
    [0x0d, 'codeNotUtf8', text(Buffer.from([0xff, 0x28]))],
    [0x0e, 'symbolNotUtf8', text(Buffer.from([0xff, 0x00, 0x28]))],
    [0x05, 'emptyBinary', binaryOf(0, Buffer.alloc(0))],
    [0x05, 'function', binaryOf(1, Buffer.of(1))],
    [0x05, 'md5', binaryOf(5, Buffer.alloc(16, 5))],
    [0x05, 'shortUuid', binaryOf(4, Buffer.of(1, 2, 3))],
    [0x05, 'userDefined', binaryOf(0x80, Buffer.of(1, 0, 1))],
    [0x05, 'lastSubtype', binaryOf(0xff, Buffer.of(9))],
    [
      0x0f,
      'codeWithOddScope',
      withLength(
        Buffer.concat([
          text('f'),
          rawDocument([
            [0x10, '1', int32(1)],
            [0x10, '0', int32(2)],
            [0x06, 'u', Buffer.alloc(0)],
          ]),
        ]),
      ),
    ],
  ];
}

/** Keys that an object of JavaScript orders, drops or takes for something else. None stands twice. */
export function oddKeys(): (RawField | Buffer)[] {
  return [
    ...['10', '9', '', ' ', '-1', '01', '1e3', '4294967295', '__proto__', 'constructor', 'toString', 'then'].map(
      (name, n): RawField => [0x10, name, int32(n)],
    ),
    [0x10, 'é\u0301 \u{1F6A3}', int32(1)],
    LATIN1_KEY,
  ];
}

/** Keys that updates may not name, but documents may have. */
function keysOfUpdates(): RawField[] {
  return [
    [0x10, '$set', int32(1)],
    [0x10, 'a.b', int32(2)],
    [0x10, '.', int32(3)],
    [0x10, 'a.', int32(4)],
    [0x10, '$', int32(5)],
    [
      0x03,
      'ref',
      rawDocument([
        [0x10, '$id', int32(1)],
        [0x02, '$ref', text('x')],
        [0x10, '$other', int32(1)],
      ]),
    ],
  ];
}

/** The same key again and again, as values of other types. */
function repeatedKeys(): RawField[] {
  return [
    [0x10, 'twice', int32(1)],
    [0x02, 'twice', text('again')],
    [0x10, 'thrice', int32(1)],
    [
      0x03,
      'thrice',
      rawDocument([
        [0x10, 'x', int32(1)],
        [0x10, 'x', int32(2)],
      ]),
    ],
    [0x10, 'twice', int32(1)],
  ];
}

/** One more odd document's own fields, by what is odd; without an `_id`, and as an update could set them. */
export function oddShapes(): ReadonlyMap<string, readonly (RawField | Buffer)[]> {
  return new Map<string, readonly (RawField | Buffer)[]>([
    ['values', oddValues()],
    ['keys', oddKeys()],
    ['keysOfUpdates', keysOfUpdates()],
    ['repeatedKeys', repeatedKeys()],
    ['zeroTimestampInside', [[0x03, 'inside', rawDocument([[0x11, 'zero', int64(0n)]])]]],
    ['deep', [[0x03, 'deep', nested(100, rawDocument(oddValues()))]]],
    ['deepest', [[0x03, 'deep', nested(DEEPEST - 1)]]],
    ['wide', Array.from({ length: 2_000 }, (_, n): RawField => [0x10, String(2_000 - n), int32(n)])],
    ['nothing', []],
  ]);
}

/** Values that are the same to an index, NaN and 0, however they are written. */
const SAME = [
  ['nan', 'nanPayload', 'signallingNan', 'decimalNanPayload', 'decimalSignallingNan'],
  ['minusZero', 'decimalMinusZero', 'decimalTooLarge', 'decimalOtherForm'],
];

/** An `_id` of every type and form that a server takes, in groups without two that are the same to an index. */
export function oddIds(): RawField[][] {
  const groups: RawField[][] = [];
  for (const [type, name, value] of oddValues()) {
    if (NO_ID.has(name) || name === 'int32' || type === 0x0b) continue;
    const group = Math.max(0, ...SAME.map((names) => names.indexOf(name)));
    (groups[group] ??= []).push([type, '_id', value]);
  }
  return groups;
}

function withLength(bytes: Buffer): Buffer {
  return Buffer.concat([int32(bytes.length + 4), bytes]);
}
