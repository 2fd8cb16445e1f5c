/** Canonical Extended JSON from raw BSON: what the library writes of ordinary documents, and by hand what it would lose. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Binary, deserialize, EJSON, serialize, UUID, type Document } from 'bson';
import { canonicalJson, NotExtendedJson } from '../src/bson/extended-json.ts';
import { nested } from './support/odd-documents.ts';
import { Random, testSeed } from './support/random.ts';
import { double, int32, int64, rawDocument, text, type RawField } from './support/raw-wire.ts';
import { everyType, item } from './support/workload-data.ts';

/** What the library makes of the same bytes. */
function byTheLibrary(document: Buffer): string {
  return EJSON.stringify(deserialize(document, { promoteValues: false, bsonRegExp: true }), { relaxed: false });
}

function raw(document: Document): Buffer {
  return Buffer.from(serialize(document));
}

function binary(subtype: number, bytes: Buffer): Buffer {
  return Buffer.concat([int32(bytes.length), Buffer.of(subtype), bytes]);
}

function withLength(bytes: Buffer): Buffer {
  return Buffer.concat([int32(bytes.length + 4), bytes]);
}

const OBJECT_ID = Buffer.from('0123456789abcdef01234567', 'hex');

test('ordinary documents read as the library tells them', (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  for (let n = 0; n < 300; n += 1) {
    const document = raw(item(random, n));
    assert.equal(canonicalJson(document), byTheLibrary(document));
  }
  for (let n = 0; n < 300; n += 1) {
    const value = random.bytes(8).readDoubleLE();
    const document = rawDocument([
      [0x01, 'double', double(value)],
      [0x01, 'whole', double(Math.round(value))],
      [0x01, 'small', double(random.below(100_000) / 100)],
      [0x12, 'long', random.bytes(8)],
      [0x09, 'date', int64(BigInt(random.next() - 2 ** 31) * 1_000_003n)],
      [0x10, 'int', random.bytes(4)],
      [0x07, 'id', random.bytes(12)],
      [0x05, 'binary', binary(random.pick([0, 1, 3, 5, 0x80, 0xff]), random.bytes(random.below(50)))],
    ]);
    assert.equal(canonicalJson(document), byTheLibrary(document));
  }
});

/**
 * What the library tells otherwise or not at all: it reorders keys, loses dates that no Date holds, replaces what is not
 * UTF-8, and has other objects for what begins as a DBRef.
 */
const OTHERWISE = new Set(['object', 'farDate', 'notUtf8', 'likeDbRef', 'undefined', 'dbPointer']);

test('a value of every type reads as the library tells it', () => {
  const told = everyType().filter(([, name]) => !OTHERWISE.has(name));
  assert.equal(new Set(told.map(([type]) => type)).size, 18);
  const document = rawDocument(told);
  assert.equal(canonicalJson(document), byTheLibrary(document));
});

