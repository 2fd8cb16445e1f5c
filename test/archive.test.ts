/** Archives: read back by a reader of the format's description, and by the real mongorestore where there is one. */
import assert from 'node:assert/strict';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import { deserialize, type Document } from 'bson';
import type { Db, MongoClient } from 'mongodb';
import { findPeers, runPeer, type Peer } from '../bench/peers.ts';
import { elementsByName, embedded } from '../src/proof/elements.ts';
import { RawCursor } from '../src/proof/raw-cursor.ts';
import {
  ArchiveWriter,
  NotInArchive,
  type ArchiveContents,
  type ArchivedCollection,
  type Definition,
  type Sink,
} from '../src/restore/archive.ts';
import { Crc64 } from '../src/shared/crc64.ts';
import { LifeboatError } from '../src/shared/errors.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { oddShapes } from './support/odd-documents.ts';
import { Random, testSeed } from './support/random.ts';
import { fields, int32, rawArray, rawDocument, RawWire, text, type RawField } from './support/raw-wire.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { withMongod } from './support/with-mongod.ts';
import { everyType, item } from './support/workload-data.ts';

// A reader, from the description: common/archive/spec.md of mongo-tools.

interface ReadSegment {
  readonly db: string;
  readonly collection: string;
  readonly documents: readonly Buffer[];
}

interface ReadArchive {
  readonly header: Document;
  readonly collections: readonly Document[];
  readonly segments: readonly ReadSegment[];
  /** The documents of each namespace, one behind the other. */
  readonly bytes: ReadonlyMap<string, Buffer>;
  /** How many namespaces were begun and not ended, at most. */
  readonly concurrent: number;
  /** In the order they ended. */
  readonly ended: readonly string[];
}

const ECMA = Array.from({ length: 256 }, (_, byte) => {
  let crc = BigInt(byte);
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1n ? (crc >> 1n) ^ 0xc96c5795d7870f42n : crc >> 1n;
  return crc;
});

/** CRC-64 as simple as can be. */
function crcOf(bytes: Uint8Array): bigint {
  let crc = 0xffff_ffff_ffff_ffffn;
  for (const byte of bytes) crc = (crc >> 8n) ^ ECMA[Number(crc & 0xffn) ^ byte]!;
  return crc ^ 0xffff_ffff_ffff_ffffn;
}

function* documentsOf(run: Buffer): Generator<Buffer> {
  for (let at = 0; at < run.length; at += run.readInt32LE(at)) yield run.subarray(at, at + run.readInt32LE(at));
}

function readArchive(archive: Buffer): ReadArchive {
  let at = 4;
  assert.equal(archive.readUInt32LE(0), 0x8199e26d);
  /** A block: documents up to a terminator. */
  const block = (): Buffer[] => {
    const documents: Buffer[] = [];
    for (;;) {
      const length = archive.readInt32LE(at);
      at += 4;
      if (length === -1) return documents;
      assert.ok(length >= 5 && length <= 16 * 1024 * 1024, `a document of ${length} bytes`);
      documents.push(archive.subarray(at - 4, at - 4 + length));
      at += length - 4;
      assert.equal(archive[at - 1], 0);
    }
  };
  const [header, ...collections] = block().map((document) => deserialize(document, { promoteLongs: false }));
  const segments: ReadSegment[] = [];
  const open = new Map<string, Buffer[]>();
  const bytes = new Map<string, Buffer>();
  let concurrent = 0;
  while (at < archive.length) {
    const [first, ...documents] = block();
    const { db, collection, EOF, CRC, ...more } = deserialize(first!, { useBigInt64: true });
    const namespace = `${db}.${collection}`;
    assert.deepEqual([typeof EOF, typeof CRC, more], ['boolean', 'bigint', {}]);
    assert.ok(!bytes.has(namespace), `${namespace} goes on after its end`);
    const soFar = open.get(namespace) ?? [];
    open.set(namespace, soFar);
    concurrent = Math.max(concurrent, open.size);
    if (EOF) {
      const all = Buffer.concat(soFar);
      assert.equal(documents.length, 0);
      assert.equal(CRC, BigInt.asIntN(64, crcOf(all)), `the checksum of ${namespace}`);
      bytes.set(namespace, all);
      open.delete(namespace);
    } else {
      assert.equal(CRC, 0n);
      soFar.push(...documents);
      segments.push({ db, collection, documents });
    }
  }
  assert.deepEqual([...open.keys()], [], 'every namespace has an end');
  for (const { db, collection, type } of collections) {
    const namespace = `${db}.${type === 'timeseries' ? 'system.buckets.' : ''}${collection}`;
    assert.ok(bytes.has(namespace), `${namespace} is there`);
  }
  assert.equal(bytes.size, collections.length);
  return { header: header!, collections, segments, bytes, concurrent, ended: [...bytes.keys()] };
}

