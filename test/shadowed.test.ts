/**
 * A collection beside the buckets of a time series of its name, which a race of the server's can leave behind: what is said of
 * indexes of the one is done to the other, so a head that has to build one stops there.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Db } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf } from './support/mongods.ts';
import { startReplicaSet } from './support/replica-set.ts';

const refused = (error: unknown): boolean =>
  isLifeboatError(error, 'ShadowedCollection') &&
  error.message.includes('shop.d is a collection, and shop.system.buckets.d');

/** As the loser of the race leaves them. */
async function makeBuckets(db: Db, name: string): Promise<void> {
  const timeseries = { timeField: 'at', metaField: 'meta' };
  await db.command({ create: `system.buckets.${name}`, timeseries, clusteredIndex: true });
}

for (const version of [null, '5.0', '6.0.27'] as const) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const skip = 'missing' in found && found.missing;
  const what = `mongod ${version ?? 'of most tests'}`;
  const withIndex = async (db: Db): Promise<void> => {
    await db.collection('d').insertOne({ n: 1 });
    await db.collection('d').createIndex({ n: 1 });
  };

  test(`a collection with an index beside a time series of its name is followed: ${what}`, { skip }, async () => {
    assert.ok('path' in found);
    await using source = await startReplicaSet({ binary: found.path });
    const shop = source.client.db('shop');
    await using path = await DataPath.open({ source: source.uri, mongod: found.path });
    await path.initialSync();
    await withIndex(shop);
    await makeBuckets(shop, 'd');
    const { differences, notCompared } = await path.prove();
    assert.deepEqual([differences, notCompared], [[], []]);
  });

  test(`its documents are its own, whatever they hold: ${what}`, { skip }, async () => {
    assert.ok('path' in found);
    await using source = await startReplicaSet({ binary: found.path });
    const shop = source.client.db('shop');
    await shop.collection('d').insertMany(Array.from({ length: 100 }, (_, n) => ({ at: new Date(n), n })));
    await makeBuckets(shop, 'd');
    await using path = await DataPath.open({ source: source.uri, mongod: found.path });
    await path.initialSync();
    const { differences, notCompared } = await path.prove();
    assert.deepEqual([differences, notCompared], [[], []]);
  });

  test(`its index cannot be built on a head, which stops the initial sync: ${what}`, { skip }, async () => {
    assert.ok('path' in found);
    await using source = await startReplicaSet({ binary: found.path });
    const shop = source.client.db('shop');
    await shop.collection('orders').insertOne({ n: 1 });
    await using path = await DataPath.open({ source: source.uri, mongod: found.path });
    const both = async (moment: string): Promise<void> => {
      if (moment !== 'planned') return;
      await withIndex(shop);
      await makeBuckets(shop, 'd');
    };
    await assert.rejects(path.initialSync(both), refused);
  });

  test(`a collection whose name a time series has after it is gone stops nothing: ${what}`, { skip }, async () => {
    assert.ok('path' in found);
    await using source = await startReplicaSet({ binary: found.path });
    const shop = source.client.db('shop');
    await using path = await DataPath.open({ source: source.uri, mongod: found.path });
    const one = async (): Promise<void> => {
      await shop.collection('d').insertOne({ n: 1 });
      await shop.collection('d').createIndex({ n: 1 });
      await shop.collection('d').drop();
      await shop.createCollection('d', { timeseries: { timeField: 'at' } });
      await shop.collection('d').insertOne({ at: new Date(), n: 1 });
    };
    // During the initial sync the entries meet what is there in the end.
    await path.initialSync((moment) => (moment === 'planned' ? one() : Promise.resolve()));
    await path.validate();
    await shop.collection('d').drop();
    await one();
    const { differences, notCompared } = await path.prove();
    assert.deepEqual([differences, notCompared], [[], []]);
  });
}
