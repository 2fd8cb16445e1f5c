/** The proof itself on trial: a twin of a real source, differences planted in it one by one, each to be found. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Binary, Double, Long, Timestamp, type Collection, type Document, type MongoClient } from 'mongodb';
import { fromTimestamp } from '../src/mongo/positions.ts';
import { compareDocuments } from '../src/proof/compare.ts';
import { proveEqual, type EqualityReport } from '../src/proof/equality.ts';
import { RawCursor } from '../src/proof/raw-cursor.ts';
import type { Optime } from '../src/shared/optime.ts';
import { Random } from './support/random.ts';
import { double, int32, RawWire, rawDocument, text } from './support/raw-wire.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { startTwin, type Twin } from './support/twin.ts';
import { fillBase } from './support/workload-data.ts';

type Numbered = Document & { readonly _id: number };

/** Faults in documents: each is planted in a collection of its own. */
const documentFaults: Record<string, { plant: (c: Collection<Numbered>) => Promise<unknown>; found: string }> = {
  'one byte of a text': {
    plant: (c) => c.updateOne({ _id: 3 }, { $set: { name: 'name 4' } }),
    found: 'different 1 [{"$numberInt":"3"}]',
  },
  'one bit of a binary': {
    plant: (c) => c.updateOne({ _id: 3 }, { $set: { blob: new Binary(Buffer.from([1, 2, 2])) } }),
    found: 'different 1 [{"$numberInt":"3"}]',
  },
  'the first document gone': { plant: (c) => c.deleteOne({ _id: 0 }), found: 'missing 1 [{"$numberInt":"0"}]' },
  'a document in the middle gone': { plant: (c) => c.deleteOne({ _id: 5 }), found: 'missing 1 [{"$numberInt":"5"}]' },
  'the last document gone': { plant: (c) => c.deleteOne({ _id: 9 }), found: 'missing 1 [{"$numberInt":"9"}]' },
  'all documents gone': { plant: (c) => c.deleteMany({}), found: 'missing 10' },
  'a document too many': { plant: (c) => c.insertOne({ _id: 77 }), found: 'extra 1 [{"$numberInt":"77"}]' },
  'a double where an int32 was': {
    plant: (c) => c.updateOne({ _id: 4 }, { $set: { n: new Double(4) } }),
    found: 'different 1 [{"$numberInt":"4"}]',
  },
  'an int64 where an int32 was': {
    plant: (c) => c.updateOne({ _id: 4 }, { $set: { n: Long.fromNumber(4) } }),
    found: 'different 1 [{"$numberInt":"4"}]',
  },
  'minus zero where zero was': {
    plant: (c) => c.updateOne({ _id: 0 }, { $set: { zero: new Double(-0) } }),
    found: 'different 1 [{"$numberInt":"0"}]',
  },
  'another order of keys': {
    plant: (c) =>
      c.replaceOne({ _id: 2 }, { name: 'name 2', n: 2, zero: new Double(0), blob: new Binary(Buffer.from([1, 2, 3])) }),
    found: 'different 1 [{"$numberInt":"2"}]',
  },
  'null where nothing was': {
    plant: (c) => c.updateOne({ _id: 2 }, { $set: { other: null } }),
    found: 'different 1 [{"$numberInt":"2"}]',
  },
  'an _id of another number type': {
    plant: async (c) => {
      const { _id, ...rest } = (await c.findOneAndDelete({ _id: 6 }, { promoteValues: false })) ?? { _id: 0 };
      await (c as unknown as Collection<{ _id: Double }>).insertOne({ _id: new Double(6), ...rest });
    },
    found: 'extra 1 [{"$numberDouble":"6.0"}] missing 1 [{"$numberInt":"6"}]',
  },
  'several at once': {
    plant: async (c) => {
      await c.deleteMany({ _id: { $in: [1, 8] } });
      await c.insertOne({ _id: 4.5 });
      await c.updateOne({ _id: 5 }, { $inc: { n: 1 } });
    },
    found:
      'different 1 [{"$numberInt":"5"}] extra 1 [{"$numberDouble":"4.5"}] missing 2 [{"$numberInt":"1"}|{"$numberInt":"8"}]',
  },
};

let source: TestReplicaSet;
let twin: Twin;

