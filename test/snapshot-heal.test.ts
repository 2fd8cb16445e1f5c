/** What becomes of damage in the blockstore: no later snapshot inherits it, and what the head still holds heals it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Binary } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import type { SnapshotSummary } from '../src/shared/messages.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { restoreDirectory } from '../src/steps/restore-directory.ts';
import { takeSnapshot, type SnapshotParts } from '../src/steps/take-snapshot.ts';
import { verifySnapshot } from '../src/steps/verify-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import type { BlockRecord } from '../src/stores/records.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type LockableMongod } from './support/snapshots.ts';

let set: TestReplicaSet;
let stores: Stores;
let folder: TestFolder;
let head: LockableMongod;
before(async () => {
  folder = await testFolder();
  [set, head] = await Promise.all([startReplicaSet({ name: 'blocks' }), startLockableMongod()]);
  stores = await openStores({ blockstore: set.uri });
  const documents = Array.from({ length: 2_000 }, (_, n) => ({ n, bytes: new Binary(randomBytes(4_000)) }));
  await head.client.db('shop').collection('orders').insertMany(documents);
});
after(async () => {
  await stores?.close();
  await Promise.all([set?.[Symbol.asyncDispose](), head?.[Symbol.asyncDispose]()]);
  await folder?.[Symbol.asyncDispose]();
});

async function snapshot(member: Omit<SnapshotParts, 'head'>): Promise<SnapshotSummary> {
  return takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME });
}

async function problemsOf(...taken: readonly SnapshotSummary[]): Promise<string[]> {
  const results = [];
  for (const { id } of taken)
    results.push(await verifySnapshot(stepContext(), { stores, daemon: 'd1' }, { snapshot: id }));
  return results.flatMap(({ problems }) => problems.map(({ code }) => code)).toSorted();
}

/** Blocks of documents, which every snapshot of this head holds. */
async function someBlocks(count: number): Promise<BlockRecord[]> {
  return stores.blocks.find({ size: 65_536, codec: 'none' }).sort({ _id: 1 }).limit(count).toArray();
}

async function flip({ _id, data }: BlockRecord): Promise<void> {
  const bad = Buffer.from(data.buffer);
  bad.writeUInt8(bad.readUInt8(100) ^ 1, 100);
  await stores.blocks.updateOne({ _id }, { $set: { data: new Binary(bad) } });
}

async function remove({ _id }: BlockRecord): Promise<void> {
  await stores.blocks.deleteOne({ _id });
}

test('a snapshot stores anew what a verification found damaged or missing, and all that share it verify again', async () => {
  const member = await claimedMember(stores);
  const first = await snapshot(member);
  const [missing, damaged] = await someBlocks(2);
  assert.ok(missing && damaged);
  await remove(missing);
  await flip(damaged);
  assert.deepEqual(await problemsOf(first), ['LB5002', 'LB5003']);
  // Looking again says the same.
  assert.deepEqual(await problemsOf(first), ['LB5002', 'LB5003']);
  const second = await snapshot(member);
  assert.deepEqual(await problemsOf(first, second), []);
  assert.ok(second.newBlocks >= 2 && second.newBlocks < 20, `it stored ${second.newBlocks} blocks`);
  assert.equal(await stores.blocks.countDocuments({ damaged: { $exists: true } }), 0);
});

test('a block that is missing is stored anew by the next snapshot, though nobody has looked for it', async () => {
  const member = await claimedMember(stores);
  const first = await snapshot(member);
  for (const block of await someBlocks(3)) await remove(block);
  const second = await snapshot(member);
  assert.deepEqual(await problemsOf(second, first), []);
});

test('what a restore found damaged is stored anew, and the restore that failed on it succeeds', async () => {
  const member = await claimedMember(stores);
  const first = await snapshot(member);
  const [damaged] = await someBlocks(1);
  assert.ok(damaged);
  await flip(damaged);
  const parts = { stores, daemon: 'd1', mongodFor: () => findBinary('mongod') };
  const request = { id: 'healed', snapshot: first.id, path: join(folder.path, 'healed') };
  const restoring = restoreDirectory(stepContext(), parts, request);
  await assert.rejects(restoring, (error) => isLifeboatError(error, 'BlockDamaged'));
  // Of another deployment, whose parent is none: a claim by hash must miss it, too.
  const other = await snapshot(await claimedMember(stores));
  assert.deepEqual(await problemsOf(other, first), []);
  assert.equal((await restoreDirectory(stepContext(), parts, request)).verified, true);
});
