/** Grooms on a real store: exactly what is dead goes, beside snapshots that go on, whatever dies. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Binary } from 'mongodb';
import { hashKey } from '../src/blockstore/blocks.ts';
import { deleteSnapshot } from '../src/blockstore/delete-snapshot.ts';
import { runGroom, takeCensus, type GroomParts } from '../src/blockstore/groom.ts';
import { HashTable } from '../src/blockstore/hash-table.ts';
import type { LockedHead } from '../src/head/types.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import type { SnapshotSummary } from '../src/shared/messages.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { groom } from '../src/steps/groom.ts';
import { beginPurge, purgeRecords, purgeSnapshots } from '../src/steps/purge.ts';
import { takeSnapshot, type LockableHead, type SnapshotParts } from '../src/steps/take-snapshot.ts';
import { verifySnapshot } from '../src/steps/verify-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { takeLease } from '../src/stores/leases.ts';
import { crashOf } from './support/crash-child.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import {
  claimedMember,
  startLockableMongod,
  stepContext,
  untilStage,
  type LockableMongod,
  type TestContext,
} from './support/snapshots.ts';

/** Small, so that there are several. */
const RANGE_BLOCKS = 400;

type Member = Omit<SnapshotParts, 'head'>;

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

/** About 20 MB that neither shrink nor repeat. */
async function addOrders(): Promise<void> {
  const documents = Array.from({ length: 5_000 }, () => ({ bytes: new Binary(randomBytes(4_000)) }));
  await head.client.db('shop').collection('orders').insertMany(documents);
}

async function snapshot(member: Member, of: LockableHead = head): Promise<SnapshotSummary> {
  return takeSnapshot(stepContext(), { ...member, head: of }, { minimum: ZERO_OPTIME });
}

async function isSound(member: Member, { id }: SnapshotSummary): Promise<boolean> {
  return (await verifySnapshot(stepContext(), member, { snapshot: id })).ok;
}

/** Blocks that are stored and that no snapshot refers to, and the other way round. */
async function unmatchedBlocks(): Promise<{ readonly dead: number; readonly missing: number }> {
  const referred = new Set<string>();
  const there = (await stores.manifests.find({}, { projection: { _id: 1 } }).toArray()).map(({ _id }) => _id);
  for await (const { hashes } of stores.manifestParts.find({ '_id.snapshot': { $in: there } })) {
    for (let at = 0; at < hashes.length(); at += 32) referred.add(hashKey(hashes.buffer.subarray(at, at + 32)));
  }
  let dead = 0;
  for await (const { _id } of stores.blocks.find({}, { projection: { _id: 1 } })) {
    if (!referred.delete(hashKey(_id.buffer))) dead += 1;
  }
  return { dead, missing: referred.size };
}

/** The head as it is, said to stand at an optime before every other. */
const asTheOldest: LockableHead = {
  async lock(minimum) {
    const locked = await head.lock(minimum);
    const ts = { t: 1_000, i: 1 };
    return { ...locked, position: { ...locked.position, appliedThrough: { ts, term: 1 }, oplogFrom: { ts, term: 1 } } };
  },
};

/** A deployment of two snapshots, of which one has blocks of its own and is deleted. */
async function withDead(): Promise<{ readonly member: Member; readonly kept: SnapshotSummary }> {
  const member = await claimedMember(stores);
  const kept = await snapshot(member);
  await addOrders();
  const gone = await snapshot(member, asTheOldest);
  await deleteSnapshot(stores, { snapshot: gone.id, windowMs: 0 });
  return { member, kept };
}

let runs = 0;
async function groomed(ctx: TestContext = stepContext()): Promise<number> {
  runs += 1;
  return (await runGroom(partsOf(ctx), `run ${runs}`)).deletedBlocks;
}

function partsOf(ctx: TestContext): GroomParts {
  return { stores, signal: ctx.signal, report: ctx.report.bind(ctx), rangeBlocks: RANGE_BLOCKS };
}

