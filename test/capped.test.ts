/** Capped collections: a head takes out of them what its source does, when its source does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findBinary } from '../src/embedded/binaries.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { startReplicaSet } from './support/replica-set.ts';

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
}