before(async () => {
  source = await startReplicaSet({ name: 'proof' });
  const { client, members } = source;
  await fillBase(client, members[0]?.address ?? { port: 0 }, new Random(7), {
    items: 300,
    tiny: 500,
    huge: 0,
    collections: 6,
  });
  for (const name of Object.keys(documentFaults)) await fillTen(client, 'faults', name);
  for (const name of ['hidden', 'dropped', 'added', 'unique', 'keyed']) {
    await fillTen(client, 'indexes', name);
    await client.db('indexes').collection(name).createIndex({ n: 1 });
  }
  for (const name of ['gone', 'recreated', 'to be a view', 'later', 'validated']) await fillTen(client, 'names', name);
  await client.db('names').createCollection('collated', { collation: { locale: 'de' } });
  await client.db('names').createCollection('view', { viewOn: 'gone', pipeline: [{ $match: { n: { $gt: 3 } } }] });
  await client.db('names').createCollection('view gone', { viewOn: 'gone', pipeline: [] });
  await client.db('going').createCollection('view', { viewOn: 'gone', pipeline: [] });
  await client.db('names').createCollection('series', { timeseries: { timeField: 'at', metaField: 'm' } });
  await client
    .db('names')
    .collection('series')
    .insertOne({ at: new Date(1.7e12), m: 1, v: 1 });
  for (const name of ['order', 'bytes', 'quiet']) {
    await client.db('rings').createCollection(name, { capped: true, size: 100_000 });
    await client
      .db('rings')
      .collection<Numbered>(name)
      .insertMany([1, 2, 3].map((_id) => ({ _id })));
  }
  await client.db('many').createCollection('documents');
  await client.db('moving').createCollection('ring', { capped: true, size: 4_096, max: 5 });
  await client
    .db('moving')
    .collection<Numbered>('ring')
    .insertMany([1, 2, 3].map((_id) => ({ _id })));
  // Is capped and clustered then: its documents are in the order of `_id`.
  const key = { key: { _id: 1 }, unique: true };
  await client.db('moving').createCollection('clustered ring', { clusteredIndex: key });
  await fillTen(client, 'moving', 'clustered ring');
  await client.db('moving').command({ convertToCapped: 'clustered ring', size: 100_000 });
  for (const name of ['renamed', 'dropped', 'written', 'altered', 'in a transaction'])
    await fillTen(client, 'moving', name);
  twin = await startTwin(source);
});
after(async () => {
  await twin?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
});

async function fillTen(client: MongoClient, db: string, name: string): Promise<void> {
  const blob = new Binary(Buffer.from([1, 2, 3]));
  const documents = Array.from({ length: 10 }, (_, n) => ({ _id: n, n, name: `name ${n}`, zero: new Double(0), blob }));
  await client.db(db).collection<Numbered>(name).insertMany(documents);
}

async function prove(at: Optime = twin.at): Promise<EqualityReport> {
  return proveEqual({ source: { client: source.client, at }, copy: { client: twin.client }, ids: 3 });
}

/** What a report says of one namespace, as one line. */
function saysOf({ differences }: EqualityReport, namespace: string): string {
  return differences
    .filter((difference) => difference.namespace === namespace)
    .map(({ kind, count, ids, names }) => {
      const details = names?.toSorted().join('|') ?? (count < 4 ? ids?.join('|') : undefined);
      return details === undefined ? `${kind} ${count}` : `${kind} ${count} [${details}]`;
    })
    .toSorted()
    .join(' ');
}

test('a twin equals its source, everything compared, and no _id is told unless asked for', async () => {
  const report = await proveEqual({ source: { client: source.client, at: twin.at }, copy: { client: twin.client } });
  assert.deepEqual(report.differences, []);
  assert.deepEqual(report.notCompared, []);
  assert.equal(report.equal, true);
  assert.equal(report.comparedViews, 4 + 4);
  const expected = await countDocuments(twin.client);
  assert.equal(report.comparedDocuments, expected);
});

/** Documents of all collections that a proof compares, counted in another way. */
async function countDocuments(client: MongoClient): Promise<number> {
  let count = 0;
  for (const db of [
    'admin',
    'base',
    'faults',
    'indexes',
    'many',
    'many0',
    'many1',
    'many2',
    'moving',
    'names',
    'rings',
  ]) {
    for (const { name, type } of await client.db(db).listCollections().toArray()) {
      if (type !== 'collection' || name === 'system.keys' || name === 'system.views') continue;
      count += await client.db(db).collection(name).countDocuments();
    }
  }
  return count;
}

for (const [name, { plant, found }] of Object.entries(documentFaults)) {
  test(`a difference in documents is found: ${name}`, async () => {
    await plant(twin.client.db('faults').collection<Numbered>(name));
    const report = await prove();
    assert.equal(saysOf(report, `faults.${name}`), found);
    assert.equal(report.equal, false);
  });
}