/** Each of these is written out by hand: a value, and its canonical form in the specification. */
const BY_HAND: readonly (readonly [name: string, type: number, value: Buffer, json: string])[] = [
  ['whole double', 0x01, double(2), '{"$numberDouble":"2.0"}'],
  ['minus zero', 0x01, double(-0), '{"$numberDouble":"-0.0"}'],
  ['largest double', 0x01, double(Number.MAX_VALUE), '{"$numberDouble":"1.7976931348623157e+308"}'],
  ['least double', 0x01, double(Number.MIN_VALUE), '{"$numberDouble":"5e-324"}'],
  ['NaN', 0x01, double(NaN), '{"$numberDouble":"NaN"}'],
  ['NaN with a payload', 0x01, Buffer.from('efbeadde0000f8ff', 'hex'), '{"$numberDouble":"NaN"}'],
  ['infinity', 0x01, double(Infinity), '{"$numberDouble":"Infinity"}'],
  ['minus infinity', 0x01, double(-Infinity), '{"$numberDouble":"-Infinity"}'],
  ['string', 0x02, text('a\0b"\\\n\u2028é\u{1F6A3}\uFEFF\uFFFD'), '"a\\u0000b\\"\\\\\\n\u2028é\u{1F6A3}\uFEFF\uFFFD"'],
  ['string that begins with a byte order mark', 0x02, text('\uFEFFx'), '"\uFEFFx"'],
  ['empty document', 0x03, rawDocument([]), '{}'],
  ['empty array', 0x04, rawDocument([]), '[]'],
  [
    'array with other names than numbers',
    0x04,
    rawDocument([
      [0x10, '7', int32(1)],
      [0x0a, 'x', Buffer.alloc(0)],
      [0x03, '', rawDocument([[0x08, 'b', Buffer.of(0)]])],
    ]),
    '[{"$numberInt":"1"},null,{"b":false}]',
  ],
  ['empty binary', 0x05, binary(0, Buffer.alloc(0)), '{"$binary":{"base64":"","subType":"00"}}'],
  ['UUID', 0x05, binary(4, Buffer.alloc(16, 0xab)), '{"$binary":{"base64":"q6urq6urq6urq6urq6urqw==","subType":"04"}}'],
  [
    'old binary',
    0x05,
    binary(2, Buffer.concat([int32(2), Buffer.of(255, 255)])),
    '{"$binary":{"base64":"//8=","subType":"02"}}',
  ],
  ['binary of the user', 0x05, binary(0x80, Buffer.of(1)), '{"$binary":{"base64":"AQ==","subType":"80"}}'],
  ['undefined', 0x06, Buffer.alloc(0), '{"$undefined":true}'],
  ['ObjectId', 0x07, OBJECT_ID, '{"$oid":"0123456789abcdef01234567"}'],
  ['odd boolean', 0x08, Buffer.of(3), 'true'],
  ['false', 0x08, Buffer.of(0), 'false'],
  ['earliest date', 0x09, int64(-(2n ** 63n)), '{"$date":{"$numberLong":"-9223372036854775808"}}'],
  ['far date', 0x09, int64(2n ** 62n + 1n), '{"$date":{"$numberLong":"4611686018427387905"}}'],
  ['null', 0x0a, Buffer.alloc(0), 'null'],
  ['regex', 0x0b, Buffer.from('^a"\0xsmi\0'), '{"$regularExpression":{"pattern":"^a\\"","options":"imsx"}}'],
  ['regex of nothing', 0x0b, Buffer.from('\0\0'), '{"$regularExpression":{"pattern":"","options":""}}'],
  [
    'DBPointer',
    0x0c,
    Buffer.concat([text('a.b'), OBJECT_ID]),
    '{"$dbPointer":{"$ref":"a.b","$id":{"$oid":"0123456789abcdef01234567"}}}',
  ],
  ['code', 0x0d, text('f("")'), '{"$code":"f(\\"\\")"}'],
  ['symbol', 0x0e, text('s'), '{"$symbol":"s"}'],
  [
    'code with scope',
    0x0f,
    withLength(
      Buffer.concat([
        text('f'),
        rawDocument([
          [0x10, '1', int32(1)],
          [0x10, '0', int32(2)],
        ]),
      ]),
    ),
    '{"$code":"f","$scope":{"1":{"$numberInt":"1"},"0":{"$numberInt":"2"}}}',
  ],
  ['int32', 0x10, int32(-(2 ** 31)), '{"$numberInt":"-2147483648"}'],
  ['latest timestamp', 0x11, int64(-1n), '{"$timestamp":{"t":4294967295,"i":4294967295}}'],
  ['timestamp', 0x11, Buffer.concat([int32(5), int32(7)]), '{"$timestamp":{"t":7,"i":5}}'],
  ['int64', 0x12, int64(2n ** 53n + 1n), '{"$numberLong":"9007199254740993"}'],
  ['Decimal128', 0x13, Buffer.from('0a000000000000000000000000003c30', 'hex'), '{"$numberDecimal":"0.10"}'],
  ['decimal minus zero', 0x13, Buffer.from('000000000000000000000000000040b0', 'hex'), '{"$numberDecimal":"-0"}'],
  ['decimal NaN', 0x13, Buffer.from('0123456789abcdef000000000000007c', 'hex'), '{"$numberDecimal":"NaN"}'],
  ['decimal -Infinity', 0x13, Buffer.from('000000000000000000000000000000f8', 'hex'), '{"$numberDecimal":"-Infinity"}'],
  ['MinKey', 0xff, Buffer.alloc(0), '{"$minKey":1}'],
  ['MaxKey', 0x7f, Buffer.alloc(0), '{"$maxKey":1}'],
];

for (const [name, type, value, json] of BY_HAND) {
  test(`${name} is ${json}`, () => {
    assert.equal(canonicalJson(rawDocument([[type, 'v', value]])), `{"v":${json}}`);
  });
}

