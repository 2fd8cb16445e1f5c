/** Deleting snapshots on a real store: what is never deleted, and what comes between. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { deleteSnapshot, finishDeletions } from '../src/blockstore/delete-snapshot.ts';
import { holdSnapshot, releaseSnapshot } from '../src/blockstore/hold.ts';
import { findSnapshot, listSnapshots } from '../src/blockstore/snapshots.ts';
import { isLifeboatError, type ErrorName } from '../src/shared/errors.ts';
import type { SnapshotSummary } from '../src/shared/messages.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { viewRetention } from '../src/steps/apply-retention.ts';
import { beginPurge, refusePurging } from '../src/steps/purge.ts';
import { takeSnapshot, type SnapshotParts } from '../src/steps/take-snapshot.ts';
import { verifySnapshot } from '../src/steps/verify-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { takeLease } from '../src/stores/leases.ts';
import { crashOf } from './support/crash-child.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type LockableMongod } from './support/snapshots.ts';

let set: TestReplicaSet;
let stores: Stores;
let head: LockableMongod;

before(async () => {
  [set, head] = await Promise.all([startReplicaSet({ name: 'blocks' }), startLockableMongod()]);
  stores = await openStores({ blockstore: set.uri });
});

after(async () => {
  await stores?.close();
  await Promise.all([set?.[Symbol.asyncDispose](), head?.[Symbol.asyncDispose]()]);
});

let deployments = 0;

/** A deployment of its own with so many snapshots, oldest first. */
async function deploymentWith(count: number): Promise<{
  readonly deployment: string;
  readonly snapshots: SnapshotSummary[];
  readonly member: Omit<SnapshotParts, 'head'>;
}> {
  deployments += 1;
  const deployment = `shop-${deployments}`;
  const member = await claimedMember(stores, deployment);
  const snapshots: SnapshotSummary[] = [];
  for (let n = 0; n < count; n += 1) {
    await head.client.db('shop').collection('orders').insertOne({ deployment, n });
    snapshots.push(await takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME }));
  }
  return { deployment, snapshots, member };
}

async function refused(kind: ErrorName, snapshot: string, windowMs = 0): Promise<void> {
  await assert.rejects(deleteSnapshot(stores, { snapshot, windowMs }), (error) => isLifeboatError(error, kind));
}

async function idsOf(deployment: string): Promise<string[]> {
  return (await listSnapshots(stores, deployment)).map(({ id }) => id);
}

test('a snapshot that is deleted is gone, and the others verify', async () => {
  const { deployment, snapshots, member } = await deploymentWith(3);
  const [first, second, third] = snapshots.map(({ id }) => id) as [string, string, string];
  await deleteSnapshot(stores, { snapshot: second, windowMs: 0 });
  await refused('UnknownSnapshot', second);
  assert.deepEqual(await idsOf(deployment), [first, third]);
  for (const snapshot of [first, third]) {
    assert.equal((await verifySnapshot(stepContext(), member, { snapshot })).ok, true);
  }
});

test('the last good snapshot is never deleted, and a held one only once it is released', async () => {
  const { snapshots } = await deploymentWith(2);
  const [first, last] = snapshots.map(({ id }) => id) as [string, string];
  await refused('SnapshotPinned', last);
  await holdSnapshot(stores, first, 'an audit');
  const since = (await findSnapshot(stores, first))?.hold?.since;
  assert.ok(since !== undefined);
  await holdSnapshot(stores, first, '$since');
  assert.deepEqual((await findSnapshot(stores, first))?.hold, { reason: '$since', since });
  await refused('SnapshotPinned', first);
  await releaseSnapshot(stores, first);
  await deleteSnapshot(stores, { snapshot: first, windowMs: 0 });
  await assert.rejects(holdSnapshot(stores, first, null), (error) => isLifeboatError(error, 'UnknownSnapshot'));
});

test('the snapshots that the window of restores rests on, now and next, are never deleted', async () => {
  const { deployment, snapshots } = await deploymentWith(4);
  const [first, second, third, last] = snapshots.map(({ id }) => id) as [string, string, string, string];
  const day = 24 * 3_600_000;
  await refused('SnapshotPinned', first, day);
  await refused('SnapshotPinned', second, day);
  await deleteSnapshot(stores, { snapshot: third, windowMs: day });
  const plan = await viewRetention(stores, { deployment, keep: { latest: 1 }, windowMs: day });
  assert.deepEqual(
    plan.snapshots.map(({ id, keptFor }) => [id, keptFor.length > 0]),
    [
      [last, true],
      [second, true],
      [first, true],
    ],
  );
});

test('a snapshot that is read is not deleted until its reader has ended', async () => {
  const { deployment, snapshots, member } = await deploymentWith(2);
  const [first] = snapshots.map(({ id }) => id) as [string];
  const request = { purpose: 'restore', deployment, daemon: member.daemon, snapshot: first } as const;
  {
    await using lease = await takeLease(stores, request);
    assert.equal(lease.signal.aborted, false);
    await refused('SnapshotInUse', first);
    assert.equal((await idsOf(deployment)).length, 2);
  }
  await deleteSnapshot(stores, { snapshot: first, windowMs: 0 });
  assert.equal((await idsOf(deployment)).length, 1);
});

