/** A head is compared with its source, and what differs comes right, before the initial sync's slices go. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Binary, type MongoClient, type ObjectId } from 'mongodb';
import { BSON } from 'bson';
import { isInRepair, OPEN_ENDED } from '../src/head/state.ts';
import { errorKind, isLifeboatError } from '../src/shared/errors.ts';
import type { ValidationRecord } from '../src/stores/records.ts';
import { discardIncarnation } from '../src/activities/discard.ts';
import { claimBackup, fenceOf } from '../src/stores/claims.ts';
import { ValidationLog } from '../src/validation/log.ts';
import { cliFolder } from './support/cli.ts';
import { DataPath, type DataPathOptions } from './support/data-path.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { stepContext } from './support/sync.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';

async function filledSource(random: Random): Promise<TestReplicaSet> {
  const source = await startReplicaSet({ name: 'source' });
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  return source;
}

/** A head that is whole and not validated, with ranges of a hundred documents. */
async function wholeHead(source: TestReplicaSet, options: Partial<DataPathOptions> = {}): Promise<DataPath> {
  const path = await DataPath.open({ source: source.uri, rangeDocuments: 100, ...options });
  try {
    await path.initialSync();
    return path;
  } catch (error) {
    await path[Symbol.asyncDispose]();
    throw error;
  }
}

function seeded(t: TestContext): Random {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  return random;
}

async function assertEqual(path: DataPath, forgotten: readonly string[] = []): Promise<void> {
  const { differences, notCompared } = await path.prove();
  assert.deepEqual(differences, []);
  assert.deepEqual(
    notCompared.filter(({ namespace }) => !forgotten.includes(namespace)),
    [],
  );
}

/** `namespace kind count`, sorted, of what a report says came right. */
function repairs({ repaired }: ValidationRecord): string[] {
  return repaired.map(({ namespace, kind, count }) => `${namespace} ${kind} ${count}`).sort();
}

function idsOf(report: ValidationRecord, namespace: string, kind: string): unknown[] {
  const found = report.repaired.find((one) => one.namespace === namespace && one.kind === kind);
  return (found?.ids ?? []).map((id) => BSON.deserialize(id.buffer)['_id'] as unknown);
}

type Numbered = Document & { readonly _id: number };
type Document = Record<string, unknown>;

/** Spoils a head of `fillBase` through its own connection: documents missing, wrong and extra. */
async function spoil(head: MongoClient): Promise<void> {
  const base = head.db('base');
  const items = base.collection<Numbered>('items');
  await items.deleteMany({ _id: { $gte: 500, $lt: 650 } });
  await items.updateMany({ _id: { $in: [3, 1_999] } }, { $set: { stock: -1 } });
  await items.insertMany([{ _id: 1_000_000 }, { _id: -1 }, { _id: 7.5 }]);
  await base.collection<{ _id: string }>('collated').deleteOne({ _id: 'Clé-5' });
  await base.collection<{ _id: string }>('collated').updateOne({ _id: 'Clé-7' }, { $set: { n: 'wrong' } });
  await base.collection<{ _id: string }>('clustered').deleteOne({ _id: 'k17' });
  await base.collection<{ _id: string; n: number }>('clustered').insertOne({ _id: 'a', n: 0 });
  await base.collection('everyId').deleteMany({});
  const bucket = await base.collection('system.buckets.series').findOne({});
  await base.collection('system.buckets.series').deleteOne({ _id: bucket?._id as ObjectId });
  await head.db('many1').collection<{ _id: number }>('c1').deleteMany({});
  await head.db('admin').collection<{ _id: string }>('system.users').deleteOne({ _id: 'admin.keeper' });
}

test('a head of every kind of collection is found equal; a capped one is reported as not compared', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source);
  assert.ok((await path.stores.slices.countDocuments()) > 0);
  const report = await path.validate();
  assert.equal(report.state, 'equal');
  assert.deepEqual(report.repaired, []);
  assert.deepEqual(
    report.notCompared.map(({ namespace }) => namespace),
    ['base.capped'],
  );
  assert.ok(report.ranges > report.collections, 'no collection was compared in more than one range');
  assert.ok(report.documents >= SMALL_BASE.items + SMALL_BASE.tiny, `only ${report.documents} documents`);
  assert.equal(await path.stores.slices.countDocuments(), 0, 'the slices are gone once the head is validated');
  assert.equal(await path.stores.validationCollections.countDocuments(), 0);
});

