/** What a database that people have used for years may hold: the data that a workload starts from. */
import { Binary, MongoServerError, type Db, type Document, type MongoClient } from 'mongodb';
import type { MongodAddress } from '../../src/mongod/process.ts';
import type { Random } from './random.ts';
import { double, fields, int32, int64, RawWire, rawArray, rawDocument, text, type RawField } from './raw-wire.ts';

export interface BaseSize {
  /** Documents of `base.items`, the collection that the writers write to most. */
  readonly items: number;
  /** Documents of nothing but an `_id` and a number. */
  readonly tiny: number;
  /** Documents of 16 MB of random bytes. */
  readonly huge: number;
  /** Collections with a handful of documents each. */
  readonly collections: number;
}

export const SMALL_BASE: BaseSize = { items: 2_000, tiny: 5_000, huge: 0, collections: 20 };

/** The longest a document may be, less what its own fields take. */
const HUGE_BYTES = 16 * 1024 * 1024 - 64;

/** A document of `base.items`: nested, with arrays, every usual type, and keys that look like numbers. */
export function item(random: Random, id: number): Document & { readonly _id: number } {
  return {
    _id: id,
    sku: `sku-${random.below(1_000)}`,
    price: random.below(10_000) / 100,
    stock: random.below(100),
    tags: Array.from({ length: random.below(6) }, () => `tag-${random.below(30)}`),
    place: { type: 'Point', coordinates: [random.below(360) - 180, random.below(180) - 90] },
    lines: Array.from({ length: random.below(8) }, (_, n) => ({ n, quantity: random.below(10), note: null })),
    nested: {
      b: 1,
      '10': 'ten',
      '2': 'two',
      deep: { deeper: { flag: random.chance(0.5), at: new Date(random.next()) } },
    },
    blob: new Binary(random.bytes(random.below(300))),
    text: `some words ${random.pick(['boat', 'harbour', 'anchor'])} ${random.below(50)}`,
  };
}

const OBJECT_ID = Buffer.from('0123456789abcdef01234567', 'hex');

/** A value of every BSON type, raw. Where the library or the server has a mind of its own about one, it is in. */
export function everyType(): RawField[] {
  return [
    [0x01, 'double', double(2)],
    [0x01, 'nan', Buffer.from('010000000000f87f', 'hex')],
    [0x01, 'minusZero', double(-0)],
    [0x02, 'string', text('text with a \0 inside')],
    [0x02, 'notUtf8', text(Buffer.from([0xc3, 0x28, 0xff]))],
    [
      0x03,
      'object',
      rawDocument([
        [0x10, 'b', int32(1)],
        [0x10, '1', int32(2)],
        [0x10, '0', int32(3)],
      ]),
    ],
    [0x03, 'likeDbRef', rawDocument([fields({ $ref: 'x', $id: 1, $db: 'y', more: true })])],
    [
      0x04,
      'array',
      rawDocument([
        [0x10, '0', int32(1)],
        [0x10, '1', int32(2)],
      ]),
    ],
    [
      0x04,
      'oddArray',
      rawDocument([
        [0x10, '5', int32(1)],
        [0x10, 'x', int32(2)],
      ]),
    ],
    [0x05, 'binary', Buffer.concat([int32(3), Buffer.of(0, 1, 2, 3)])],
    [0x05, 'oldBinary', Buffer.concat([int32(7), Buffer.of(2), int32(3), Buffer.of(1, 2, 3)])],
    [0x05, 'oldUuid', Buffer.concat([int32(16), Buffer.of(3), Buffer.alloc(16, 7)])],
    [0x06, 'undefined', Buffer.alloc(0)],
    [0x07, 'objectId', OBJECT_ID],
    [0x08, 'boolean', Buffer.of(1)],
    [0x09, 'date', int64(-1n)],
    [0x09, 'farDate', int64(2n ** 62n + 1n)],
    [0x0a, 'null', Buffer.alloc(0)],
    [0x0b, 'regex', Buffer.from('a.*b\0imx\0')],
    [0x0c, 'dbPointer', Buffer.concat([text('base.items'), OBJECT_ID])],
    [0x0d, 'code', text('function () {}')],
    [0x0e, 'symbol', text('symbol')],
    [0x0f, 'codeWithScope', withLength(Buffer.concat([text('f'), rawDocument([fields({ x: 1 })])]))],
    [0x10, 'int32', int32(2)],
    [0x11, 'timestamp', int64(5n)],
    [0x12, 'int64', int64(2n ** 60n + 1n)],
    [0x13, 'decimal128', Buffer.from('0a000000000000000000000000003c30', 'hex')],
    [0xff, 'minKey', Buffer.alloc(0)],
    [0x7f, 'maxKey', Buffer.alloc(0)],
  ];
}