test('a groom deletes exactly the blocks that its census found dead, and every snapshot verifies', async () => {
  const { member, kept } = await withDead();
  const census = await takeCensus(partsOf(stepContext()));
  const before = await unmatchedBlocks();
  assert.ok(before.dead > 200, JSON.stringify(before));
  assert.equal(census.deadBlocks, before.dead);
  assert.ok(census.deadBytes > 10e6 && census.liveBytes > 0, JSON.stringify(census));
  const { deletedBlocks, reclaimedBytes, reusableBytes } = await groom(stepContext(), stores, {
    run: 'the whole step',
  });
  assert.equal(deletedBlocks, before.dead);
  assert.ok(reclaimedBytes > 10e6 && reusableBytes >= 0);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
  assert.equal(await isSound(member, kept), true);
  const after = await takeCensus(partsOf(stepContext()));
  assert.deepEqual([after.liveBlocks, after.deadBlocks], [census.liveBlocks, 0]);
});

test('a groom that is done does nothing when it is run again under its name', async () => {
  const { member, kept } = await withDead();
  const first = await groom(stepContext(), stores, { run: 'twice' });
  const again = await withDead();
  const second = await groom(stepContext(), stores, { run: 'twice' });
  assert.deepEqual([second.deletedBlocks, second.reclaimedBytes], [first.deletedBlocks, first.reclaimedBytes]);
  assert.ok((await unmatchedBlocks()).dead > 200);
  assert.equal((await isSound(member, kept)) && (await isSound(again.member, again.kept)), true);
  await groomed();
});

test('a groom that is killed anywhere harms no snapshot, and goes on where it was', async () => {
  const { member, kept } = await withDead();
  const { dead } = await unmatchedBlocks();
  for (const [dieAt, report] of [
    ['doom', 1],
    ['doom', 2],
    ['delete', 1],
    ['delete', 2],
  ] as const) {
    const crash = { step: 'groom', store: set.uri, run: 'killed', rangeBlocks: RANGE_BLOCKS, dieAt, report } as const;
    assert.equal(await crashOf(crash), 'SIGKILL', `${dieAt} ${report}`);
    assert.equal(await isSound(member, kept), true, `after a kill in ${dieAt}`);
  }
  const record = await runGroom(partsOf(stepContext()), 'killed');
  assert.equal(record.stage, 'done');
  assert.ok(record.deletedBlocks > 0 && record.deletedBlocks <= dead);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
  assert.equal(await isSound(member, kept), true);
});

test('two that run the same groom at once delete each block once', async () => {
  const { member, kept } = await withDead();
  const { dead } = await unmatchedBlocks();
  const [one] = await Promise.all([
    runGroom(partsOf(stepContext()), 'twins'),
    runGroom(partsOf(stepContext()), 'twins'),
  ]);
  assert.equal(one.stage, 'done');
  assert.equal((await stores.grooms.findOne({ _id: 'twins' }))?.deletedBlocks, dead);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
  assert.equal(await isSound(member, kept), true);
});

test('what a snapshot that died has stored is freed once its lease is over', async () => {
  const member = await claimedMember(stores);
  await addOrders();
  const taken = await snapshot(member);
  await addOrders();
  const { deployment, fence } = member;
  const crash = {
    step: 'snapshot',
    store: set.uri,
    head: { uri: head.mongod.uri, dbpath: head.dbpath },
    member: { deployment, incarnation: fence.incarnation.toHexString() },
    dieAt: 'commit',
  } as const;
  assert.equal(await crashOf(crash), 'SIGKILL');
  await head.restart();
  const census = await takeCensus(partsOf(stepContext()));
  const { dead } = await unmatchedBlocks();
  assert.ok(dead > 200);
  assert.equal(census.deadBlocks, 0, 'as long as the lease lives it may come back');
  await stores.leases.updateMany({ deployment }, { $set: { expiresAt: new Date(0) } });
  assert.equal((await groom(stepContext(), stores, { run: 'after a death' })).deletedBlocks, dead);
  assert.equal(
    (await stores.manifestParts.countDocuments({ '_id.snapshot': { $regex: `^${deployment}-` } })) > 0,
    true,
  );
  await groom(stepContext(), stores, { run: 'once more' });
  assert.deepEqual(
    await stores.manifestParts.distinct('_id.snapshot', { '_id.snapshot': { $regex: `^${deployment}-` } }),
    [taken.id],
  );
  assert.equal(await isSound(member, taken), true);
});