test('documents that are missing, wrong or extra on a head are found and come right', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source);
  await using head = await path.connectHead();
  await spoil(head);
  const everyId = await source.client.db('base').collection('everyId').countDocuments();
  const report = await path.validate();
  assert.equal(report.state, 'equal');
  assert.deepEqual(repairs(report), [
    'admin.system.users missing 1',
    'base.clustered extra 1',
    'base.clustered missing 1',
    'base.collated different 1',
    'base.collated missing 1',
    `base.everyId missing ${everyId}`,
    'base.items different 2',
    'base.items extra 3',
    'base.items missing 150',
    'base.system.buckets.series missing 1',
    'many1.c1 missing 3',
  ]);
  assert.deepEqual(idsOf(report, 'base.collated', 'missing'), ['Clé-5']);
  assert.deepEqual(idsOf(report, 'base.items', 'different').sort(), [1_999, 3]);
  await assertEqual(path);
});

test('a document that a unique index refuses while it is fetched anew comes right with the one in its way', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source);
  await using head = await path.connectHead();
  const unique = head.db('base').collection<{ _id: number; key: number }>('unique');
  // In another range than the one that has taken its key: neither can be put right alone.
  await unique.deleteOne({ _id: 7 });
  await unique.updateOne({ _id: 150 }, { $set: { key: 7 } });
  const report = await path.validate();
  assert.deepEqual(repairs(report), ['base.unique different 1', 'base.unique missing 1']);
  await assertEqual(path);
});

test('a head that is spoiled before and while the source is written to comes right', async (t) => {
  const random = seeded(t);
  await using source = await filledSource(random);
  await using path = await wholeHead(source);
  await using head = await path.connectHead();
  const items = head.db('base').collection<Numbered>('items');
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, catalog: false });
  try {
    await items.deleteMany({ _id: { $lt: 400 } });
    await items.updateMany({ _id: { $gte: 1_000, $lt: 1_100 } }, { $set: { sku: 'wrong' } });
    const validating = path.validate();
    await until(async () => (await path.stores.validations.findOne({}))?.stage === 'server', 'it has begun');
    await items.deleteMany({ _id: { $gte: 1_500, $lt: 1_600 } });
    const report = await validating;
    assert.equal(report.state, 'equal');
    assert.ok(report.repaired.some(({ namespace, kind }) => namespace === 'base.items' && kind === 'missing'));
    await writers.takeSteps(200);
  } finally {
    t.diagnostic(JSON.stringify(Object.fromEntries(await writers.stop())));
  }
  await assertEqual(path, ['base.capped']);
});

for (const name of OTHER_VERSIONS) {
  const found = await mongodOf(name);
  const skip = 'missing' in found ? found.missing : false;
  test(`plain collections on a mongod ${name} come right while they are written to`, { skip }, async (t) => {
    assert.ok('path' in found);
    await comeRight(t, found.path);
  });
}