function withLength(bytes: Buffer): Buffer {
  return Buffer.concat([int32(bytes.length + 4), bytes]);
}

/** No server takes these as an `_id`. */
export const NO_ID = new Set(['array', 'oddArray', 'regex', 'undefined', 'likeDbRef']);

/** One document for every type an `_id` may have, with every type as a field. */
function documentsOfEveryId(): Buffer[] {
  const values = everyType();
  const ids = values.filter(([, name]) => !NO_ID.has(name) && name !== 'int32');
  return ids.map(([type, , value], n) => rawDocument([[type, '_id', value], [0x10, 'n', int32(n)], ...values]));
}

/** Documents that only applyOps stores as they are. */
function documentsNobodySends(): Buffer[] {
  const id = (n: number): RawField => [0x10, '_id', int32(n)];
  const nested = Array.from({ length: 90 }).reduce<Buffer>(
    (inner) => rawDocument([[0x03, 'd', inner]]),
    rawDocument([]),
  );
  return [
    rawDocument([[0x10, 'before', int32(1)], id(1)]),
    rawDocument([id(2), [0x10, 'twice', int32(1)], [0x02, 'twice', text('again')]]),
    rawDocument([id(3), [0x11, 'zero', int64(0n)]]),
    rawDocument([id(4), [0x10, '1', int32(1)], [0x10, '0', int32(0)], [0x10, '', int32(2)]]),
    rawDocument([id(5), [0x03, 'nested', nested]]),
    rawDocument([id(6), [0x10, '$dollar', int32(1)], [0x10, 'dotted.key', int32(2)]]),
    rawDocument([id(7), [0x08, 'oddBoolean', Buffer.of(1)], [0x04, 'none', rawArray([])]]),
  ];
}

/** What a server's feature compatibility version lets be created; the same names are there in any case, but for `series`. */
export interface Abilities {
  /** Hidden indexes, and collections made in a transaction. */
  readonly hidden: boolean;
  readonly series: boolean;
  readonly clustered: boolean;
  readonly images: boolean;
}

/** Asks the server. */
export async function abilitiesOf(client: MongoClient): Promise<Abilities> {
  const parameter = { getParameter: 1, featureCompatibilityVersion: 1 };
  const { featureCompatibilityVersion } = await client.db('admin').command(parameter);
  const version = String(featureCompatibilityVersion.version);
  const major = Number.parseInt(version, 10);
  return { hidden: version !== '4.2', series: major >= 5, clustered: major >= 6, images: major >= 6 };
}

async function definitions(db: Db, can: Abilities): Promise<void> {
  const items = db.collection('items');
  await items.createIndex({ sku: 1, price: -1 });
  await items.createIndex({ place: '2dsphere' });
  await items.createIndex({ text: 'text' }, { default_language: 'english', weights: { text: 3 } });
  await items.createIndex({ sku: 'hashed' });
  await items.createIndex({ 'nested.$**': 1 });
  await items.createIndex({ tags: 1 }, { sparse: true });
  await items.createIndex(
    { stock: 1 },
    { partialFilterExpression: { stock: { $gt: 50 } }, ...(can.hidden ? { hidden: true } : {}) },
  );
  await items.createIndex({ sku: 1 }, { name: 'collated', collation: { locale: 'de', strength: 1 } });
  await db.collection('unique').createIndex({ key: 1 }, { unique: true });
  await db.command({ createIndexes: 'tiny', indexes: [{ key: { n: 1 }, name: 'of old', v: 1, background: true }] });
  await db.collection('mortal').createIndex({ at: 1 }, { expireAfterSeconds: 86_400 * 365 });
  await db.createCollection('empty');
  // Elsewhere the writers' large transactions make it.
  if (!can.hidden) await db.createCollection('parts');
  await db.createCollection('capped', { capped: true, size: 64 * 1024, max: 300 });
  if (can.series) {
    const timeseries = { timeField: 'at', metaField: 'sensor' };
    await db.createCollection('series', { timeseries, expireAfterSeconds: 31_536_000 });
  }
  const clusteredIndex = { key: { _id: 1 }, unique: true, name: 'by id' };
  await db.createCollection('clustered', can.clustered ? { clusteredIndex } : {});
  await db.createCollection('collated', { collation: { locale: 'fr', strength: 2 } });
  await db.createCollection('validated', {
    validator: { n: { $gte: 0 } },
    validationAction: 'warn',
    validationLevel: 'moderate',
  });
  await db.createCollection('images', can.images ? { changeStreamPreAndPostImages: { enabled: true } } : {});
  await db.createCollection('view', {
    viewOn: 'items',
    pipeline: [{ $match: { stock: { $gt: 3 } } }, { $project: { sku: 1 } }],
  });
  await db.createCollection('viewOfView', { viewOn: 'view', pipeline: [] });
  await db.createCollection('collatedView', {
    viewOn: 'collated',
    pipeline: [],
    collation: { locale: 'fr', strength: 2 },
  });
  await db.createCollection('name with spaces, dots... and ü');
}

