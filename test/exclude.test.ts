/** What a deployment leaves out stays out, and what is renamed into or out of it comes and goes with its name. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { Db, MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet } from './support/replica-set.ts';

// One of them is what a server calls collections that are on their way, too.
const EXCLUDE = ['logs.*', 'shop.tmp*', 'shop.hidden', 'shop.weather'];
/** Of each collection that goes in or out. */
const DOCUMENTS = 300;

async function fill(db: Db, name: string, documents = DOCUMENTS): Promise<void> {
  const collection = db.collection<{ _id: number; of: string; n: number }>(name);
  await collection.insertMany(Array.from({ length: documents }, (_, n) => ({ _id: n, of: name, n: n % 7 })));
  await collection.createIndex({ n: 1 });
}

/** Goes on changing a collection, whatever it is called. */
async function change(db: Db, name: string, n: number): Promise<void> {
  const collection = db.collection<{ _id: number; of: string; n: number }>(name);
  await collection.updateMany({ n: n % 7 }, { $inc: { n: 1 }, $set: { changed: n } });
  await collection.deleteOne({ _id: n });
  await collection.insertOne({ _id: 100_000 + n, of: 'changed', n });
}

/** All of it once, under names of its own. */
async function everyWay(client: MongoClient, at: string): Promise<void> {
  const [shop, logs] = [client.db('shop'), client.db('logs')];
  const n = at.length;
  // Out of what is left out, with more behind it.
  await fill(shop, `tmp_out_${at}`);
  await change(shop, `tmp_out_${at}`, 1);
  await shop.renameCollection(`tmp_out_${at}`, `out_${at}`);
  await change(shop, `out_${at}`, 2);
  await shop.collection(`out_${at}`).createIndex({ of: 1, n: 1 });
  await shop.collection(`out_${at}`).dropIndex('n_1');
  await shop.renameCollection(`out_${at}`, `further_${at}`);
  await change(shop, `further_${at}`, 3);
  // Over one that is there.
  await fill(shop, `tmp_over_${at}`);
  await fill(shop, `over_${at}`, 10);
  await shop.renameCollection(`tmp_over_${at}`, `over_${at}`, { dropTarget: true });
  // Into it, and over one that is left out.
  await fill(shop, `in_${at}`);
  await shop.renameCollection(`in_${at}`, `tmp_in_${at}`);
  await change(shop, `tmp_in_${at}`, 4);
  await fill(shop, `in2_${at}`);
  await shop.renameCollection(`in2_${at}`, `tmp_in_${at}`, { dropTarget: true });
  // Out and in again, out and gone, in and out again.
  await fill(shop, `tmp_back_${at}`);
  await shop.renameCollection(`tmp_back_${at}`, `back_${at}`);
  await change(shop, `back_${at}`, 5);
  await shop.renameCollection(`back_${at}`, `tmp_back_${at}`);
  await fill(shop, `tmp_gone_${at}`);
  await shop.renameCollection(`tmp_gone_${at}`, `gone_${at}`);
  await change(shop, `gone_${at}`, 6);
  await shop.dropCollection(`gone_${at}`);
  await fill(shop, `away_${at}`);
  await shop.renameCollection(`away_${at}`, `tmp_away_${at}`);
  await change(shop, `tmp_away_${at}`, 7);
  await shop.renameCollection(`tmp_away_${at}`, `away_${at}`);
  await change(shop, `away_${at}`, 8);
  // From one database to another, which the server does by copying.
  await fill(logs, `across_${at}`, 20);
  await client.db('admin').command({ renameCollection: `logs.across_${at}`, to: `shop.across_${at}` });
  await fill(shop, `across2_${at}`, 20);
  await client.db('admin').command({ renameCollection: `shop.across2_${at}`, to: `logs.across2_${at}` });
  // By an aggregation.
  await shop
    .collection(`over_${at}`)
    .aggregate([{ $out: `tmp_report_${at}` }])
    .toArray();
  await shop
    .collection(`over_${at}`)
    .aggregate([{ $out: 'hidden' }])
    .toArray();
  await shop
    .collection(`over_${at}`)
    .aggregate([{ $out: `report_${at}` }])
    .toArray();
  // Of both in one transaction.
  await client.withSession((session) =>
    session.withTransaction(async () => {
      await shop.collection('kept').insertOne({ n, at }, { session });
      await shop.collection('hidden').insertOne({ n, at }, { session });
    }),
  );
  // A name that a view has by the time that it is read.
  await fill(shop, `tmp_named_${at}`, 10);
  await shop.renameCollection(`tmp_named_${at}`, `named_${at}`);
  await shop.renameCollection(`named_${at}`, `tmp_named_${at}`);
  await shop.createCollection(`named_${at}`, { viewOn: 'kept', pipeline: [] });
  await shop.renameCollection(`tmp_named_${at}`, `renamed_${at}`);
  // A capped one, made so in place.
  await fill(shop, `tmp_capped_${at}`, 10);
  await shop.command({ convertToCapped: `tmp_capped_${at}`, size: 1 << 20 });
  await shop.renameCollection(`tmp_capped_${at}`, `capped_${at}`);
  await shop.collection(`capped_${at}`).insertOne({ n });
  await shop.createCollection(`tmp_view_${at}`, { viewOn: 'kept', pipeline: [] });
  await shop.createCollection(`view_${at}`, { viewOn: 'hidden', pipeline: [{ $match: { n } }] });
  await shop.command({ collMod: `tmp_view_${at}`, viewOn: 'kept', pipeline: [{ $match: { n } }] });
  if (n % 2 === 0) await shop.dropCollection(`tmp_view_${at}`);
}