async function comeRight(t: TestContext, mongod: string): Promise<void> {
  const random = seeded(t);
  await using source = await startReplicaSet({ name: 'source', binary: mongod });
  const db = source.client.db('plain');
  const people = db.collection<Numbered>('people');
  await people.insertMany(Array.from({ length: 1_000 }, (_, _id) => ({ _id, name: `n${_id}`, key: _id })));
  await people.createIndex({ key: 1 }, { unique: true });
  const collation = { locale: 'fr', strength: 1 };
  const words = await db.createCollection<{ _id: string; n: number }>('words', { collation });
  await words.insertMany(Array.from({ length: 300 }, (_, n) => ({ _id: `É${n}`, n })));
  await db.createCollection('ring', { capped: true, size: 100_000 });
  await db.collection('ring').insertOne({ here: true });
  await source.client.db('admin').command({ createUser: 'keeper', pwd: 'not a secret', roles: ['backup'] });
  await using path = await wholeHead(source, { mongod });
  await using head = await path.connectHead();
  await head
    .db('plain')
    .collection<Numbered>('people')
    .deleteMany({ _id: { $gte: 100, $lt: 350 } });
  await head
    .db('plain')
    .collection<Numbered>('people')
    .updateOne({ _id: 900 }, { $set: { key: 100 } });
  await head.db('plain').collection<{ _id: string }>('words').deleteOne({ _id: 'É7' });
  await head.db('plain').collection<{ _id: string }>('words').insertOne({ _id: 'zzz' });
  let ended = false;
  const writing = (async () => {
    while (!ended) {
      await people.updateOne({ _id: random.below(1_000) }, { $set: { name: `m${random.below(99)}` } });
      await delay(5);
    }
  })();
  let report: ValidationRecord;
  try {
    report = await path.validate();
  } finally {
    ended = true;
    await writing;
  }
  t.diagnostic(JSON.stringify({ notCompared: report.notCompared, round: report.round }));
  assert.equal(report.state, 'equal');
  const kinds = repairs(report).map((one) => one.split(' ').slice(0, 2).join(' '));
  for (const kind of ['plain.people missing', 'plain.people different', 'plain.words missing', 'plain.words extra']) {
    assert.ok(kinds.includes(kind), `${kind} is not in ${kinds.join(', ')}`);
  }
  assert.deepEqual(
    report.notCompared.map(({ namespace }) => namespace),
    ['plain.ring'],
  );
  await assertEqual(path, ['plain.ring']);
}

test('a head that is made wrong again after each repair fails the sync with a report, and its slices stay', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source);
  await using head = await path.connectHead();
  const tiny = head.db('base').collection<Numbered>('tiny');
  await tiny.updateOne({ _id: 42 }, { $set: { n: 'wrong' } });
  let ended = false;
  const spoiling = (async () => {
    while (!ended) await tiny.updateOne({ _id: 42 }, { $set: { n: 'wrong' } });
  })();
  await assert.rejects(path.validate(), (error) => isLifeboatError(error, 'ValidationFailed'));
  // What runs the step again learns the same, from the same report.
  await assert.rejects(path.validateFor(stepContext()), (error) => isLifeboatError(error, 'ValidationFailed'));
  ended = true;
  await spoiling;
  const report = await path.validation();
  assert.equal(report.state, 'different');
  assert.equal(report.round, 5);
  const told = report.failed.map(({ namespace, kind, count, ids }) => [namespace, kind, count, ids.length]);
  assert.deepEqual(told, [['base.tiny', 'different', 1, 1]]);
  assert.ok((await path.stores.slices.countDocuments()) > 0);

  await using cli = await cliFolder();
  const env = { LIFEBOAT_BLOCKSTORE_URI: path.storesUri };
  const { code, document } = await cli.json(['validations', 'show', report._id], { env });
  assert.equal(code, 0);
  assert.equal(document['state'], 'different');
  const names: string[] = [];
  assert.deepEqual(document['failed'], [
    { namespace: 'base.tiny', kind: 'different', count: 1, ids: [{ $numberInt: '42' }], names },
  ]);
  const list = await cli.json(['validations', 'list', 'shop'], { env });
  assert.deepEqual(
    (list.document['validations'] as Document[]).map(({ id, failed }) => [id, failed]),
    [[report._id, 1]],
  );
  const unknown = await cli.json(['validations', 'show', 'nothing'], { env });
  assert.deepEqual([unknown.code, unknown.document.error?.code], [1, errorKind('UnknownValidation').code]);
  const text = await cli.run(['validations', 'show', report._id], { env });
  assert.match(text.stdout, /base\.tiny: 1 different \(\{"\$numberInt":"42"\}\)/);
});

test('a collection, an index or an option that a head lacks fails the sync with a report', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source);
  await using head = await path.connectHead();
  await head.db('base').collection('unique').dropIndexes();
  await head.db('base').command({ collMod: 'validated', validator: {} });
  await head.db('base').collection('images').drop();
  await head.db('base').createCollection('not on the source');
  await assert.rejects(path.validate(), (error) => isLifeboatError(error, 'ValidationFailed'));
  const told = (await path.validation()).failed.map(({ namespace, kind }) => `${namespace} ${kind}`);
  assert.deepEqual(told.sort(), [
    'base.images namespace-missing',
    'base.not on the source namespace-extra',
    'base.unique indexes',
    'base.validated options',
  ]);
});

