/** A transaction that is undecided where a snapshot is taken: it is not in it, and comes to what goes on from it. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Binary, type Document, type Timestamp } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { proveEqual } from '../src/proof/equality.ts';
import { compareOptimes } from '../src/shared/optime.ts';
import type { LockableHead } from '../src/steps/take-snapshot.ts';
import { restoreDirectory } from '../src/steps/restore-directory.ts';
import { DataPath } from './support/data-path.ts';
import { testFolder } from './support/folders.ts';
import { HandTransaction } from './support/hand-transaction.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { stepContext } from './support/snapshots.ts';
import { withMongod } from './support/with-mongod.ts';

/** More than is kept in memory of undecided transactions, in several entries; a 4.4 needs a cache for it. */
const LARGE = Array.from({ length: 6 }, (_, n) => ({ _id: `large ${n}`, bytes: new Binary(Buffer.alloc(7 << 20, n)) }));

/** One that writes to a document that is there and inserts another, and is prepared. */
async function prepared(
  { members }: TestReplicaSet,
  collection: string,
  documents: readonly Document[] = [],
): Promise<HandTransaction> {
  return HandTransaction.prepared(members[0]?.address ?? { port: 0 }, async (transaction) => {
    await transaction.run('shop', { insert: collection, documents: [{ _id: 'prepared' }] });
    await transaction.run('shop', { update: collection, updates: [{ q: { _id: 'there' }, u: { $set: { n: 1 } } }] });
    for (const one of documents) await transaction.run('shop', { insert: collection, documents: [one] });
  });
}

for (const version of [null, ...OTHER_VERSIONS]) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const skip = 'missing' in found && found.missing;
  const what = `mongod ${version ?? 'of most tests'}`;
  test(
    `a transaction that is open over a snapshot is not in it, and is in a head that is made from it: ${what}`,
    { skip },
    async () => {
      assert.ok('path' in found);
      const { path: binary } = found;
      await using folder = await testFolder();
      await using source = await startReplicaSet({ binary, cacheGiB: 1, setParameters: { enableTestCommands: true } });
      const shop = source.client.db('shop');
      const collection = (name: string) => shop.collection<{ _id: string }>(name);
      for (const name of ['a', 'b']) await collection(name).insertOne({ _id: 'there' });
      await using path = await DataPath.open({ source: source.uri, mongod: binary });
      await path.initialSync();
      const commits = await prepared(source, 'a', LARGE);
      const aborts = await prepared(source, 'b');
      await collection('c').insertOne({ _id: 'behind them' });
      await path.applyUntil(await path.newest());
      const { position } = path.head.state();
      assert.ok(position && compareOptimes(position.oplogFrom.ts, position.appliedThrough.ts) < 0);
      const snapshot = await path.snapshot();
      const { state, reason } = await path.verificationOf(snapshot.id);
      assert.deepEqual([state, reason], ['not-compared', 'a transaction was prepared and undecided at that optime']);

      // A source that is asked what it was counts a transaction from its commit timestamp on.
      const { operationTime } = await shop.command({ insert: 'c', documents: [{ _id: 'behind the snapshot' }] });
      await commits.commit(operationTime as Timestamp);
      await aborts.abort();

      const restored = join(folder.path, 'restored');
      const parts = { stores: path.stores, daemon: 'here', mongodFor: () => Promise.resolve(binary) };
      await restoreDirectory(stepContext(), parts, { id: 'open', snapshot: snapshot.id, path: restored });
      await withMongod(restored, { binary }, async (client) => {
        const copy = { client };
        const report = await proveEqual({ source: { client: source.client, at: snapshot.optime }, copy, ids: 5 });
        assert.deepEqual([report.differences, report.notCompared], [[], []]);
        assert.equal(await client.db('shop').collection<{ _id: string }>('a').countDocuments({ _id: 'prepared' }), 0);
      });

      await path.loseHead();
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
      assert.equal(await collection('a').countDocuments({ _id: 'prepared', n: { $exists: false } }), 1);
    },
  );
}

test('nothing is compared at the very entry that prepares a transaction', async () => {
  await using source = await startReplicaSet({ setParameters: { enableTestCommands: true } });
  await source.client.db('shop').collection<{ _id: string }>('a').insertOne({ _id: 'there' });
  await using path = await DataPath.open({ source: source.uri });
  await path.initialSync();
  await path.validate();
  const transaction = await prepared(source, 'a');
  const head: LockableHead = {
    async lock(minimum, signal) {
      const locked = await path.head.lock(minimum, signal);
      await transaction.commit();
      return locked;
    },
  };
  const { verification } = await path.snapshot({}, head);
  assert.deepEqual([verification.state, verification.different], ['not-compared', []]);
  const { differences, notCompared } = await path.prove();
  assert.deepEqual([differences, notCompared], [[], []]);
});

test('a validation waits for a prepared transaction, whose commit may count from before its own entry', async () => {
  await using source = await startReplicaSet({ setParameters: { enableTestCommands: true } });
  const a = source.client.db('shop').collection<{ _id: string }>('a');
  await a.insertOne({ _id: 'there' });
  await using path = await DataPath.open({ source: source.uri });
  await path.initialSync();
  const transaction = await prepared(source, 'a');
  await a.insertOne({ _id: 'behind it' });
  await path.applyUntil(await path.newest());
  const validating = path.validate();
  await until(async () => {
    const record = await path.validation().catch(() => undefined);
    return record?.stage === 'compare';
  }, 'documents are to be compared');
  // From the optime of the prepare on, which the head has passed.
  await transaction.commit();
  const { state, repaired } = await validating;
  assert.deepEqual([state, repaired], ['equal', []]);
  const { differences, notCompared } = await path.prove();
  assert.deepEqual([differences, notCompared], [[], []]);
});
