/** It all fits: documents as large as they come and of nothing at all, and more collections than anybody likes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Binary, type MongoClient } from 'mongodb';
import { DataPath } from './support/data-path.ts';
import { Random } from './support/random.ts';
import { startReplicaSet } from './support/replica-set.ts';
import { insertMany } from './support/workload-data.ts';

/** Tiny documents; a million with LIFEBOAT_TEST_TINY=1000000. */
const TINY = Number(process.env['LIFEBOAT_TEST_TINY'] ?? 200_000);
const COLLECTIONS = Number(process.env['LIFEBOAT_TEST_COLLECTIONS'] ?? 3_000);
/** The largest document there can be, less its own fields. */
const HUGE_BYTES = 16 * 1024 * 1024 - 64;

async function assertEqualAfter(
  fill: (client: MongoClient) => Promise<void>,
  change: (client: MongoClient) => Promise<unknown>,
): Promise<void> {
  await using source = await startReplicaSet({ name: 'source', cacheGiB: 0.5 });
  await fill(source.client);
  await using path = await DataPath.open({ source: source.uri });
  await path.initialSync();
  assert.deepEqual(await summary(path), [true, [], []]);
  await change(source.client);
  assert.deepEqual(await summary(path), [true, [], []]);
}

async function summary(path: DataPath): Promise<unknown> {
  const { equal, differences, notCompared } = await path.prove();
  return [equal, differences, notCompared];
}

test('documents of 16 MB of random bytes are copied, followed and equal', async () => {
  const random = new Random(1);
  const huge = (n: number): object => ({ _id: n, random: new Binary(random.bytes(HUGE_BYTES)) });
  await assertEqualAfter(
    (client) => insertMany(client.db('x'), 'huge', 4, huge, 1),
    async (client) => {
      const collection = client.db('x').collection<{ _id: number }>('huge');
      await insertMany(client.db('x'), 'huge', 1, () => huge(9), 1);
      await collection.replaceOne({ _id: 1 }, { random: new Binary(random.bytes(HUGE_BYTES)) });
      await collection.updateOne({ _id: 2 }, { $set: { random: 'small now' } });
      await collection.deleteOne({ _id: 3 });
    },
  );
});

test(`${TINY} tiny documents are copied, followed and equal`, async () => {
  await assertEqualAfter(
    (client) => insertMany(client.db('x'), 'tiny', TINY, (n) => ({ _id: n }), 50_000),
    (client) =>
      client
        .db('x')
        .collection('tiny')
        .updateMany({}, { $set: { n: 1 } }),
  );
});

test(`${COLLECTIONS} collections are copied, followed and equal`, async () => {
  const each = async (
    client: MongoClient,
    work: (db: ReturnType<MongoClient['db']>, name: string, n: number) => Promise<unknown>,
  ): Promise<void> => {
    const numbers = Array.from({ length: COLLECTIONS }, (_, n) => n).values();
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (const n of numbers) await work(client.db(`db${n % 7}`), `c${n}`, n);
      }),
    );
  };
  await assertEqualAfter(
    (client) =>
      each(client, (db, name, n) => (n % 3 === 0 ? db.createCollection(name) : db.collection(name).insertOne({ n }))),
    (client) =>
      each(client, (db, name, n) => (n % 10 === 0 ? db.collection(name).insertOne({ later: n }) : Promise.resolve())),
  );
});