// What is written.

const NOTHING = rawDocument([]);

function defined(db: string, name: string, definition: Partial<Definition> = {}): ArchivedCollection {
  return { db, name, definition: { type: 'collection', options: NOTHING, indexes: [], ...definition } };
}

function contentsOf(collections: readonly ArchivedCollection[], concurrentCollections = 4): ArchiveContents {
  return { concurrentCollections, serverVersion: '6.0.5', toolVersion: 'test', collections };
}

/** A sink that keeps copies. */
function memory(): { readonly sink: Sink; readonly pieces: Buffer[] } {
  const pieces: Buffer[] = [];
  const sink: Sink = (bytes) => {
    pieces.push(Buffer.from(bytes));
    return Promise.resolve();
  };
  return { sink, pieces };
}

function numbered(n: number, filling = ''): Buffer {
  return rawDocument([
    [0x10, '_id', int32(n)],
    [0x02, 'filling', text(filling)],
  ]);
}

/** As long as a server takes one. */
function longestDocument(): Buffer {
  const document = numbered(1, 'y'.repeat(16 * 1024 * 1024 - numbered(1).length));
  assert.equal(document.length, 16 * 1024 * 1024);
  return document;
}

/** Writes all documents of collections one after the other, each in one run. */
async function archiveOf(
  contents: ArchiveContents,
  documents: ReadonlyMap<string, readonly Buffer[]>,
): Promise<Buffer> {
  const { sink, pieces } = memory();
  const writer = await ArchiveWriter.begin(sink, contents);
  for (const { db, name, definition } of contents.collections) {
    if (definition?.type === 'view') continue;
    const collection = writer.open(db, name);
    await collection.write(Buffer.concat(documents.get(`${db}.${name}`) ?? []));
    await collection.end();
  }
  await writer.end();
  return Buffer.concat(pieces);
}

function isMisuse(error: unknown): boolean {
  return error instanceof LifeboatError && error.kind === 'Internal';
}

function crc64(...pieces: readonly Uint8Array[]): bigint {
  const crc = new Crc64();
  for (const piece of pieces) crc.update(piece);
  return crc.value();
}

test('the checksum is that of Go', () => {
  // Of hash/crc64/crc64_test.go, and the check value of the parametrised catalogues.
  const golden: readonly (readonly [string, bigint])[] = [
    ['', 0n],
    ['a', 0x330284772e652b05n],
    ['ab', 0xbc6573200e84b046n],
    ['abc', 0x2cd8094a1a277627n],
    ['Discard medicine more than two years old.', 0x8a0825223ea6d221n],
    ['He who has a shady past knows that nice guys finish last.', 0x8562c0ac2ab9a00dn],
    ['123456789', 0x995dc9bbdf1939fan],
  ];
  for (const [bytes, crc] of golden) assert.equal(crc64(Buffer.from(bytes)), crc, bytes);
});

test('the checksum is the same however the bytes come', (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  for (let n = 0; n < 200; n += 1) {
    // Off the words of memory, too.
    const bytes = random.bytes(300).subarray(random.below(9), random.below(300));
    const cuts = [0, random.below(bytes.length), random.below(bytes.length), bytes.length].sort((a, b) => a - b);
    const pieces = cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end));
    assert.equal(crc64(...pieces), crcOf(bytes));
  }
});