test('a lease that has expired is revoked before its snapshot is deleted, so that its holder cannot come back', async () => {
  const { deployment, snapshots, member } = await deploymentWith(2);
  const [first] = snapshots.map(({ id }) => id) as [string];
  const request = { purpose: 'snapshot', deployment, daemon: member.daemon, snapshot: first } as const;
  await using lease = await takeLease(stores, request);
  await stores.leases.updateOne({ _id: lease.number }, { $set: { expiresAt: new Date(0) } });
  await deleteSnapshot(stores, { snapshot: first, windowMs: 0 });
  await assert.rejects(lease.settle(), (error) => isLifeboatError(error, 'FenceLost'));
});

test('the snapshot that entries are kept for is not deleted, whatever window the one who deletes knows of', async () => {
  const { deployment, snapshots, member } = await deploymentWith(4);
  const [first, second, third] = snapshots.map(({ id }) => id) as [string, string, string];
  const keptFor = { windowMs: 60_000, bases: [second] };
  await stores.members.updateOne({ _id: member.fence.key }, { $set: { keptFor } });
  await refused('SnapshotPinned', second);
  // Younger than that window, it is what the others are replayed onto.
  await refused('SnapshotPinned', first);
  await stores.members.updateOne({ _id: member.fence.key }, { $unset: { keptFor: 1 } });
  for (const snapshot of [first, second, third]) await deleteSnapshot(stores, { snapshot, windowMs: 0 });
  assert.equal((await idsOf(deployment)).length, 1);
});

test('a snapshot that a restore will go on with is not deleted, though nobody reads it now', async () => {
  const { deployment, snapshots } = await deploymentWith(2);
  const [first] = snapshots.map(({ id }) => id) as [string];
  const restore = { _id: `${deployment}-restore`, deployment, snapshot: first, daemon: 'gone', state: 'running' };
  await stores.restores.insertOne(restore as never);
  await refused('SnapshotInUse', first);
  await stores.restores.updateOne({ _id: restore._id }, { $set: { state: 'cancelled' } });
  await deleteSnapshot(stores, { snapshot: first, windowMs: 0 });
});

test('a hold and a deletion at once: one of them is refused', async () => {
  for (let n = 0; n < 20; n += 1) {
    const { snapshots } = await deploymentWith(2);
    const [first] = snapshots.map(({ id }) => id) as [string];
    const [deleted, held] = await Promise.allSettled([
      deleteSnapshot(stores, { snapshot: first, windowMs: 0 }),
      holdSnapshot(stores, first, null),
    ]);
    const isThere = (await findSnapshot(stores, first)) !== undefined;
    assert.deepEqual([deleted.status, held.status], isThere ? ['rejected', 'fulfilled'] : ['fulfilled', 'rejected']);
  }
});

test('a deletion that dies once the snapshot is marked leaves none, and the next one ends it', async () => {
  const { deployment, snapshots } = await deploymentWith(3);
  const [first, second, last] = snapshots.map(({ id }) => id) as [string, string, string];
  for (const snapshot of [first, second]) {
    assert.equal(await crashOf({ step: 'delete', store: set.uri, snapshot }), 'SIGKILL');
  }
  assert.deepEqual(await idsOf(deployment), [last]);
  await deleteSnapshot(stores, { snapshot: first, windowMs: 0 });
  assert.deepEqual(await finishDeletions(stores, deployment), [second]);
  assert.equal(await stores.manifests.countDocuments({ deployment }), 1);
});

test('a mark whose reader came in time is taken back', async () => {
  const { deployment, snapshots, member } = await deploymentWith(2);
  const [first] = snapshots.map(({ id }) => id) as [string];
  await using lease = await takeLease(stores, {
    purpose: 'verify',
    deployment,
    daemon: member.daemon,
    snapshot: first,
  });
  assert.equal(await crashOf({ step: 'delete', store: set.uri, snapshot: first }), 'SIGKILL');
  assert.equal((await idsOf(deployment)).length, 1);
  assert.deepEqual(await finishDeletions(stores, deployment), []);
  assert.equal((await idsOf(deployment)).length, 2);
  assert.equal(lease.signal.aborted, false);
});

test('a purge leaves a deployment with a held snapshot alone, and while it runs nothing can be held', async () => {
  const { deployment, snapshots } = await deploymentWith(2);
  const [first] = snapshots.map(({ id }) => id) as [string];
  await holdSnapshot(stores, first, null);
  const purge = { deployment, run: 'held' };
  const record = { kind: 'replica-set', phase: 'resync-needed', phaseSince: new Date(), problem: null } as const;
  await stores.deployments.insertOne({ _id: deployment, ...record });
  await assert.rejects(beginPurge(stores, purge), (error) => isLifeboatError(error, 'SnapshotPinned'));
  await refusePurging(stores, deployment);
  assert.deepEqual(await stores.deployments.findOne({ _id: deployment }), { _id: deployment, ...record });
  // Held anew between the mark of a purge and its look for holds, it stays held.
  await stores.deployments.updateOne({ _id: deployment }, { $set: { 'purge.run': 'held' } });
  await assert.rejects(holdSnapshot(stores, first, 'still'), (error) => isLifeboatError(error, 'PurgeUnderWay'));
  assert.equal((await findSnapshot(stores, first))?.hold?.reason, 'still');
  await assert.rejects(beginPurge(stores, purge), (error) => isLifeboatError(error, 'SnapshotPinned'));
  assert.equal((await idsOf(deployment)).length, 2);
  await releaseSnapshot(stores, first);
  await beginPurge(stores, purge);
  await assert.rejects(holdSnapshot(stores, first, null), (error) => isLifeboatError(error, 'PurgeUnderWay'));
  assert.equal((await findSnapshot(stores, first))?.hold, null);
});