test('a lost duplicate key and a value of a deprecated type are found', async () => {
  const before = saysOf(await prove(), 'base.nobodySends');
  assert.equal(before, '');
  await using wire = await RawWire.open(twin.mongod.address);
  const without = rawDocument([
    [0x10, '_id', int32(2)],
    [0x10, 'twice', int32(1)],
  ]);
  await wire.insertExactly('base.nobodySends', [without]);
  const inFront = rawDocument([
    [0x10, '_id', int32(1)],
    [0x10, 'before', int32(1)],
  ]);
  await wire.insertExactly('base.nobodySends', [inFront]);
  assert.equal(saysOf(await prove(), 'base.nobodySends'), 'different 2 [{"$numberInt":"1"}|{"$numberInt":"2"}]');

  const everyId = twin.client.db('base').collection('everyId');
  await everyId.updateOne({ n: 0 }, { $set: { symbol: 'symbol' } });
  assert.match(saysOf(await prove(), 'base.everyId'), /^different 1 /);
});

test('documents reach the collections of the workload in the bytes they were made of', async () => {
  await using wire = await RawWire.open(source.members[0]?.address ?? { port: 0 });
  await source.client.db('many').createCollection('exact');
  const document = rawDocument([
    [0x10, 'n', int32(1)],
    [0x10, 'n', int32(2)],
    [0x01, '_id', double(3)],
    [0x0e, 'symbol', text('x')],
  ]);
  await wire.insertExactly('many.exact', [document]);
  const [stored] = await source.client.db('many').collection('exact').find({}, { raw: true }).toArray();
  assert.ok(document.equals(stored as unknown as Buffer));
});

test('a difference in indexes is found: missing, added, another option, another key', async () => {
  const db = twin.client.db('indexes');
  await db.command({ collMod: 'hidden', index: { name: 'n_1', hidden: true } });
  await db.collection('dropped').dropIndex('n_1');
  await db.collection('added').createIndex({ name: 1 });
  await db.collection('unique').dropIndex('n_1');
  await db.collection('unique').createIndex({ n: 1 }, { unique: true });
  await db.collection('keyed').dropIndex('n_1');
  await db.collection('keyed').createIndex({ n: -1 }, { name: 'n_1' });
  await db
    .collection('keyed')
    .createIndex({ zero: 1 }, { name: 'partial', partialFilterExpression: { n: { $gt: 1 } } });
  const report = await prove();
  assert.equal(saysOf(report, 'indexes.hidden'), 'indexes 1 [n_1]');
  assert.equal(saysOf(report, 'indexes.dropped'), 'indexes 1 [n_1]');
  assert.equal(saysOf(report, 'indexes.added'), 'indexes 1 [name_1]');
  assert.equal(saysOf(report, 'indexes.unique'), 'indexes 1 [n_1]');
  assert.equal(saysOf(report, 'indexes.keyed'), 'indexes 2 [n_1|partial]');
});

test('a difference in options, UUIDs, types, views and names is found', async () => {
  const db = twin.client.db('names');
  await db.dropCollection('collated');
  await db.createCollection('collated', { collation: { locale: 'de', strength: 1 } });
  await db.command({ collMod: 'validated', validator: { n: { $gte: 0 } } });
  await db.dropCollection('recreated');
  await fillTen(twin.client, 'names', 'recreated');
  await db.dropCollection('to be a view');
  await db.createCollection('to be a view', { viewOn: 'recreated', pipeline: [] });
  await db.command({ collMod: 'view', viewOn: 'gone', pipeline: [{ $match: { n: { $gt: 4 } } }] });
  await db.dropCollection('view gone');
  await db.dropCollection('gone');
  await db.createCollection('nobody made this');
  await db.collection('series').insertOne({ at: new Date(1.7e12 + 1), m: 1, v: 2 });
  await twin.client.db('extra').createCollection('empty');
  const report = await prove();
  assert.equal(saysOf(report, 'names.collated'), 'indexes 1 [_id_] options 1 [collation] uuid 1');
  assert.equal(saysOf(report, 'names.validated'), 'options 3 [validationAction|validationLevel|validator]');
  assert.equal(saysOf(report, 'names.recreated'), 'uuid 1');
  assert.equal(saysOf(report, 'names.to be a view'), 'type 1');
  assert.equal(saysOf(report, 'names.view'), 'options 1 [pipeline]');
  assert.equal(saysOf(report, 'names.view gone'), 'namespace-missing 1');
  assert.equal(saysOf(report, 'names.gone'), 'namespace-missing 1');
  assert.equal(saysOf(report, 'names.nobody made this'), 'namespace-extra 1');
  assert.match(saysOf(report, 'names.system.buckets.series'), /^(different|extra) 1 /);
  assert.equal(saysOf(report, 'extra.empty'), 'namespace-extra 1');

  const without = await proveEqual({
    source: { client: source.client, at: twin.at },
    copy: { client: twin.client },
    uuids: false,
  });
  assert.equal(saysOf(without, 'names.recreated'), '');
});

