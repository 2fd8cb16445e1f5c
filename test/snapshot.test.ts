import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Binary } from 'mongodb';
import { findSnapshot, latestSnapshot, listSnapshots } from '../src/blockstore/snapshots.ts';
import type { LockedHead } from '../src/head/types.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { takeSnapshot, type LockableHead, type SnapshotParts } from '../src/steps/take-snapshot.ts';
import { verifySnapshot } from '../src/steps/verify-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { crashOf } from './support/crash-child.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type LockableMongod } from './support/snapshots.ts';

let set: TestReplicaSet;
let stores: Stores;
let head: LockableMongod;
before(async () => {
  [set, head] = await Promise.all([startReplicaSet({ name: 'blocks' }), startLockableMongod()]);
  stores = await openStores({ blockstore: set.uri });
  await addOrders(0);
  await head.client.db('shop').collection('orders').createIndex({ n: 1 });
});
after(async () => {
  await stores?.close();
  await Promise.all([set?.[Symbol.asyncDispose](), head?.[Symbol.asyncDispose]()]);
});

/** About 20 MB that neither shrink nor repeat. */
async function addOrders(from: number): Promise<void> {
  const documents = Array.from({ length: 5_000 }, (_, n) => ({ n: from + n, bytes: new Binary(randomBytes(4_000)) }));
  await head.client.db('shop').collection('orders').insertMany(documents);
}

async function snapshot(member: Omit<SnapshotParts, 'head'>, of: LockableHead = head): ReturnType<typeof takeSnapshot> {
  return takeSnapshot(stepContext(), { ...member, head: of }, { minimum: ZERO_OPTIME });
}

/** A head whose lock does something at its last moment before the commit. */
function beforeCommit(act: (locked: LockedHead) => Promise<boolean>): LockableHead {
  return {
    async lock(minimum) {
      const locked = await head.lock(minimum);
      return { ...locked, stillHeld: () => act(locked) };
    },
  };
}

/** What a deployment has in the store besides blocks. */
async function tracesOf(
  deployment: string,
): Promise<{ manifests: number; partsWithoutManifest: number; leases: number }> {
  const ids = await stores.manifests.distinct('_id', { deployment });
  return {
    manifests: ids.length,
    partsWithoutManifest: await stores.manifestParts.countDocuments({
      '_id.snapshot': { $regex: `^${deployment}-`, $nin: ids },
    }),
    leases: await stores.leases.countDocuments({ deployment, revoked: false }),
  };
}

async function isWritable(): Promise<boolean> {
  const { acknowledged } = await head.client.db('shop').collection('pings').insertOne({});
  return acknowledged;
}

test('the second snapshot of a barely changed head stores little', async () => {
  const member = await claimedMember(stores);
  const first = await snapshot(member);
  const others: Awaited<ReturnType<typeof snapshot>>[] = [];
  // Pages that were written while their documents were still coming in are written anew, on a busy machine more than once.
  await until(async () => {
    const other = await snapshot(member);
    others.push(other);
    return other.newBlocks < 20;
  }, 'a head that nobody changes is written as it is');
  await head.client
    .db('shop')
    .collection('orders')
    .updateOne({ n: 7 }, { $set: { changed: true } });
  const second = await snapshot(member);

  assert.ok(first.newBlocks > 300, `the first stored ${first.newBlocks} blocks`);
  assert.ok(second.newBlocks < 20, `the second stored ${second.newBlocks} of ${first.newBlocks} blocks`);
  assert.ok(second.reusedBlocks > 300);
  assert.deepEqual(await listSnapshots(stores, member.deployment), [first, ...others, second]);
  assert.deepEqual(await latestSnapshot(stores, member.deployment), second);
  assert.deepEqual(await findSnapshot(stores, first.id), first);
  assert.match(first.id, new RegExp(`^${member.deployment}-\\d{8}T\\d{6}Z-[0-9a-f]{6}$`));
  assert.deepEqual(await tracesOf(member.deployment), {
    manifests: 2 + others.length,
    partsWithoutManifest: 0,
    leases: 0,
  });
});

test('a snapshot is at or after the optime it was asked for, and the head goes on afterwards', async () => {
  const member = await claimedMember(stores);
  const minimum = { t: Math.floor(Date.now() / 1000) + 1000, i: 1 };
  const taken = await takeSnapshot(stepContext(), { ...member, head }, { minimum });
  assert.deepEqual(taken.optime, minimum);
  assert.equal(await isWritable(), true);
});

test('a snapshot whose source cannot be reached is taken, and says that nothing was compared and why', async () => {
  const member = await claimedMember(stores);
  const [first, second] = [await snapshot(member), await snapshot(member)];
  for (const { verification } of [first, second]) {
    assert.equal(verification.state, 'not-compared');
    assert.match(verification.reason ?? '', /no member of the source answers/);
    assert.deepEqual([verification.ranges, verification.documents, verification.definitions], [0, 0, false]);
  }
  assert.deepEqual([first.verification.snapshot, second.verification.snapshot], [1, 2]);
});