async function prepare(client: MongoClient, series: boolean): Promise<void> {
  const shop = client.db('shop');
  await fill(shop, 'kept');
  await fill(shop, 'hidden');
  await fill(client.db('logs'), 'a');
  await client.db('logs').createCollection('view', { viewOn: 'a', pipeline: [] });
  if (!series) return;
  for (const name of ['weather', 'climate']) {
    await shop.createCollection(name, { timeseries: { timeField: 't' } });
    await shop.collection(name).insertOne({ t: new Date(0), degrees: 20 });
  }
}

/** Everything on a head that should not be there. */
async function leftOutOn(path: DataPath): Promise<string[]> {
  await using head = await path.connectHead();
  const { databases } = await head.db('admin').admin().listDatabases();
  const shop = await head.db('shop').listCollections().toArray();
  return [
    ...databases.map(({ name }) => name).filter((name) => name === 'logs'),
    ...shop.map(({ name }) => name).filter((name) => /^tmp_|^hidden$|weather$/.test(name)),
  ];
}

for (const version of [null, ...OTHER_VERSIONS]) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  test(
    `what is renamed out of, into and about the list comes right, during an initial sync and after it: mongod ${version ?? 'of most tests'}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startReplicaSet({ binary: found.path });
      await prepare(source.client, version !== '4.4');
      await using path = await DataPath.open({ source: source.uri, mongod: found.path, exclude: EXCLUDE });
      await path.initialSync((moment) => everyWay(source.client, moment));
      const validation = await path.validate();
      assert.deepEqual([validation.state, validation.repaired], ['equal', []]);
      const first = await path.prove();
      assert.deepEqual([first.differences, await leftOutOn(path)], [[], []]);
      assert.ok(first.comparedDocuments > DOCUMENTS, String(first.comparedDocuments));
      await everyWay(source.client, 'later');
      await source.client.db('logs').dropDatabase();
      await fill(source.client.db('logs'), 'again');
      const { differences } = await path.prove();
      assert.deepEqual([differences, await leftOutOn(path)], [[], []]);
      const snapshot = await path.snapshot();
      assert.deepEqual([snapshot.verification.state, snapshot.verification.different], ['equal', []]);
      const manifest = await path.stores.manifests.findOne({ _id: snapshot.id });
      assert.deepEqual(manifest?.exclude, EXCLUDE);
    },
  );
}

test('a head that is killed and a step that is cut while a collection comes in leave no half of one', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  await using source = await startReplicaSet();
  await prepare(source.client, true);
  await using path = await DataPath.open({ source: source.uri, exclude: EXCLUDE });
  await path.initialSync();
  await path.validate();
  path.disturb({ random, withinMs: 300, twins: 0.2, killHeadWithinMs: 1_500 });
  for (let round = 1; round <= 2; round += 1) {
    const shop = source.client.db('shop');
    await fill(shop, `tmp_large_${round}`, 20_000);
    const large = shop.collection<{ _id: number; bytes: Buffer }>(`tmp_large_${round}`);
    // Several pieces of what is asked for at a time.
    for (let n = 0; n < 6; n += 1) {
      const documents = Array.from({ length: 40 }, (_, k) => ({ _id: -1 - n * 40 - k, bytes: randomBytes(100_000) }));
      await large.insertMany(documents);
    }
    await shop.renameCollection(`tmp_large_${round}`, `large_${round}`);
    await change(shop, `large_${round}`, round);
    await everyWay(source.client, `round${round}`);
    await path.applyUntil(await path.newest());
  }
  path.disturb(undefined);
  const { differences } = await path.prove();
  assert.deepEqual([differences, await leftOutOn(path)], [[], []]);
  assert.ok(path.disturbed.cut > 0 && path.disturbed.kills > 0, JSON.stringify(path.disturbed));
});

test('a head made from a snapshot holds to the list that the snapshot was taken with', async () => {
  await using source = await startReplicaSet();
  await prepare(source.client, true);
  await using path = await DataPath.open({ source: source.uri, exclude: EXCLUDE });
  await path.initialSync();
  await path.validate();
  await path.snapshot();
  await everyWay(source.client, 'between');
  await path.loseHead();
  await everyWay(source.client, 'after');
  const { differences } = await path.prove();
  assert.deepEqual([differences, await leftOutOn(path)], [[], []]);
});