test('a collection beside the buckets of a time series that was made by half has its own indexes', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  const db = source.client.db('shop');
  await db.createCollection('view', { viewOn: 'c', pipeline: [], collation: { locale: 'de' } });
  // The view of another collation refuses the one in front of the buckets, which are there by then (6.0.5).
  await assert.rejects(db.createCollection('c', { timeseries: { timeField: 'at' } }), {
    codeName: 'OptionNotSupportedOnView',
  });
  await db.collection('c').createIndex({ n: 1 });
  await db.createCollection('c');
  const found = await db.listCollections({}, { nameOnly: true }).toArray();
  assert.deepEqual(found.map(({ name }) => name).sort(), ['c', 'system.buckets.c', 'system.views', 'view']);
  await using path = await wholeHead(source);
  const { state, repaired } = await path.validate();
  assert.deepEqual([state, repaired], ['equal', []]);
  await assertEqual(path);
});

test('collections that are dropped, renamed and made while a head is validated are no difference', async (t) => {
  const random = seeded(t);
  await using source = await filledSource(random);
  await using path = await wholeHead(source);
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, writers: 1, pauseMs: 2 });
  let report: ValidationRecord;
  try {
    await writers.takeSteps(100);
    report = await path.validate();
    await writers.takeSteps(100);
  } finally {
    t.diagnostic(JSON.stringify(Object.fromEntries(await writers.stop())));
  }
  assert.equal(report.state, 'equal');
  assert.deepEqual(report.repaired, []);
  await assertEqual(path, ['base.capped']);
});

test('a validation that is cut short at any moment, its head killed, goes on where it was', async (t) => {
  const random = seeded(t);
  await using source = await filledSource(random);
  const disturb = { random, withinMs: 400, twins: 0.1, killHeadWithinMs: 2_500 };
  await using path = await wholeHead(source);
  const head = await path.connectHead();
  await spoil(head);
  await head.close();
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, writers: 1, catalog: false });
  let report: ValidationRecord;
  try {
    path.disturb(disturb);
    report = await path.validate();
  } finally {
    path.disturb(undefined);
    await writers.stop();
  }
  t.diagnostic(JSON.stringify(path.disturbed));
  assert.equal(report.state, 'equal');
  assert.ok(report.repaired.length > 0);
  await assertEqual(path, ['base.capped']);
});

test('a head that is killed while documents are fetched anew is inconsistent until all of them were', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source, { rangeDocuments: 10 });
  const head = await path.connectHead();
  const tiny = head.db('base').collection<Numbered>('tiny');
  await tiny.updateMany({ _id: { $gte: 1_000, $lt: 4_000 } }, { $set: { n: 'wrong' } });
  const wrong = (): Promise<number> => tiny.countDocuments({ n: 'wrong' });
  const kill = async (): Promise<void> => {
    await until(async () => (await wrong()) < 2_900, 'some of them are fetched anew');
    process.kill(await path.headPid(), 'SIGKILL');
  };
  const [outcome] = await Promise.allSettled([path.validateFor(stepContext(), 60_000), kill()]);
  await head.close();
  assert.equal(outcome.status, 'rejected');
  // The next turn opens it anew, and finds the mark.
  await path.head.attempt('build').turn(() => Promise.resolve());
  assert.equal(isInRepair(path.head.state().position), true);
  assert.deepEqual(path.head.state().position?.inconsistentUntil, OPEN_ENDED);
  const report = await path.validate();
  assert.deepEqual(repairs(report), ['base.tiny different 3000']);
  await assertEqual(path);
});

test('what was compared before the head was killed is not compared again', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await wholeHead(source, { rangeDocuments: 1 });
  const kill = async (): Promise<void> => {
    const ranges = async (): Promise<number> => (await path.stores.validations.findOne({}))?.ranges ?? 0;
    await until(async () => (await ranges()) > 0, 'it has compared some');
    process.kill(await path.headPid(), 'SIGKILL');
  };
  await Promise.allSettled([path.validateFor(stepContext(), 60_000), kill()]);
  const atKill = await path.validation();
  assert.ok(atKill.ranges > 0);
  const report = await path.validate();
  assert.equal(report._id, atKill._id);
  assert.ok(report.documents > atKill.documents, 'it was killed too late');
  const { comparedDocuments } = await path.prove();
  const capped = await source.client.db('base').collection('capped').countDocuments();
  assert.equal(report.documents, comparedDocuments - capped, 'each document was compared once');
});