test('a prelude says of each collection what mongodump says', async () => {
  const indexes = [
    rawDocument([
      [0x10, 'v', int32(2)],
      [0x03, 'key', rawDocument([[0x10, '_id', int32(1)]])],
      [0x02, 'name', text('_id_')],
    ]),
    rawDocument([
      [0x10, 'v', int32(2)],
      [
        0x03,
        'key',
        rawDocument([
          [0x10, '10', int32(1)],
          [0x10, '2', int32(-1)],
        ]),
      ],
      [0x02, 'name', text('odd "name"')],
    ]),
  ];
  const options = rawDocument([fields({ capped: true, size: 4096 })]);
  const collections = [
    { db: 'shop', name: '$admin.system.version' },
    defined('shop', 'plain', { options, indexes, uuid: Buffer.from('0123456789abcdef0123456789abcdef', 'hex') }),
    defined('shop', 'äöü'),
    defined('shop', 'seen', { type: 'view', options: rawDocument([fields({ viewOn: 'plain', pipeline: [] })]) }),
    defined('shop', 'measured', {
      type: 'timeseries',
      options: rawDocument([fields({ timeseries: { timeField: 't' } })]),
    }),
    { ...defined('shop', 'large'), bytes: 2 ** 40 },
    { ...defined('shop', 'small'), bytes: 2 ** 20 },
  ];
  const read = readArchive(await archiveOf(contentsOf(collections, 3), new Map()));
  assert.deepEqual(read.header, {
    concurrent_collections: 3,
    version: '0.1',
    server_version: '6.0.5',
    tool_version: 'test',
  });
  assert.deepEqual(
    read.collections.map(({ db, collection, metadata, size, type }) => [
      `${db}.${collection}`,
      String(metadata),
      Number(size),
      String(type),
    ]),
    [
      ['shop.$admin.system.version', '', 0, ''],
      [
        'shop.plain',
        '{"options":{"capped":true,"size":{"$numberInt":"4096"}},"indexes":[' +
          '{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},' +
          '{"v":{"$numberInt":"2"},"key":{"10":{"$numberInt":"1"},"2":{"$numberInt":"-1"}},"name":"odd \\"name\\""}' +
          '],"uuid":"0123456789abcdef0123456789abcdef","collectionName":"plain","type":"collection"}',
        0,
        'collection',
      ],
      ['shop.äöü', '{"indexes":[],"collectionName":"äöü","type":"collection"}', 0, 'collection'],
      [
        'shop.seen',
        '{"options":{"viewOn":"plain","pipeline":[]},"indexes":[],"collectionName":"seen","type":"view"}',
        0,
        'view',
      ],
      [
        'shop.measured',
        '{"options":{"timeseries":{"timeField":"t"}},"indexes":[],"collectionName":"measured","type":"timeseries"}',
        0,
        'timeseries',
      ],
      ['shop.large', '{"indexes":[],"collectionName":"large","type":"collection"}', 2 ** 40, 'collection'],
      ['shop.small', '{"indexes":[],"collectionName":"small","type":"collection"}', 2 ** 20, 'collection'],
    ],
  );
  for (const document of read.collections) {
    assert.deepEqual(Object.keys(document), ['db', 'collection', 'metadata', 'size', 'type']);
  }
});

test('documents come back as they were: many small ones, the longest, none at all', async () => {
  const small = Array.from({ length: 20_000 }, (_, n) => numbered(n, 'x'.repeat(n % 50)));
  const longest = longestDocument();
  const odd = [...oddShapes().values()].map((shape) => rawDocument([...shape]));
  const documents = new Map([
    ['a.small', small],
    ['a.longest', [numbered(0), longest]],
    ['b.odd', odd],
    ['b.measured', [numbered(1)]],
  ]);
  const collections = [
    defined('a', 'small'),
    defined('a', 'longest'),
    defined('a', 'empty'),
    defined('b', 'odd'),
    defined('b', 'measured', { type: 'timeseries' }),
    defined('b', 'seen', { type: 'view' }),
  ];
  const { bytes, segments } = readArchive(await archiveOf(contentsOf(collections), documents));
  for (const [namespace, written] of documents) {
    const read = bytes.get(namespace === 'b.measured' ? 'b.system.buckets.measured' : namespace);
    assert.ok(read?.equals(Buffer.concat(written)), namespace);
  }
  assert.equal(bytes.get('a.empty')?.length, 0);
  assert.equal(bytes.get('b.seen')?.length, 0);
  assert.deepEqual(
    segments.map(({ collection, documents: { length } }) => [collection, length]),
    [
      ['small', 20_000],
      ['longest', 2],
      ['empty', 0],
      ['odd', odd.length],
      ['system.buckets.measured', 1],
      ['seen', 0],
    ],
  );
});