/** Inserts many documents in batches that fit a message. */
export async function insertMany(
  db: Db,
  collection: string,
  count: number,
  make: (n: number) => object,
  batch = 5_000,
): Promise<void> {
  for (let from = 0; from < count; from += batch) {
    const documents = Array.from({ length: Math.min(batch, count - from) }, (_, n) => make(from + n));
    await db.collection(collection).insertMany(documents, { ordered: false });
  }
}

/** Fills an empty replica set. `primary` is the address of its primary, for what the driver would not send. */
export async function fillBase(
  client: MongoClient,
  primary: MongodAddress,
  random: Random,
  size = SMALL_BASE,
): Promise<void> {
  const base = client.db('base');
  const can = await abilitiesOf(client);
  await definitions(base, can);
  await insertMany(base, 'items', size.items, (n) => item(random, n), 1_000);
  await insertMany(base, 'tiny', size.tiny, (n) => ({ _id: n, n: n * 2 }), 20_000);
  await insertMany(base, 'huge', size.huge, (n) => ({ _id: n, random: new Binary(random.bytes(HUGE_BYTES)) }), 1);
  await insertMany(base, 'unique', 200, (n) => ({ _id: n, key: n }));
  await insertMany(base, 'mortal', 50, (n) => ({ _id: n, at: new Date() }));
  await insertMany(base, 'capped', 400, (n) => ({ _id: n, text: `line ${n}` }));
  await insertMany(base, 'series', can.series ? 500 : 0, (n) => ({
    at: new Date(1.7e12 + n * 60_000),
    sensor: n % 5,
    value: random.below(100),
  }));
  await insertMany(base, 'clustered', 200, (n) => ({ _id: `k${(n * 7919) % 200}`, n }));
  await insertMany(base, 'collated', 100, (n) => ({ _id: `Clé-${n}`, n }));
  await insertMany(base, 'validated', 50, (n) => ({ _id: n, n: n - 10 }));
  await insertMany(base, 'images', 20, (n) => ({ _id: n, n }));
  await base.collection<{ _id: number }>('images').updateMany({}, { $inc: { n: 1 } });
  await base.collection('name with spaces, dots... and ü').insertOne({ here: true });
  for (let n = 0; n < size.collections; n++) {
    const many = client.db(`many${n % 3}`).collection<{ _id: number; n: number }>(`c${n}`);
    await many.insertMany([0, 1, 2].map((_id) => ({ _id, n })));
    if (n % 4 === 0) await many.createIndex({ n: 1 });
  }
  await base.createCollection('everyId');
  await base.createCollection('nobodySends');
  await using wire = await RawWire.open(primary);
  await wire.insert('base', 'everyId', documentsOfEveryId());
  await wire.insertExactly('base.nobodySends', documentsNobodySends());
  await makeUsers(client);
}

async function makeUsers(client: MongoClient): Promise<void> {
  const privileges = [{ resource: { db: 'base', collection: 'items' }, actions: ['find'] }];
  await client.db('base').command({ createRole: 'looker', privileges, roles: ['read'] });
  await client.db('base').command({ createUser: 'someone', pwd: 'not a secret', roles: ['looker'] });
  await client
    .db('admin')
    .command({ createUser: 'keeper', pwd: 'not a secret either', roles: ['backup', 'clusterMonitor'] });
}

/** True for a server error with one of these codes. */
export function hasCode(error: unknown, codes: ReadonlySet<number>): boolean {
  return error instanceof MongoServerError && codes.has(Number(error.code));
}
