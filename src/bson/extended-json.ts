/**
 * Canonical Extended JSON (v2) from raw BSON, for definitions that a tool of MongoDB is to read: the options of a
 * collection, the spec of an index.
 *
 * Not by way of the library's objects: these put numeric-looking keys first and drop all but the last of those that come
 * twice, and an index on `{"10": 1, "2": 1}` would become another one. Names, their order and their repetition stay as they
 * are.
 *
 * What the notation has no words for is refused, but for what no server tells apart in a definition. That is lost: the
 * payload of a NaN, the forms of a Decimal128 that are not canonical, names of array elements other than their numbers, the
 * order of a regular expression's flags.
 *
 * The format: specifications/source/extended-json of MongoDB. The texts are those of `mongodump` (mongo-go-driver,
 * bson/bsonrw/extjson_writer.go), which escapes a few characters more.
 */
import { Decimal128 } from 'bson';
import { BsonType, elements, valueBytes, type RawElement } from './raw.ts';

/** Why a document cannot be told in Extended JSON; it quotes nothing of the document. */
export class NotExtendedJson extends Error {
  override readonly name = 'NotExtendedJson';
}

/**
 * Names that make their document a value of another type where it is read. `$ref` and `$regex` are none of them: readers of
 * canonical Extended JSON leave those documents as they are.
 */
const TYPE_NAMES: ReadonlySet<string> = new Set([
  '$binary',
  '$code',
  '$date',
  '$dbPointer',
  '$maxKey',
  '$minKey',
  '$numberDecimal',
  '$numberDouble',
  '$numberInt',
  '$numberLong',
  '$oid',
  '$regularExpression',
  '$scope',
  '$symbol',
  '$timestamp',
  '$undefined',
  '$uuid',
]);

/** The subtype of binaries that hold their length a second time. */
const OLD_BINARY = 2;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The document at `offset` as canonical Extended JSON.
 * @throws NotExtendedJson when a text is not UTF-8, or a name would be read as that of a type
 * @throws LifeboatError `Internal` when the bytes are not well-formed
 */
export function canonicalJson(buffer: Buffer, offset = 0): string {
  const members: string[] = [];
  for (const element of elements(buffer, offset)) {
    const name = utf8(buffer, element.nameStart, element.nameEnd);
    if (TYPE_NAMES.has(name)) throw new NotExtendedJson(`a field is called ${name}, which stands for a type`);
    members.push(`${JSON.stringify(name)}:${valueJson(buffer, element)}`);
  }
  return `{${members.join(',')}}`;
}

function valueJson(buffer: Buffer, element: RawElement): string {
  const { type, valueStart: at, end } = element;
  switch (type) {
    case BsonType.double:
      return wrapped('numberDouble', doubleText(buffer.readDoubleLE(at)));
    case BsonType.string:
      return textJson(buffer, at);
    case BsonType.object:
      return canonicalJson(buffer, at);
    case BsonType.array:
      return `[${[...elements(buffer, at)].map((one) => valueJson(buffer, one)).join(',')}]`;
    case BsonType.binary:
      return binaryJson(valueBytes(buffer, element));
    case BsonType.undefined:
      return '{"$undefined":true}';
    case BsonType.objectId:
      return objectIdJson(buffer, at);
    case BsonType.boolean:
      return buffer[at] === 0 ? 'false' : 'true';
    case BsonType.date:
      return `{"$date":${wrapped('numberLong', buffer.readBigInt64LE(at).toString())}}`;
    case BsonType.null:
      return 'null';
    case BsonType.regex:
      return regexJson(buffer, element);
    case BsonType.dbPointer:
      return `{"$dbPointer":{"$ref":${textJson(buffer, at)},"$id":${objectIdJson(buffer, end - 12)}}}`;
    case BsonType.code:
      return `{"$code":${textJson(buffer, at)}}`;
    case BsonType.symbol:
      return `{"$symbol":${textJson(buffer, at)}}`;
    case BsonType.codeWithScope: {
      const scope = at + 8 + buffer.readInt32LE(at + 4);
      return `{"$code":${textJson(buffer, at + 4)},"$scope":${canonicalJson(buffer, scope)}}`;
    }
    case BsonType.int32:
      return wrapped('numberInt', buffer.readInt32LE(at).toString());
    case BsonType.timestamp:
      return `{"$timestamp":{"t":${buffer.readUInt32LE(at + 4)},"i":${buffer.readUInt32LE(at)}}}`;
    case BsonType.int64:
      return wrapped('numberLong', buffer.readBigInt64LE(at).toString());
    case BsonType.decimal128:
      return wrapped('numberDecimal', new Decimal128(buffer.subarray(at, end)).toString());
    case BsonType.minKey:
      return '{"$minKey":1}';
    case BsonType.maxKey:
      return '{"$maxKey":1}';
    default:
      // `elements` has refused every other type.
      throw new NotExtendedJson(`a value is of the unknown type ${type}`);
  }
}

function wrapped(type: string, text: string): string {
  return `{"$${type}":"${text}"}`;
}

/** The shortest text that is read as the same number; whole ones with one decimal, so that it shows they are no integers. */
function doubleText(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  return Number.isInteger(value) ? value.toFixed(1) : value.toString();
}

/** Of a value of type string, code or symbol, or the first part of a DBPointer. */
function textJson(buffer: Buffer, at: number): string {
  return JSON.stringify(utf8(buffer, at + 4, at + 4 + buffer.readInt32LE(at) - 1));
}

function objectIdJson(buffer: Buffer, at: number): string {
  return wrapped('oid', buffer.toString('hex', at, at + 12));
}

/** @param value its length, its subtype and its bytes */
function binaryJson(value: Buffer): string {
  const subtype = value.readUInt8(4);
  let bytes = value.subarray(5);
  if (subtype === OLD_BINARY) {
    // The inner length is not told but made anew where it is read.
    if (bytes.length < 4 || bytes.readInt32LE(0) !== bytes.length - 4) {
      throw new NotExtendedJson('a binary of subtype 2 holds another length than its own');
    }
    bytes = bytes.subarray(4);
  }
  const hex = subtype.toString(16).padStart(2, '0');
  return `{"$binary":{"base64":"${bytes.toString('base64')}","subType":"${hex}"}}`;
}

function regexJson(buffer: Buffer, { valueStart, end }: RawElement): string {
  const patternEnd = buffer.indexOf(0, valueStart);
  const pattern = JSON.stringify(utf8(buffer, valueStart, patternEnd));
  const flags = Array.from(utf8(buffer, patternEnd + 1, end - 1))
    .sort()
    .join('');
  return `{"$regularExpression":{"pattern":${pattern},"options":${JSON.stringify(flags)}}}`;
}

function utf8(buffer: Buffer, start: number, end: number): string {
  try {
    return UTF8.decode(buffer.subarray(start, end));
  } catch {
    throw new NotExtendedJson('a text in it is not UTF-8');
  }
}