test('another natural order, and other bytes, of a capped collection are found', async () => {
  const db = twin.client.db('rings');
  await db.dropCollection('order');
  await db.createCollection('order', { capped: true, size: 100_000 });
  await db.collection<Numbered>('order').insertMany([2, 1, 3].map((_id) => ({ _id })));
  await db.collection<Numbered>('bytes').updateOne({ _id: 2 }, { $set: { x: 1 } });
  const report = await prove();
  assert.match(saysOf(report, 'rings.order'), /^order 1 .*uuid 1$/);
  assert.equal(saysOf(report, 'rings.bytes'), 'different 1 [{"$numberInt":"2"}]');
  assert.equal(saysOf(report, 'rings.quiet'), '');
});

test('documents that came to a capped collection meanwhile may stand before others, and hide no other order', async () => {
  const db = twin.client.db('placed');
  const read = async (name: string, ids: readonly number[]): Promise<RawCursor> => {
    await db.createCollection(name, { capped: true, size: 100_000 });
    await db.collection<Numbered>(name).insertMany(ids.map((_id) => ({ _id })));
    return new RawCursor(db, { find: name, hint: { $natural: 1 } });
  };
  for (const [source, only, reordered] of [
    [[1, 2, 9, 3], ['9'], false],
    [[9, 1, 8, 2, 3], ['8', '9'], false],
    [[1, 2, 3, 9], ['9'], false],
    [[9, 2, 1, 3], ['9'], true],
    [[1, 9, 3, 2], ['9'], true],
    [[3, 1, 2], [], true],
  ] as const) {
    await db.dropDatabase();
    await using theirs = await read('source', source);
    await using ours = await read('copy', [1, 2, 3]);
    const found = await compareDocuments(theirs, ours, { maxIds: 5, growing: true });
    const ids = found.onlyInSource.map((id) => (JSON.parse(id) as { $numberInt: string }).$numberInt);
    assert.deepEqual([ids.toSorted(), found.reordered, found.missing.count], [only, reordered, 0], source.join());
  }
});

test('a capped collection that grew by more than can wait for a counterpart is still compared', async () => {
  const db = twin.client.db('grown');
  const read = async (name: string, count: number): Promise<RawCursor> => {
    await db.createCollection(name, { capped: true, size: 2 ** 25 });
    await db.collection<Numbered>(name).insertMany(Array.from({ length: count }, (_, _id) => ({ _id })));
    return new RawCursor(db, { find: name, hint: { $natural: 1 } });
  };
  await using theirs = await read('source', 200_010);
  await using ours = await read('copy', 5);
  const { gaveUp, missing, onlyInSource } = await compareDocuments(theirs, ours, { maxIds: 0, growing: true });
  assert.deepEqual([gaveUp, missing.count, onlyInSource.length], [false, 0, 200_005]);
  await db.dropDatabase();
});

test('another user, role or password is found', async () => {
  const base = twin.client.db('base');
  await base.command({ updateUser: 'someone', pwd: 'changed' });
  await base.command({ createRole: 'more', privileges: [], roles: [] });
  const report = await prove();
  assert.equal(saysOf(report, 'admin.system.users'), 'different 1 ["base.someone"]');
  assert.equal(saysOf(report, 'admin.system.roles'), 'extra 1 ["base.more"]');
});

test('what is no part of a copy makes no difference, and everything beside it does', async () => {
  const { client } = twin;
  await client.db('local').collection('lifeboat.state').insertOne({ ours: true });
  await client
    .db('config')
    .createCollection('transactions')
    .catch(() => undefined);
  await client.db('config').collection('cache.databases').insertOne({ x: 1 });
  await client.db('config').collection('system.sessions').insertOne({ x: 1 });
  await client.db('many').command({ profile: 2 });
  await client.db('many').collection('documents').findOne({});
  await client.db('many').command({ profile: 0 });
  await client.db('config').collection('cached').insertOne({ x: 1 });
  const of = (db: string): string[] =>
    report.differences.filter(({ namespace }) => namespace.startsWith(`${db}.`)).map(({ namespace }) => namespace);
  const report = await prove();
  assert.deepEqual(of('config'), ['config.cached']);
  assert.deepEqual(of('many'), []);
  assert.deepEqual(of('local'), []);
});