test('collections that are written beside each other come back apart', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  const names = Array.from({ length: 30 }, (_, n) => `c${n}`);
  const { sink, pieces } = memory();
  const slow: Sink = async (bytes) => {
    for (let n = random.below(3); n > 0; n -= 1) await turnOfTheLoop();
    await sink(bytes);
  };
  const contents = contentsOf(
    names.map((name) => defined('many', name)),
    5,
  );
  const writer = await ArchiveWriter.begin(slow, contents);
  const written = new Map<string, Buffer>();
  const queue = names.values();
  const work = async (): Promise<void> => {
    for (const name of queue) {
      const collection = writer.open('many', name);
      const runs = Array.from({ length: random.below(20) }, () =>
        Buffer.concat(Array.from({ length: random.below(40) }, (_, n) => numbered(n, 'z'.repeat(random.below(100))))),
      );
      // Now and then without waiting: turns keep their order.
      const writes = runs.map((run) => () => collection.write(run));
      if (random.chance(0.5)) for (const write of writes) await write();
      else await Promise.all(writes.map((write) => write()));
      written.set(`many.${name}`, Buffer.concat(runs));
      await collection.end();
    }
  };
  await Promise.all(Array.from({ length: 5 }, work));
  await writer.end();
  const { bytes, concurrent, segments } = readArchive(Buffer.concat(pieces));
  for (const [namespace, run] of written) assert.ok(bytes.get(namespace)?.equals(run), namespace);
  assert.equal(written.size, names.length);
  assert.ok(concurrent > 1 && concurrent <= 5, `${concurrent} at once`);
  assert.ok(segments.length > names.length, 'collections alternated');
});

test('the sink is asked for one thing at a time, and gets the very bytes that were given', async () => {
  const asked: { readonly bytes: Buffer; readonly done: () => void }[] = [];
  const sink: Sink = (bytes) =>
    new Promise((settle) => {
      asked.push({ bytes, done: settle });
    });
  const contents = contentsOf([defined('a', 'x'), defined('a', 'y')]);
  const beginning = ArchiveWriter.begin(sink, contents);
  asked[0]!.done();
  const writer = await beginning;
  const [x, y] = [writer.open('a', 'x'), writer.open('a', 'y')];
  const run = Buffer.concat([numbered(1), numbered(2)]);
  const events: string[] = [];
  const follow = async (name: string, step: Promise<void>): Promise<void> => {
    await step;
    events.push(name);
  };
  const steps = [
    follow('x', x.write(run)),
    follow('y', y.write(run)),
    follow('end x', x.end()),
    follow('end y', y.end()),
  ];
  // Prelude, then a header and a run of each, then the end of each.
  for (const [n, expected] of [
    [1, []],
    [2, []],
    [3, ['x']],
    [4, ['x']],
    [5, ['x', 'y']],
    [6, ['x', 'y', 'end x']],
  ] as const) {
    await turnOfTheLoop();
    assert.equal(asked.length, n + 1, `call ${n} waits for those before it`);
    assert.deepEqual(events, expected);
    if (n === 2 || n === 4) assert.equal(asked[n]!.bytes, run);
    asked[n]!.done();
  }
  await Promise.all(steps);
  assert.deepEqual(events, ['x', 'y', 'end x', 'end y']);
  await writer.end();
  assert.equal(readArchive(Buffer.concat(asked.map(({ bytes }) => bytes))).concurrent, 2);
});

test('a sink that fails fails everything from there on, and is not asked again', async () => {
  const contents = contentsOf([defined('a', 'x'), defined('a', 'y'), defined('a', 'v', { type: 'view' })]);
  const trouble = new Error('no room');
  // Nine calls: the prelude; header and run of x; header and run of y; their ends; header and end of the view.
  for (let failing = 0; failing < 9; failing += 1) {
    let calls = 0;
    const sink: Sink = async () => {
      if (calls++ !== failing) return;
      await turnOfTheLoop();
      throw trouble;
    };
    const beginning = ArchiveWriter.begin(sink, contents);
    if (failing === 0) {
      await assert.rejects(beginning, trouble);
      continue;
    }
    const writer = await beginning;
    const [x, y] = [writer.open('a', 'x'), writer.open('a', 'y')];
    const steps = [x.write(numbered(1)), y.write(numbered(2)), x.end(), y.end(), writer.end()];
    const outcomes = await Promise.allSettled(steps);
    const first = outcomes.findIndex(({ status }) => status === 'rejected');
    assert.equal(first, [0, 0, 0, 1, 1, 2, 3, 4, 4][failing], `call ${failing}`);
    for (const outcome of outcomes.slice(first)) assert.deepEqual(outcome, { status: 'rejected', reason: trouble });
    await assert.rejects(writer.end(), trouble);
    assert.equal(calls, failing + 1);
  }
});