for (const dieAt of ['blocks', 'commit'] as const) {
  test(`a process killed at its ${dieAt} leaves nothing that a later snapshot trips over`, async () => {
    const member = await claimedMember(stores);
    const { deployment, fence } = member;
    await addOrders(100_000);
    const signal = await crashOf({
      step: 'snapshot',
      store: set.uri,
      head: { uri: head.mongod.uri, dbpath: head.dbpath },
      member: { deployment, incarnation: fence.incarnation.toHexString() },
      dieAt,
    });
    assert.equal(signal, 'SIGKILL');
    // The owner of a head ends a mongod that a dead process left locked.
    await head.restart();
    const left = await tracesOf(deployment);
    assert.deepEqual([left.manifests, left.leases], [0, 1]);
    assert.equal(left.partsWithoutManifest > 0, dieAt === 'commit');

    // While its lease is live the dead process may be a slow one, and its parts stay.
    const first = await snapshot(member);
    assert.equal((await tracesOf(deployment)).partsWithoutManifest, left.partsWithoutManifest);
    assert.ok(first.reusedBlocks > 100, `only ${first.reusedBlocks} blocks of the dead snapshot were found`);
    await stores.leases.updateMany({ deployment }, [{ $set: { expiresAt: { $subtract: ['$$NOW', 1] } } }]);
    const second = await snapshot(member);
    assert.deepEqual(await tracesOf(deployment), { manifests: 2, partsWithoutManifest: 0, leases: 0 });
    assert.equal((await verifySnapshot(stepContext(), member, { snapshot: second.id })).ok, true);
  });
}

test('an aborted snapshot ends soon, lets the head go and ends its lease', async () => {
  const member = await claimedMember(stores);
  const stop = new AbortController();
  const ctx = stepContext(stop.signal, () => stop.abort());
  await assert.rejects(takeSnapshot(ctx, { ...member, head }, { minimum: ZERO_OPTIME }), { name: 'AbortError' });
  assert.equal(await isWritable(), true);
  assert.deepEqual(await tracesOf(member.deployment), { manifests: 0, partsWithoutManifest: 0, leases: 0 });
});

test('a snapshot and the retry that overtook it are two whole snapshots', async () => {
  const member = await claimedMember(stores);
  const second = await startLockableMongod();
  try {
    await second.client.db('shop').collection('orders').insertOne({ n: 1 });
    const both = await Promise.all([snapshot(member), snapshot(member, second)]);
    for (const { id } of both) {
      assert.deepEqual((await verifySnapshot(stepContext(), member, { snapshot: id })).problems, []);
    }
    assert.deepEqual(await tracesOf(member.deployment), { manifests: 2, partsWithoutManifest: 0, leases: 0 });
  } finally {
    await second[Symbol.asyncDispose]();
  }
});

test('a snapshot whose lease was revoked commits nothing', async () => {
  const member = await claimedMember(stores);
  const revoking = beforeCommit(async () => {
    const { matchedCount } = await stores.leases.updateOne(
      { deployment: member.deployment },
      { $set: { revoked: true } },
    );
    return matchedCount === 1;
  });
  await assert.rejects(snapshot(member, revoking), (error) => isLifeboatError(error, 'FenceLost'));
  assert.equal((await tracesOf(member.deployment)).manifests, 0);
  await snapshot(member);
  assert.deepEqual(await tracesOf(member.deployment), { manifests: 1, partsWithoutManifest: 0, leases: 0 });
});

test('a daemon that another one has superseded commits nothing', async () => {
  const member = await claimedMember(stores);
  const claiming = beforeCommit(async () => {
    await stores.members.updateOne({ _id: member.fence.key }, { $inc: { 'owner.epoch': 1 } });
    return true;
  });
  await assert.rejects(snapshot(member, claiming), (error) => isLifeboatError(error, 'FenceLost'));
  assert.deepEqual((await tracesOf(member.deployment)).manifests, 0);
});

test('a snapshot of a head that was not held still to the end is not one', async () => {
  const member = await claimedMember(stores);
  const restarted = beforeCommit(async (locked) => {
    await head.restart();
    return locked.stillHeld();
  });
  await assert.rejects(snapshot(member, restarted), (error) => isLifeboatError(error, 'SnapshotLockLost'));
  assert.equal((await tracesOf(member.deployment)).manifests, 0);
});

test('a head that made a checkpoint of its own since it was locked is not read', async () => {
  const member = await claimedMember(stores);
  const unlocked: LockableHead = {
    async lock(minimum) {
      const locked = await head.lock(minimum);
      // What a periodic checkpoint does; it takes a write to make one at once.
      await locked.release();
      await isWritable();
      await head.client.db('admin').command({ fsync: 1 });
      return { ...locked, stillHeld: () => Promise.resolve(true) };
    },
  };
  await assert.rejects(snapshot(member, unlocked), (error) => isLifeboatError(error, 'SnapshotLockLost'));
});