test('a snapshot that has claimed blocks before they are doomed is waited for, and keeps them', async () => {
  const { member } = await withDead();
  const ctx = stepContext();
  let grooming: Promise<number> | undefined;
  const second = await snapshot(member, {
    async lock(minimum) {
      const locked: LockedHead = await head.lock(minimum);
      return {
        ...locked,
        // All its blocks are claimed; its manifest is not committed yet.
        async stillHeld() {
          grooming = groomed(ctx);
          grooming.catch(() => undefined);
          await untilStage(ctx, /waits for a snapshot/);
          return locked.stillHeld();
        },
      };
    },
  });
  await grooming;
  assert.equal(await isSound(member, second), true);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
});

test('a snapshot that claims blocks after they are doomed keeps them', async () => {
  const { member, kept } = await withDead();
  const { deployment } = member;
  const older = await takeLease(stores, { purpose: 'verify', deployment, daemon: 'd1', snapshot: kept.id });
  const ctx = stepContext();
  const grooming = groomed(ctx);
  grooming.catch(() => undefined);
  await untilStage(ctx, /waits for a verify/);
  assert.ok((await stores.blocks.countDocuments({ doom: { $gt: 0 } })) > 200);
  const other = await claimedMember(stores);
  const again = await snapshot(other);
  assert.ok(again.reusedBlocks > 200);
  await older.end();
  await grooming;
  assert.equal((await isSound(other, again)) && (await isSound(member, kept)), true);
  assert.equal((await unmatchedBlocks()).missing, 0);
});

test('a manifest that lacks a part stops a groom before anything is freed', async () => {
  const { kept } = await withDead();
  const { dead } = await unmatchedBlocks();
  const part = await stores.manifestParts.findOneAndDelete({ '_id.snapshot': kept.id });
  assert.ok(part);
  for (const run of [groomed, () => takeCensus(partsOf(stepContext()))]) {
    await assert.rejects(
      run(),
      (error) => isLifeboatError(error, 'ManifestDamaged') && error.message.includes(kept.id),
    );
  }
  // What a part says may have changed as well.
  const hashes = Buffer.from(part.hashes.buffer);
  hashes.writeUInt8(hashes.readUInt8(0) ^ 1, 0);
  await stores.manifestParts.insertOne({ ...part, hashes: new Binary(hashes) });
  await assert.rejects(groomed(), (error) => isLifeboatError(error, 'ManifestDamaged'));
  await stores.manifestParts.replaceOne({ _id: part._id }, part);
  assert.deepEqual(await unmatchedBlocks(), { dead, missing: 0 });
  assert.equal(await groomed(), dead);
});

test('a groom leaves the parts of what is being purged to the purge', async () => {
  const { member, kept } = await withDead();
  const { deployment } = member;
  const purge = { deployment, run: 'beside a groom' };
  await beginPurge(stores, purge);
  await stores.manifests.deleteOne({ _id: kept.id });
  const parts = await stores.manifestParts.countDocuments({ '_id.snapshot': kept.id });
  await groom(stepContext(), stores, { run: 'beside a purge' });
  assert.equal(await stores.manifestParts.countDocuments({ '_id.snapshot': kept.id }), parts);
  await purgeSnapshots(stepContext(), stores, purge);
  await purgeRecords(stepContext(), stores, purge);
  assert.equal((await unmatchedBlocks()).missing, 0);
});

test('a table of hashes has all that was added, and hardly anything else', () => {
  const hashOf = (n: number): Buffer => createHash('sha256').update(String(n)).digest();
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(1e6), { maxLength: 3_000 }), fc.nat(4_000), (members, expected) => {
      const table = new HashTable(expected);
      for (const n of members) table.add(hashOf(n), 0);
      for (const n of members) table.add(hashOf(n), 0);
      assert.equal(table.size, members.length);
      assert.ok(members.every((n) => table.has(hashOf(n), 0)));
      assert.ok(!table.has(hashOf(2e6), 0));
    }),
    { numRuns: 50 },
  );
  const zeros = new HashTable(1);
  assert.equal(zeros.has(Buffer.alloc(32), 0), false);
  zeros.add(Buffer.alloc(32), 0);
  assert.deepEqual([zeros.has(Buffer.alloc(32), 0), zeros.size], [true, 1]);
});
