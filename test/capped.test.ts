/** Capped collections: a head takes out of them what its source does, when its source does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findBinary } from '../src/embedded/binaries.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { fields, int64, RawWire, rawDocument } from './support/raw-wire.ts';
import { startReplicaSet } from './support/replica-set.ts';

const CAPPED = { capped: true, size: 1 << 20 };

for (const version of [null, ...OTHER_VERSIONS]) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  test(
    `what a capped collection has no more room for is gone with the insert that pushed it out, on a mongod ${version ?? 'of most tests'}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startReplicaSet({ binary: found.path });
      const db = source.client.db('shop');
      await db.createCollection('few', { capped: true, size: 1 << 20, max: 3 });
      await db.createCollection('small', { capped: true, size: 65_536 });
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync();
      await path.validate();
      for (const name of ['few', 'small', 'made later']) {
        if (name === 'made later') await db.createCollection(name, { capped: true, size: 1 << 20, max: 2 });
        const text = 'x'.repeat(20_000);
        await db.collection(name).insertMany(Array.from({ length: 10 }, (_, n) => ({ n, text })));
      }
      await db.renameCollection('few', 'renamed');
      await db.collection('renamed').insertMany(Array.from({ length: 10 }, (_, n) => ({ n: n + 10 })));
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );

  test(
    `what only applyOps stores as it is keeps its bytes and its place in a capped collection, on a mongod ${version ?? 'of most tests'}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startReplicaSet({ binary: found.path });
      await using wire = await RawWire.open(source.members[0]?.address ?? { port: 0 });
      const db = source.client.db('shop');
      const insert = (name: string, first: number): Promise<void> =>
        wire.insertExactly(`shop.${name}`, [
          rawDocument([fields({ n: first, _id: first })]),
          rawDocument([fields({ _id: first + 1, plain: true })]),
          rawDocument([fields({ _id: first + 2 }), [0x11, 'zero', int64(0n)]]),
        ]);
      for (const name of ['log', 'plain']) await db.createCollection(name, name === 'log' ? CAPPED : {});
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      let first = 0;
      await path.initialSync(async (moment) => {
        for (const name of ['log', 'plain']) await insert(name, (first += 3));
        // Of another that is made and filled meanwhile every document is copied and applied as well.
        await db.createCollection(`during ${moment}`, CAPPED);
        await insert(`during ${moment}`, 0);
      });
      await path.validate();
      for (const name of ['log', 'plain', 'during listed']) await insert(name, 100);
      await db.command({ convertToCapped: 'plain', size: 1 << 20 });
      await insert('plain', 200);
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );

  test(
    `an _id that is used again while a capped collection is copied has its new place, on a mongod ${version ?? 'of most tests'}`,
    { skip: 'missing' in found ? found.missing : version === '4.4' && 'nobody can delete from one' },
    async () => {
      assert.ok('path' in found);
      await using source = await startReplicaSet({ binary: found.path });
      await using wire = await RawWire.open(source.members[0]?.address ?? { port: 0 });
      const log = source.client.db('shop').collection<{ _id: number; again?: number }>('log');
      await source.client.db('shop').createCollection('log', CAPPED);
      await log.insertMany([1, 2, 3, 4].map((_id) => ({ _id })));
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync(async (moment) => {
        // All of it is in the copy, and applied to that once more.
        if (moment !== 'listed') return;
        await log.deleteMany({ _id: { $lte: 3 } });
        await log.insertMany([1, 5].map((_id) => ({ _id, again: 1 })));
        await wire.insertExactly('shop.log', [rawDocument([fields({ again: 1, _id: 2 })])]);
        const applyOps = [6, 3, 7].map((_id) => ({ op: 'i', ns: 'shop.log', o: { _id, again: 1 } }));
        await source.client.db('admin').command({ applyOps });
        await log.insertOne({ _id: 8 });
      });
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );
}