test('users, roles and their version come first', async () => {
  const { sink, pieces } = memory();
  const special = ['system.users', 'system.roles', 'system.version'].flatMap((name) => [
    defined('admin', name),
    { db: 'shop', name: `$admin.${name}` },
  ]);
  const others = [defined('admin', 'system.other'), defined('shop', 'system.users')];
  const writer = await ArchiveWriter.begin(sink, contentsOf([...others, ...special], 1));
  for (const { db, name } of special) {
    for (const other of others) assert.throws(() => writer.open(other.db, other.name), isMisuse);
    const collection = writer.open(db, name);
    await collection.write(numbered(1));
    await collection.end();
  }
  for (const { db, name } of others) await writer.open(db, name).end();
  await writer.end();
  const namespaces = [...special, ...others].map(({ db, name }) => `${db}.${name}`);
  assert.deepEqual(readArchive(Buffer.concat(pieces)).ended, namespaces);
});

test('what would make an archive that is none is refused', async () => {
  const { sink, pieces } = memory();
  const view = defined('a', 'v', { type: 'view' });
  const collections = [defined('a', 'x'), defined('a', 'y'), defined('a', 'z'), view];
  const writer = await ArchiveWriter.begin(sink, contentsOf(collections, 2));
  const x = writer.open('a', 'x');
  const y = writer.open('a', 'y');
  assert.throws(() => writer.open('a', 'z'), isMisuse, 'one more than are read at once');
  await y.end();
  const z = writer.open('a', 'z');
  assert.throws(() => writer.open('a', 'v'), isMisuse, 'a view');
  assert.throws(() => writer.open('a', 'w'), isMisuse, 'an unknown one');
  assert.throws(() => writer.open('a', 'y'), isMisuse, 'one that has ended');
  await assert.rejects(y.write(numbered(1)), isMisuse);
  await assert.rejects(y.end(), isMisuse);
  await assert.rejects(writer.end(), isMisuse, 'a collection is open');
  await z.write(Buffer.concat([numbered(1), numbered(2)]));
  const before = pieces.length;
  const noEnd = numbered(1);
  noEnd.writeUInt8(1, noEnd.length - 1);
  for (const bytes of [numbered(1).subarray(1), Buffer.concat([numbered(1), numbered(2).subarray(0, -1)]), noEnd]) {
    await assert.rejects(x.write(bytes), isMisuse);
  }
  const long = numbered(1, 'secret'.repeat(3_000_000));
  await assert.rejects(x.write(Buffer.concat([numbered(0), long])), (error) => {
    assert.ok(error instanceof NotInArchive);
    assert.match(error.message, /a\.x/);
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
  await x.write(Buffer.alloc(0));
  assert.equal(pieces.length, before, 'nothing of it was written');
  await x.end();
  await z.end();
  await writer.end();
  // What was refused left no trace.
  const { bytes } = readArchive(Buffer.concat(pieces));
  assert.deepEqual(
    [...bytes].map(([namespace, { length }]) => [namespace, length]),
    [
      ['a.y', 0],
      ['a.x', 0],
      ['a.z', 2 * numbered(1).length],
      ['a.v', 0],
    ],
  );
});

test('contents that no archive tells are refused before anything is written', async () => {
  const { sink, pieces } = memory();
  const begin = (...collections: ArchivedCollection[]) => ArchiveWriter.begin(sink, contentsOf(collections));
  await assert.rejects(begin(defined('a', 'x'), defined('a', 'x')), isMisuse);
  await assert.rejects(begin(defined('a', 'system.buckets.x')), isMisuse);
  const typed = rawDocument([
    [0x03, 'validator', rawDocument([[0x03, 'a', rawDocument([[0x02, '$oid', text('secret')]])]])],
  ]);
  const notText = rawDocument([[0x02, 'name', text(Buffer.from([0xff]))]]);
  const long = rawDocument([
    [0x02, 'comment', text('long'.repeat(4_000_000))],
    [0x02, 'more', text('x'.repeat(1_000_000))],
  ]);
  for (const definition of [{ options: typed }, { indexes: [notText] }, { options: long }]) {
    await assert.rejects(begin(defined('a', 'x', definition)), (error) => {
      assert.ok(error instanceof NotInArchive);
      assert.match(error.message, /a\.x/);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
  }
  assert.equal(pieces.length, 0);
});

// With the real programs, where there are some.

const peers = await findPeers(process.env);

function missing(...wanted: readonly Peer[]): string | false {
  const without = wanted.find((peer) => !peers.has(peer));
  return (
    without !== undefined &&
    `there is no ${without} on the PATH, and LIFEBOAT_BENCH_${without.toUpperCase()} names none`
  );
}

const SHOP = 'shop';

/** Values of which Extended JSON tells a part alone, or nothing: NaN is told without its payload, an array without names. */
const UNTOLD = new Set(['nan', 'oddArray', 'notUtf8']);

/** Fills a database with what is not ordinary about definitions and documents. */
async function fillSource({ client, members }: TestReplicaSet, random: Random): Promise<void> {
  const db = client.db(SHOP);
  await db.createCollection('items', {
    validator: { $or: [{ sku: { $type: 'string' } }, { sku: { $regex: '^x', $options: 'i' } }, { sku: /^y"/im }] },
    validationLevel: 'moderate',
    validationAction: 'warn',
  });
  const items = db.collection<Document & { _id: number }>('items');
  await items.insertMany(Array.from({ length: 5_000 }, (_, n) => item(random, n)));
  await items.createIndexes([
    { key: { sku: 1, 'nested.b': -1 }, name: 'partial', partialFilterExpression: { price: { $gt: 5.5 } } },
    { key: { tags: 1 }, name: 'collated', collation: { locale: 'de', strength: 2 }, hidden: true },
    { key: { text: 'text' }, name: 'words', weights: { text: 3 } },
    { key: { place: '2dsphere' }, sparse: true },
    { key: { 'nested.at': 1 }, expireAfterSeconds: 1_000_000 },
    { key: { 'nested.$**': 1 } },
    { key: { stock: 'hashed' } },
  ]);
  await db.createCollection('empty');
  await db.createCollection('collated', { collation: { locale: 'fr', numericOrdering: true } });
  await db.createCollection('capped', { capped: true, size: 1_048_576, max: 100 });
  await db.collection('capped').insertMany(Array.from({ length: 50 }, (_, n) => ({ n })));
  const { versionArray } = await db.command({ buildInfo: 1 });
  const major = Number(versionArray[0]);
  await fillNewer(db, major);
  await db.createCollection('älter x/y %.z+"');
  await using wire = await RawWire.open(members[0]!.address);
  const told = everyType().filter(([, name]) => !UNTOLD.has(name));
  // An order that no object of JavaScript has.
  const key = rawDocument([
    [0x10, '10', int32(1)],
    [0x10, '2', int32(-1)],
    [0x10, 'a', int32(1)],
  ]);
  const index = rawDocument([
    [0x03, 'key', key],
    [0x02, 'name', text('numbers')],
  ]);
  const indexes: RawField = [0x04, 'indexes', rawArray([index])];
  await wire.command(rawDocument([fields({ createIndexes: 'odd' }), indexes, fields({ $db: SHOP })]));
  const stages = [
    rawDocument([[0x03, '$sort', key]]),
    rawDocument([
      [0x03, '$addFields', rawDocument([[0x03, 'all', rawDocument([[0x03, '$literal', rawDocument(told)]])]])],
    ]),
  ];
  const pipeline: RawField = [0x04, 'pipeline', rawArray(stages)];
  await wire.command(rawDocument([fields({ create: 'seen', viewOn: 'items' }), pipeline, fields({ $db: SHOP })]));
  await wire.insert(SHOP, 'odd', oddDocuments(major));
  await wire.insert(SHOP, 'longest', [longestDocument()]);
  const admin = client.db('admin');
  await admin.command({ createRole: 'reader', roles: [], privileges: [] });
  await admin.command({ createUser: 'someone', pwd: 'secret', roles: ['reader'] });
}

/** What not every version knows. */
async function fillNewer(db: Db, major: number): Promise<void> {
  if (major >= 5) {
    await db.createCollection('measured', { timeseries: { timeField: 't', metaField: 'm', granularity: 'minutes' } });
    const measurements = Array.from({ length: 500 }, (_, n) => ({ t: new Date(n * 60_000), m: n % 3, value: n / 7 }));
    await db.collection('measured').insertMany(measurements);
    await db.collection('measured').createIndex({ m: 1, t: -1 });
  }
  if (major >= 6) {
    await db.createCollection('clustered', { clusteredIndex: { key: { _id: 1 }, unique: true, name: 'cluster' } });
    await db.collection<Document & { _id: number }>('clustered').insertMany([{ _id: 2 }, { _id: 1 }]);
  }
}

/** Documents that a server takes from a client as they are: `_id` in front, no timestamp of zeros, up to 4.4 no `$` in front. */
function oddDocuments(major: number): Buffer[] {
  return [...oddShapes()]
    .filter(([name]) => major >= 5 || name !== 'keysOfUpdates')
    .map(([, shape], n) => rawDocument([[0x10, '_id', int32(n)], ...shape]));
}

/** What a server has: collections as an archive holds them, and their documents by the namespace they stand in. */
interface Holdings {
  readonly collections: readonly ArchivedCollection[];
  readonly documents: ReadonlyMap<string, readonly Buffer[]>;
}

async function rows(db: Db, command: Document): Promise<Buffer[]> {
  await using cursor = new RawCursor(db, command);
  return await cursor.rest();
}

/** The collections that `mongodump` takes. */
function isDumped(db: string, name: string): boolean {
  if (db === 'admin') return ['system.users', 'system.roles', 'system.version'].includes(name);
  return !name.startsWith('system.');
}

async function holdings(client: MongoClient): Promise<Holdings> {
  const collections: ArchivedCollection[] = [];
  const documents = new Map<string, readonly Buffer[]>();
  for (const db of ['admin', SHOP].map((name) => client.db(name))) {
    for (const listed of await rows(db, { listCollections: 1 })) {
      const { name, type, info } = deserialize(listed, { promoteBuffers: true });
      if (!isDumped(db.databaseName, name)) continue;
      collections.push({
        db: db.databaseName,
        name,
        definition: {
          type,
          options: embedded(elementsByName(listed).get('options')),
          indexes: type === 'view' ? [] : await rows(db, { listIndexes: name }),
          ...(info.uuid ? { uuid: info.uuid } : {}),
        },
      });
      if (type === 'view') continue;
      const data = type === 'timeseries' ? `system.buckets.${name}` : name;
      documents.set(`${db.databaseName}.${data}`, await rows(db, { find: data, sort: { _id: 1 } }));
    }
  }
  return { collections, documents };
}

/** Writes an archive, three collections at a time, documents in runs of some. */
async function writeArchive(path: string, { collections, documents }: Holdings, random: Random): Promise<void> {
  await using file = await open(path, 'w');
  const sink: Sink = (bytes) => file.writeFile(bytes);
  const writer = await ArchiveWriter.begin(sink, contentsOf(collections, 3));
  const write = async ({ db, name, definition }: ArchivedCollection): Promise<void> => {
    const collection = writer.open(db, name);
    const all = documents.get(`${db}.${definition?.type === 'timeseries' ? 'system.buckets.' : ''}${name}`) ?? [];
    for (let at = 0; at < all.length;) {
      const end = at + 1 + random.below(100);
      await collection.write(Buffer.concat(all.slice(at, end)));
      at = end;
    }
    await collection.end();
  };
  for (const collection of collections) if (collection.db === 'admin') await write(collection);
  const queue = collections.filter(({ db, definition }) => db !== 'admin' && definition?.type !== 'view').values();
  const work = async (): Promise<void> => {
    for (const collection of queue) await write(collection);
  };
  await Promise.all([work(), work(), work()]);
  await writer.end();
}

/** The definitions by name, as they are to be the same. */
function definitionsOf({ collections }: Holdings): Map<string, unknown> {
  return new Map(
    collections.map(({ db, name, definition }) => {
      const { type, options, indexes, uuid } = definition!;
      // mongorestore has the indexes, and the fields of each but for those of its key and its filter, in any order.
      const specs = indexes.map((spec) => ({
        ...deserialize(spec, { promoteValues: false }),
        name: elementsByName(spec).get('name')!.toString('hex'),
        key: elementsByName(spec).get('key'),
        partialFilterExpression: elementsByName(spec).get('partialFilterExpression'),
      }));
      specs.sort((one, other) => (one.name < other.name ? -1 : 1));
      return [`${db}.${name}`, { type, options, uuid, specs }];
    }),
  );
}

suite('of a real source', { skip: missing('mongodump') && missing('mongorestore') }, () => {
  let source: TestReplicaSet;
  let folder: TestFolder;
  let held: Holdings;
  const random = new Random(testSeed());

  before(async () => {
    [source, folder] = await Promise.all([startReplicaSet(), testFolder()]);
    await fillSource(source, random);
    held = await holdings(source.client);
    await writeArchive(join(folder.path, 'ours'), held, random);
  });

  after(async () => {
    await source?.[Symbol.asyncDispose]();
    await folder?.[Symbol.asyncDispose]();
  });

  test('mongorestore makes the same of an archive again', { skip: missing('mongorestore') }, async (t) => {
    t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
    await withMongod(join(folder.path, 'restored'), {}, async (client, { uri }) => {
      const archive = `--archive=${join(folder.path, 'ours')}`;
      await runPeer(peers.get('mongorestore')!, ['--uri', uri, archive, '--drop', '--preserveUUID', '--stopOnError']);
      const restored = await holdings(client);
      for (const [namespace, documents] of held.documents) {
        // The server's own: it is looked at and not restored.
        if (namespace === 'admin.system.version') continue;
        const found = restored.documents.get(namespace);
        assert.equal(found?.length, documents.length, namespace);
        for (const [n, document] of documents.entries()) assert.ok(found[n]?.equals(document), `${namespace}: ${n}`);
      }
      const [ours, theirs] = [definitionsOf(held), definitionsOf(restored)];
      assert.deepEqual([...theirs.keys()].sort(), [...ours.keys()].sort());
      for (const [namespace, definition] of ours) {
        if (!namespace.startsWith('admin.')) assert.deepEqual(theirs.get(namespace), definition, namespace);
      }
    });
  });

  test('mongorestore fails with an archive that was not ended', { skip: missing('mongorestore') }, async () => {
    const path = join(folder.path, 'unended');
    await using file = await open(path, 'w');
    const collections = [defined('a', 'x'), defined('a', 'v', { type: 'view' })];
    const writer = await ArchiveWriter.begin((bytes) => file.writeFile(bytes), contentsOf(collections));
    const x = writer.open('a', 'x');
    await x.write(numbered(1));
    await x.end();
    await withMongod(join(folder.path, 'unfinished'), {}, async (_client, { uri }) => {
      const run = runPeer(peers.get('mongorestore')!, ['--uri', uri, `--archive=${path}`]);
      await assert.rejects(run, /archive finished before all collections were seen/);
    });
  });

  test('mongodump tells the same of every collection', { skip: missing('mongodump') }, async () => {
    const path = join(folder.path, 'theirs');
    await runPeer(peers.get('mongodump')!, ['--uri', source.uri, `--archive=${path}`]);
    const [ours, theirs] = [readArchive(await readFile(join(folder.path, 'ours'))), readArchive(await readFile(path))];
    const told = ({ collections }: ReadArchive) =>
      new Map(collections.map(({ db, collection, ...more }) => [`${db}.${collection}`, more]));
    assert.deepEqual(told(ours), told(theirs));
    assert.deepEqual(Object.keys(ours.header), Object.keys(theirs.header));
    assert.deepEqual([...ours.bytes.keys()].sort(), [...theirs.bytes.keys()].sort());
    for (const [namespace, bytes] of ours.bytes) {
      // A server gives them in an order of its own.
      const sorted = (run: Buffer) => [...documentsOf(run)].sort((one, other) => one.compare(other));
      assert.deepEqual(sorted(theirs.bytes.get(namespace)!), sorted(bytes), namespace);
    }
  });
});