test('more differences than fit in memory are counted as far as it goes', async () => {
  const documents = twin.client.db('many').collection<Numbered>('documents');
  for (let from = 0; from < 210_000; from += 70_000) {
    await documents.insertMany(
      Array.from({ length: 70_000 }, (_, n) => ({ _id: from + n })),
      { ordered: false },
    );
  }
  const [difference] = (await prove()).differences.filter(({ namespace }) => namespace === 'many.documents');
  assert.equal(difference?.kind, 'extra');
  assert.equal(difference.atLeast, true);
  await documents.deleteMany({});
});

test('what happens on the source after the optime makes no difference, and what cannot be compared is named', async () => {
  const db = source.client.db('moving');
  await db.collection('written').updateMany({}, { $inc: { n: 1 } });
  await db.collection<Numbered>('written').deleteOne({ _id: 3 });
  await db.collection('renamed').rename('renamed since');
  await db.dropCollection('dropped');
  await db.collection('altered').createIndex({ n: 1 });
  await db.collection('born since').insertOne({ x: 1 });
  await db.createCollection('view since', { viewOn: 'written', pipeline: [] });
  await db.collection<Numbered>('ring').insertOne({ _id: 4 });
  await db.collection<Numbered>('ring').insertOne({ _id: 5 });
  await db.collection<Numbered>('clustered ring').insertOne({ _id: -1 });
  await source.client.db('going').dropDatabase();
  await source.client.db('going').collection('view').insertOne({ now: 'a collection' });
  const report = await prove();
  assert.deepEqual(
    report.differences.filter(({ namespace }) => /^(moving|going)\./.test(namespace)),
    [],
  );
  const left = report.notCompared.map(({ namespace }) => namespace).filter((name) => name.startsWith('moving.'));
  assert.deepEqual(left, ['moving.altered', 'moving.dropped', 'moving.renamed', 'moving.renamed since']);
  assert.equal(report.equal, false);

  await db.collection<Numbered>('ring').insertOne({ _id: 6 });
  const trimmed = await prove();
  assert.equal(
    trimmed.notCompared.some(({ namespace }) => namespace === 'moving.ring'),
    true,
  );
});

test('an optime that the oplog does not reach back to is not taken for equal', async () => {
  const report = await prove({ t: 1, i: 1 });
  assert.equal(report.equal, false);
  assert.deepEqual(report.notCompared, [
    { namespace: '*', reason: 'the oplog of the source no longer reaches back to that optime' },
  ]);
});

test('a copy that is one write behind, or one ahead, is found', async () => {
  const db = source.client.db('moving');
  const now = async (): Promise<Optime> =>
    fromTimestamp((await source.client.db('admin').command({ hello: 1 }))['lastWrite'].opTime.ts);
  await db.collection<Numbered>('in a transaction').insertOne({ _id: 100 });
  const one = await now();
  assert.equal(saysOf(await prove(one), 'moving.in a transaction'), 'missing 1 [{"$numberInt":"100"}]');
  const copy = twin.client.db('moving').collection<Numbered>('in a transaction');
  await copy.insertOne({ _id: 100 });
  assert.equal(saysOf(await prove(one), 'moving.in a transaction'), '');
  assert.equal(saysOf(await prove(twin.at), 'moving.in a transaction'), 'extra 1 [{"$numberInt":"100"}]');
});

test('an optime between the entries of one large transaction holds nothing of it', async () => {
  const { client } = source;
  const big = new Binary(Buffer.alloc(9 * 1024 * 1024));
  await client.withSession((session) =>
    session.withTransaction(async () => {
      await client.db('large').createCollection('made inside', { session });
      for (const n of [1, 2]) await client.db('large').collection('made inside').insertOne({ n, big }, { session });
    }),
  );
  const entries = await client
    .db('local')
    .collection('oplog.rs')
    .find({ 'o.partialTxn': true }, { projection: { ts: 1 } })
    .toArray();
  const [first] = entries;
  assert.ok(first?.['ts'] instanceof Timestamp, 'the transaction has several entries');
  const between = await prove(fromTimestamp(first['ts']));
  assert.equal(saysOf(between, 'large.made inside'), '');
  const after = await prove(fromTimestamp((await client.db('admin').command({ hello: 1 }))['lastWrite'].opTime.ts));
  assert.equal(saysOf(after, 'large.made inside'), 'namespace-missing 1');
});
