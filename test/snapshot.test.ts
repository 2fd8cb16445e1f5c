import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findSnapshot, latestSnapshot, listSnapshots } from '../src/blockstore/snapshots.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { takeSnapshot } from '../src/steps/take-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type LockableMongod } from './support/snapshots.ts';

let set: TestReplicaSet;
let stores: Stores;
let head: LockableMongod;
before(async () => {
  [set, head] = await Promise.all([startReplicaSet({ name: 'blocks' }), startLockableMongod()]);
  stores = await openStores({ blockstore: set.uri });
  const documents = Array.from({ length: 20_000 }, (_, n) => ({ _id: n, text: `document ${n} `.repeat(20) }));
  await head.client.db('shop').collection<{ _id: number }>('orders').insertMany(documents);
  await head.client.db('shop').collection('orders').createIndex({ text: 1 });
});
after(async () => {
  await stores?.close();
  await Promise.all([set?.[Symbol.asyncDispose](), head?.[Symbol.asyncDispose]()]);
});

test('the second snapshot of a barely changed head stores little', async () => {
  const member = await claimedMember(stores);
  const first = await takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME });
  await head.client
    .db('shop')
    .collection<{ _id: number }>('orders')
    .updateOne({ _id: 7 }, { $set: { text: 'changed' } });
  const second = await takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME });

  assert.ok(first.newBlocks > 50, `the first stored ${first.newBlocks} blocks`);
  assert.ok(
    second.newBlocks < first.newBlocks / 4,
    `the second stored ${second.newBlocks} of ${first.newBlocks} blocks`,
  );
  assert.ok(second.reusedBlocks > first.newBlocks / 2);
  assert.deepEqual(await listSnapshots(stores, member.deployment), [first, second]);
  assert.deepEqual(await latestSnapshot(stores, member.deployment), second);
  assert.deepEqual(await findSnapshot(stores, first.id), first);
  assert.equal(await stores.leases.countDocuments({ deployment: member.deployment }), 0);
});