test('names keep their order and their repetition, whatever they look like', () => {
  const index = rawDocument([
    [0x10, '10', int32(1)],
    [0x10, '2', int32(1)],
    [0x10, 'a', int32(1)],
    [0x10, '1', int32(-1)],
  ]);
  const one = '{"$numberInt":"1"}';
  assert.equal(canonicalJson(index), `{"10":${one},"2":${one},"a":${one},"1":{"$numberInt":"-1"}}`);
  const odd = [
    'twice',
    '',
    '__proto__',
    'twice',
    'é"',
    '$set',
    'a.b',
    'toString',
    '$ref',
    '$regex',
    '$options',
    '$type',
  ];
  const document = rawDocument(odd.map((name): RawField => [0x0a, name, Buffer.alloc(0)]));
  assert.equal(canonicalJson(document), `{${odd.map((name) => `${JSON.stringify(name)}:null`).join(',')}}`);
});

test('a document anywhere in a buffer, and documents in one another', () => {
  const inner = rawDocument([[0x10, 'x', int32(1)]]);
  const buffer = Buffer.concat([Buffer.alloc(7), inner, Buffer.alloc(3)]);
  assert.equal(canonicalJson(buffer, 7), '{"x":{"$numberInt":"1"}}');
  const deep = canonicalJson(nested(180, inner));
  assert.equal(deep.match(/[{[]/g)?.length, 181);
  assert.ok(deep.includes('{"x":{"$numberInt":"1"}}'));
});

test('what is told can be read again, but for what has no words', () => {
  const uuid = new UUID('0123456789abcdef0123456789abcdef');
  const document = raw({
    uuid,
    old: new Binary(Buffer.from('xyz'), 2),
    list: [1.5, 'two', { three: 3n }],
    when: new Date(0),
  });
  const read: unknown = EJSON.parse(canonicalJson(document), { relaxed: false });
  assert.deepEqual(raw(read as Document), document);
});

test('a field that is called as a type is refused: who reads it would take its document for a value', () => {
  const typeNames = [
    ...new Set(BY_HAND.map(([, , , json]) => /^\{"(\$\w+)"/.exec(json)?.[1]).filter((name) => name !== undefined)),
  ];
  assert.equal(typeNames.length, 15);
  for (const name of [...typeNames, '$scope', '$uuid']) {
    const document = rawDocument([
      [
        0x03,
        'a',
        rawDocument([
          [0x10, 'x', int32(1)],
          [0x02, name, text('secret')],
        ]),
      ],
    ]);
    assert.throws(
      () => canonicalJson(document),
      (error) => error instanceof NotExtendedJson && error.message.includes(name) && !error.message.includes('secret'),
      name,
    );
  }
});

test('a text that is not UTF-8 is refused, wherever it stands', () => {
  const bad = Buffer.from([0x73, 0xc3, 0x28]);
  const cases: readonly (readonly [string, Buffer])[] = [
    ['string', rawDocument([[0x02, 'v', text(bad)]])],
    ['surrogate', rawDocument([[0x02, 'v', text(Buffer.from([0xed, 0xa0, 0x80]))]])],
    ['overlong', rawDocument([[0x02, 'v', text(Buffer.from([0xc0, 0x80]))]])],
    ['code', rawDocument([[0x0d, 'v', text(bad)]])],
    ['symbol', rawDocument([[0x0e, 'v', text(bad)]])],
    ['code with scope', rawDocument([[0x0f, 'v', withLength(Buffer.concat([text(bad), rawDocument([])]))]])],
    ['pattern', rawDocument([[0x0b, 'v', Buffer.concat([bad, Buffer.of(0, 0)])]])],
    ['flags', rawDocument([[0x0b, 'v', Buffer.concat([Buffer.of(0), bad, Buffer.of(0)])]])],
    ['DBPointer', rawDocument([[0x0c, 'v', Buffer.concat([text(bad), OBJECT_ID])]])],
    ['name', rawDocument([Buffer.concat([Buffer.of(0x0a), bad, Buffer.of(0)])])],
  ];
  for (const [name, document] of cases) assert.throws(() => canonicalJson(document), NotExtendedJson, name);
});

test('an old binary whose two lengths differ is refused', () => {
  for (const bytes of [Buffer.of(1, 2, 3), Buffer.concat([int32(2), Buffer.of(1, 2, 3)])]) {
    assert.throws(() => canonicalJson(rawDocument([[0x05, 'v', binary(2, bytes)]])), NotExtendedJson);
  }
});

test('bytes that are no document are refused', () => {
  const document = rawDocument([[0x02, 'v', text('some text')]]);
  for (const broken of [
    document.subarray(0, 4),
    document.subarray(0, -1),
    rawDocument([[0x20, 'v', Buffer.alloc(0)]]),
  ]) {
    assert.throws(() => canonicalJson(broken), /not well-formed/);
  }
});
