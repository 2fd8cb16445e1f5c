import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MongoClient, ObjectId, UUID } from 'mongodb';
import { isLifeboatError } from '../src/shared/errors.ts';
import { EVERYTHING } from '../src/source/filter.ts';
import { listSource } from '../src/source/listing.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { listCollectionsToBuild, pendingCollections, saveListing } from '../src/syncstore/collections.ts';
import { startReplicaSet } from './support/replica-set.ts';
import { openSyncLab, stepContext } from './support/sync.ts';

test('a listing that a stopped twin saves after the copying takes nothing back, and adds nothing', async () => {
  await using lab = await openSyncLab();
  const { client } = lab.set;
  for (const name of ['a', 'b']) await client.db('x').collection(name).insertOne({ name });
  await client.db('x').createCollection('v', { viewOn: 'a', pipeline: [] });
  const deployment = await lab.begin();
  const { stores, fence } = deployment;
  const { listing } = await beginSync(stepContext(), deployment);
  assert.ok(listing);
  const twins = await listCollectionsToBuild(stores, fence.incarnation, listing);
  assert.ok(twins.collections.every(({ state }) => state === 'pending' || state === 'done'));
  await copySource(stepContext(), { ...deployment, slicesInFlight: 1 }, { maxMs: 60_000 });
  const states = async (): Promise<readonly string[]> => {
    const { collections, views } = await listCollectionsToBuild(stores, fence.incarnation, listing);
    return [...collections.map(({ db, name, state }) => `${db}.${name} ${state}`), ...views.map(({ _id }) => _id.name)];
  };
  const copied = await states();
  assert.ok(copied.includes('x.a done') && copied.includes('x.b done') && copied.includes('v'), copied.join());

  const [one] = twins.collections;
  assert.ok(one);
  const late = { ...one, _id: { ...one._id, uuid: new UUID() }, name: 'late', state: 'pending' as const };
  const collections = [...twins.collections.filter(({ name }) => name !== 'b'), late];
  await saveListing(stores, { collections, views: [] }, new ObjectId());
  assert.deepEqual(await states(), copied);
  assert.deepEqual(await pendingCollections(stores, fence.incarnation, listing), []);
});

test('views of a database that is dropped while it is listed are left out with it', async () => {
  await using source = await startReplicaSet({ setParameters: { enableTestCommands: true } });
  await using lister = await MongoClient.connect(source.uri, { appName: 'lister' });
  for (const name of ['x', 'y']) {
    await source.client.db(name).createCollection('a');
    await source.client.db(name).createCollection('v', { viewOn: 'a', pipeline: [] });
  }
  const admin = source.client.db('admin');
  const data = { failCommands: ['listIndexes'], blockConnection: true, blockTimeMS: 3_000, appName: 'lister' };
  const failPoint = { configureFailPoint: 'failCommand', mode: { times: 8 }, data };
  const { count } = await admin.command(failPoint);
  const listing = listSource(lister, EVERYTHING, AbortSignal.timeout(60_000));
  await admin.command({ waitForFailPoint: 'failCommand', timesEntered: Number(count) + 1, maxTimeMS: 60_000 });
  await source.client.db('x').dropDatabase();
  const { collections, views } = await listing;
  assert.deepEqual(
    [...collections, ...views].filter(({ db }) => db === 'x'),
    [],
  );
  assert.deepEqual(
    views.map(({ db, name }) => `${db}.${name}`),
    ['y.v'],
  );
});

test('an index that a server can build and cannot tell of is waited for', async () => {
  await using source = await startReplicaSet({ setParameters: { enableTestCommands: true } });
  const db = source.client.db('x');
  await db.createCollection('series', { timeseries: { timeField: 'at' } });
  const place = { type: 'Point', coordinates: [1, 2] };
  await db.collection('series').insertOne({ at: new Date(), place });
  const admin = source.client.db('admin');
  const configureFailPoint = 'hangAfterStartingIndexBuild';
  const { count } = await admin.command({ configureFailPoint, mode: 'alwaysOn' });
  const building = db.collection('series').createIndex({ place: '2dsphere' });
  const list = (): ReturnType<typeof listSource> => listSource(source.client, EVERYTHING, AbortSignal.timeout(60_000));
  try {
    await admin.command({
      waitForFailPoint: configureFailPoint,
      timesEntered: Number(count) + 1,
      maxTimeMS: 60_000,
    });
    await assert.rejects(list(), (error) => {
      assert.ok(isLifeboatError(error, 'SourceNotReady'), String(error));
      assert.match(error.message, /x\.system\.buckets\.series/);
      return true;
    });
  } finally {
    await admin.command({ configureFailPoint, mode: 'off' });
  }
  await building;
  const { collections } = await list();
  assert.equal(collections.find(({ name }) => name === 'system.buckets.series')?.indexes.length, 1);
});
