import assert from 'node:assert/strict';
import { test } from 'node:test';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { listCollectionsToBuild, pendingCollections, saveListing } from '../src/syncstore/collections.ts';
import { openSyncLab, stepContext } from './support/sync.ts';

test('a listing that a stopped twin saves after the copying takes nothing back, and a new one leaves out what is gone', async () => {
  await using lab = await openSyncLab();
  const { client } = lab.set;
  for (const name of ['a', 'b']) await client.db('x').collection(name).insertOne({ name });
  await client.db('x').createCollection('v', { viewOn: 'a', pipeline: [] });
  const deployment = await lab.begin();
  const { stores, fence } = deployment;
  await beginSync(stepContext(), deployment);
  const twins = await listCollectionsToBuild(stores, fence.incarnation);
  assert.ok(twins.collections.every(({ state }) => state === 'pending' || state === 'done'));
  await copySource(stepContext(), { ...deployment, slicesInFlight: 1 }, { maxMs: 60_000 });
  const copied = await listCollectionsToBuild(stores, fence.incarnation);

  await saveListing(stores, fence.incarnation, twins);
  assert.deepEqual(await pendingCollections(stores, fence.incarnation), []);
  assert.deepEqual(await listCollectionsToBuild(stores, fence.incarnation), copied);

  const collections = copied.collections.filter(({ name }) => name !== 'b');
  await saveListing(stores, fence.incarnation, { collections, views: [] });
  assert.deepEqual(await listCollectionsToBuild(stores, fence.incarnation), { collections, views: [] });
});
