import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Binary, BSON, Code, Decimal128, Double, Int32, Long, MaxKey, MinKey, ObjectId, Timestamp } from 'mongodb';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { readMember } from '../src/stores/members.ts';
import { listCollectionsToBuild } from '../src/syncstore/collections.ts';
import { readChain } from '../src/syncstore/slices.ts';
import {
  digest,
  listed,
  openSyncLab,
  sourceDocuments,
  stepContext,
  storedDocuments,
  type SyncLab,
} from './support/sync.ts';

const LONG = { maxMs: 120_000 };
const KIB = 1024;

let lab: SyncLab;
before(async () => {
  lab = await openSyncLab();
});
after(() => lab?.[Symbol.asyncDispose]());

test('what is copied is the raw bytes of the source, for every type of _id and of field', async () => {
  const { client } = lab.set;
  const ids = [
    new Double(1.5), 'a', { b: 1 }, new Binary(Buffer.from([1, 2])), new ObjectId(), true, new Date(7), null,
    new Code('1'), new Int32(7), new Timestamp({ t: 9, i: 9 }), Long.fromNumber(2 ** 53), Decimal128.fromString('1.20'),
    new MinKey(), new MaxKey(), new Binary(Buffer.alloc(16, 1), 4),
  ]; // prettier-ignore
  const documents = ids.map((_id, n) => ({
    _id,
    b: n,
    1: 'one',
    0: 'zero',
    two: new Double(2),
    zero: new Timestamp({ t: 0, i: 0 }),
  }));
  await client
    .db('types')
    .collection('every')
    .insertMany(documents as never[]);
  const deployment = await lab.begin();
  await beginSync(stepContext(), deployment);
  assert.equal((await copySource(stepContext(), { ...deployment, slicesInFlight: 4 }, LONG)).finished, true);
  const [source, stored] = [
    await sourceDocuments(client, 'types.every'),
    await storedDocuments(deployment, 'types.every'),
  ];
  assert.equal(stored.length, ids.length);
  assert.equal(digest(stored), digest(source));
});

test('a copy that is cut short goes on behind its last slice, and each document is read once', async () => {
  const { client } = lab.set;
  const text = 'x'.repeat(1_000);
  await client
    .db('cut')
    .collection<{ _id: number; text: string }>('long')
    .insertMany(Array.from({ length: 20_000 }, (_, _id) => ({ _id, text })));
  const deployment = await lab.begin();
  await beginSync(stepContext(), deployment);
  const parts = { ...deployment, slicesInFlight: 2, sliceBytes: 512 * KIB };
  let [runs, slices] = [0, 0];
  for (;;) {
    const { finished, slicesStored } = await copySource(stepContext(), parts, { maxMs: 40 });
    runs += 1;
    slices += slicesStored;
    if (finished) break;
  }
  assert.ok(runs > 2, `only ${runs} runs: it was never cut`);
  const { _id } = await listed(deployment, 'cut.long');
  const chain = await readChain(lab.stores, _id.incarnation, _id.uuid);
  assert.ok(chain.complete && chain.nextSeq === chain.slices.length);
  const stored = await storedDocuments(deployment, 'cut.long');
  assert.equal(stored.length, 20_000);
  assert.equal(digest(stored), digest(await sourceDocuments(client, 'cut.long')));
  assert.ok(slices >= chain.slices.length);
});

test('what is listed: options, finished indexes and views raw; config collections to be empty; nothing that is excluded', async () => {
  const { client } = lab.set;
  const db = client.db('listing');
  await db.createCollection('empty', { validator: { a: { $exists: true } }, collation: { locale: 'de' } });
  await db.collection('empty').createIndex({ a: 1 }, { unique: true });
  await db.createCollection('seen', { viewOn: 'empty', pipeline: [{ $match: {} }] });
  await db.createCollection('series', { timeseries: { timeField: 'at' } });
  const session = client.startSession();
  await session.withTransaction(() =>
    client.db('types').collection('every').insertOne({ in: 'a transaction' }, { session }),
  );
  await session.endSession();
  const deployment = await lab.begin();
  await beginSync(stepContext(), deployment);
  assert.ok((await copySource(stepContext(), { ...deployment, slicesInFlight: 4 }, LONG)).finished);
  const { collections, views } = await listCollectionsToBuild(lab.stores, deployment.fence.incarnation);
  const names = collections.map(({ db: of, name }) => `${of}.${name}`);
  assert.ok(
    ['listing.system.views', 'listing.system.buckets.series', 'listing.empty'].every((ns) => names.includes(ns)),
  );
  assert.ok(
    !names.some((ns) => ns.startsWith('local.') || ns === 'config.system.sessions' || ns === 'admin.system.keys'),
  );
  assert.deepEqual(
    views.map(({ _id, type }) => [_id.name, type]),
    [
      ['seen', 'view'],
      ['series', 'timeseries'],
    ],
  );
  const empty = await listed(deployment, 'listing.empty');
  assert.equal(BSON.deserialize(empty.options.buffer)['collation'].locale, 'de');
  assert.deepEqual(
    empty.indexes.map((spec) => String(BSON.deserialize(spec.buffer)['name'])),
    ['_id_', 'a_1'],
  );
  const chain = await readChain(lab.stores, empty._id.incarnation, empty._id.uuid);
  assert.deepEqual([chain.complete, chain.slices.length, chain.slices[0]?.documents], [true, 1, 0]);
  const transactions = await listed(deployment, 'config.transactions');
  assert.equal(transactions.state, 'done');
  assert.equal((await readChain(lab.stores, empty._id.incarnation, transactions._id.uuid)).slices.length, 0);
});

test('a begun sync keeps its plan, and a finished copy its stop', async () => {
  const deployment = await lab.begin();
  const plan = await beginSync(stepContext(), deployment);
  assert.deepEqual(await beginSync(stepContext(), deployment), plan);
  assert.equal(plan.stage, 'copy');
  await copySource(stepContext(), { ...deployment, slicesInFlight: 4 }, LONG);
  const { sync } = await readMember(lab.stores, deployment.fence);
  await copySource(stepContext(), { ...deployment, slicesInFlight: 4 }, LONG);
  assert.ok(sync?.stop);
  assert.deepEqual((await readMember(lab.stores, deployment.fence)).sync, sync);
});
