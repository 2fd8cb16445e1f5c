/** Clustered collections, whose documents a server finds by a key made of `_id`, from which it cannot always read that `_id`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Decimal128, Double, Long } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf } from './support/mongods.ts';
import { startReplicaSet } from './support/replica-set.ts';

// A number of one type is the same key as that number of another.
const decimals = ['0.1', '-0.7', '2.50', '1E6000'].map((text) => Decimal128.fromString(text));
const doubles = [-0.5, 0.5, 1e10 + 0.5, 1e300, -1e300, 5e-324, NaN, Infinity, -Infinity, -0].map((n) => new Double(n));

/** A server cannot read most of them from their keys. */
const ids: readonly unknown[] = [
  ...[1, 'plain', 'with\0nul', Long.MIN_VALUE, Long.fromNumber(7)],
  ...doubles,
  ...decimals,
  ...[{ a: new Double(0.5) }, { a: 1, b: [1, new Double(1.5)] }, { a: decimals[0] }],
];

/** The driver's types have one type of `_id` for a collection. */
const IDS = ids as readonly string[];

for (const version of [null, '6.0.27'] as const) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  test(
    `a document that is inserted into a clustered collection before it is copied is equal, whatever its _id, on a mongod ${version ?? 'of most tests'}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startReplicaSet({ binary: found.path });
      const db = source.client.db('shop');
      const clusteredIndex = { key: { _id: 1 }, unique: true };
      await db.createCollection('c', { clusteredIndex });
      const c = db.collection<{ _id: string; moment?: string }>('c');
      await using path = await DataPath.open({ source: source.uri, mongod: found.path, sliceBytes: 500 });
      let inserted = 0;
      await path.initialSync(async (moment) => {
        // What is inserted before it is listed is copied, and its insert is applied to that.
        if (moment === 'planned') ({ insertedCount: inserted } = await c.insertMany(IDS.map((_id) => ({ _id }))));
        for (const _id of IDS) await c.replaceOne({ _id }, { moment });
      });
      assert.equal(inserted, IDS.length);
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );
}