test('what a source with too short a history cannot read as it was is reported as not compared, never as empty', async () => {
  const setParameters = { minSnapshotHistoryWindowInSeconds: 0 };
  await using source = await startReplicaSet({ name: 'source', setParameters });
  const notes = source.client.db('notes').collection<Numbered>('notes');
  await notes.insertMany(Array.from({ length: 500 }, (_, _id) => ({ _id })));
  await using path = await wholeHead(source);
  let ended = false;
  const writing = Array.from({ length: 2 }, async (_, own) => {
    const counters = source.client.db('notes').collection<{ _id: number; n: number }>('counters');
    while (!ended) await counters.updateOne({ _id: own }, { $inc: { n: 1 } }, { upsert: true });
  });
  let report: ValidationRecord;
  try {
    report = await path.validate();
  } finally {
    ended = true;
    await Promise.all(writing);
  }
  assert.equal(report.state, 'equal');
  assert.deepEqual(report.repaired, []);
  assert.ok(report.notCompared.length > 0);
  for (const { reason } of report.notCompared) assert.match(reason, /SnapshotTooOld|SnapshotUnavailable/);
});

test('the validation of an initial sync that was given up is so, and leaves no progress', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  await source.client.db('notes').collection<Numbered>('notes').insertOne({ _id: 1 });
  await using path = await wholeHead(source);
  const { stores, fence } = path;
  const [deployment = ''] = fence.key.split('/');
  const log = await ValidationLog.open(stores, fence, { deployment, member: 'source', inRepair: false });
  await log.list([{ uuid: 'a'.repeat(32), db: 'notes', name: 'notes', notCompared: null }]);
  const replace = fence.incarnation.toHexString();
  const { member } = await claimBackup(stores, { deployment, claimant: 'here', replace });
  assert.ok(member);
  await discardIncarnation(stepContext(), stores, fenceOf(member), replace);
  const report = await path.validation();
  assert.equal(report.state, 'given-up');
  assert.ok(report.endedAt);
  assert.equal(await stores.validationCollections.countDocuments(), 0);
  await assert.rejects(log.end('equal'), (error) => isLifeboatError(error, 'FenceLost'));
});

test('memory is bounded on ranges of large documents, equal or not', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  const large = source.client.db('large').collection<{ _id: number; bytes: Binary }>('documents');
  const random = new Random(7);
  for (let _id = 0; _id < 24; _id++) await large.insertOne({ _id, bytes: new Binary(random.bytes(8_000_000)) });
  await using path = await wholeHead(source, { rangeDocuments: 1_000 });
  await using head = await path.connectHead();
  await head
    .db('large')
    .collection<{ _id: number }>('documents')
    .updateOne({ _id: 12 }, { $set: { x: 1 } });
  globalThis.gc?.();
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
  const before = process.memoryUsage().rss;
  const report = await path.validate();
  clearInterval(watch);
  assert.deepEqual(repairs(report), ['large.documents different 1']);
  assert.ok(most - before < 350_000_000, `${Math.round((most - before) / 1e6)} MB more than before`);
});

for (const version of [null, ...OTHER_VERSIONS]) {
  const found = version === null ? null : await mongodOf(version);
  const skip = found && 'missing' in found ? found.missing : false;
  test(
    `documents older than a validator that refuses them are sound, on a mongod ${version ?? 'of most tests'}`,
    { skip },
    async () => {
      const binary = found && 'path' in found ? { binary: found.path } : {};
      await using source = await startReplicaSet({ name: 'source', ...binary });
      const unruly = source.client.db('shop').collection<{ _id: number; n: number }>('unruly');
      await unruly.insertMany([1, 2, 3].map((_id) => ({ _id, n: -_id })));
      await unruly.createIndex({ n: 1 });
      await source.client
        .db('shop')
        .command({ collMod: 'unruly', validator: { n: { $gte: 0 } }, validationAction: 'error' });
      await using path = await wholeHead(source, found && 'path' in found ? { mongod: found.path } : {});
      const { state, repaired } = await path.validate();
      assert.deepEqual([state, repaired], ['equal', []]);
      await assertEqual(path);
    },
  );
}
