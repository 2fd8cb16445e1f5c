/** Removing all that is stored of a deployment, on a real store, beside another one that shares its blocks. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Binary } from 'mongodb';
import { hashKey } from '../src/blockstore/blocks.ts';
import { purgePlanOf } from '../src/blockstore/purge-plan.ts';
import { hashRanges } from '../src/blockstore/hash-ranges.ts';
import type { LockedHead } from '../src/head/types.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import type { PurgePlan, SnapshotSummary } from '../src/shared/messages.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { beginPurge, planPurge, purgeRecords, purgeSnapshots, refusePurging } from '../src/steps/purge.ts';
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

let set: TestReplicaSet;
let stores: Stores;
let head: LockableMongod;

before(async () => {
  [set, head] = await Promise.all([startReplicaSet({ name: 'blocks' }), startLockableMongod()]);
  stores = await openStores({ blockstore: set.uri });
  await addOrders();
});

after(async () => {
  await stores?.close();
  await Promise.all([set?.[Symbol.asyncDispose](), head?.[Symbol.asyncDispose]()]);
});

/** About 40 MB that neither shrink nor repeat: more blocks than go at a time. */
async function addOrders(): Promise<void> {
  for (let n = 0; n < 2; n += 1) {
    const documents = Array.from({ length: 5_000 }, () => ({ bytes: new Binary(randomBytes(4_000)) }));
    await head.client.db('shop').collection('orders').insertMany(documents);
  }
}

type Member = Omit<SnapshotParts, 'head'>;

async function snapshot(member: Member, of: LockableHead = head): Promise<SnapshotSummary> {
  return takeSnapshot(stepContext(), { ...member, head: of }, { minimum: ZERO_OPTIME });
}

async function isSound(member: Member, { id }: SnapshotSummary): Promise<boolean> {
  return (await verifySnapshot(stepContext(), member, { snapshot: id })).ok;
}

let runs = 0;
async function purge(deployment: string, ctx: TestContext = stepContext()): Promise<number> {
  runs += 1;
  const request = { deployment, run: `run ${runs}` };
  await beginPurge(stores, request);
  const { deletedBlocks } = await purgeSnapshots(ctx, stores, request);
  await purgeRecords(ctx, stores, request);
  await purgeRecords(ctx, stores, request);
  return deletedBlocks;
}

/** Blocks that are stored and that no snapshot refers to, and the other way round. */
async function unmatchedBlocks(): Promise<{ readonly dead: number; readonly missing: number }> {
  const referred = new Set<string>();
  for await (const { hashes } of stores.manifestParts.find({})) {
    for (let at = 0; at < hashes.length(); at += 32) referred.add(hashKey(hashes.buffer.subarray(at, at + 32)));
  }
  let dead = 0;
  for await (const { _id } of stores.blocks.find({}, { projection: { _id: 1 } })) {
    if (!referred.delete(hashKey(_id.buffer))) dead += 1;
  }
  return { dead, missing: referred.size };
}

async function tracesOf(deployment: string): Promise<number> {
  const counts = await Promise.all([
    stores.deployments.countDocuments({ _id: deployment }),
    stores.members.countDocuments({ deployment }),
    stores.manifests.countDocuments({ deployment }),
    stores.manifestParts.countDocuments({ '_id.snapshot': new RegExp(`^${deployment}-`) }),
  ]);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** A snapshot of the head by a member that stays, and one by another that has blocks of its own besides. */
async function keptAndPurged(): Promise<{ kept: Member; first: SnapshotSummary; gone: Member }> {
  const kept = await claimedMember(stores);
  const gone = await claimedMember(stores);
  const first = await snapshot(kept);
  await addOrders();
  await snapshot(gone);
  return { kept, first, gone };
}

test('a purge frees exactly the blocks that nobody else refers to, as its plan says', async () => {
  const { kept, first, gone } = await keptAndPurged();
  const plan: PurgePlan = await planPurge(stepContext(), stores, gone.deployment);
  assert.equal(plan.snapshots.count, 1);
  assert.ok(plan.blocks.shared > 300 && plan.blocks.freed > 500, JSON.stringify(plan.blocks));
  const deleted = await purge(gone.deployment);
  assert.equal(deleted, plan.blocks.freed);
  assert.equal(await tracesOf(gone.deployment), 0);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
  assert.equal(await isSound(kept, first), true);
  await assert.rejects(planPurge(stepContext(), stores, gone.deployment), (error) =>
    isLifeboatError(error, 'NothingStored'),
  );
});

test('a purge that is killed anywhere harms nobody, and is brought to its end by running it again', async () => {
  const { kept, first, gone } = await keptAndPurged();
  const { deployment } = gone;
  for (const [dieAt, report] of [
    ['sweep: references', 1],
    ['sweep: doom', 1],
    ['sweep: delete', 1],
    ['sweep: delete', 2],
  ] as const) {
    assert.equal(await crashOf({ step: 'purge', store: set.uri, deployment, dieAt, report }), 'SIGKILL');
    assert.equal(await isSound(kept, first), true, `after a kill in ${dieAt}`);
    await assert.rejects(refusePurging(stores, deployment), (error) => isLifeboatError(error, 'PurgeUnderWay'));
  }
  assert.ok((await purge(deployment)) > 0, 'something was left to delete');
  assert.equal(await tracesOf(deployment), 0);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
  assert.equal(await isSound(kept, first), true);
});

test('a snapshot that has claimed blocks before they are doomed is waited for, and keeps them', async () => {
  const { kept, gone } = await keptAndPurged();
  const ctx = stepContext();
  let purging: Promise<number> | undefined;
  const second = await snapshot(kept, {
    async lock(minimum) {
      const locked: LockedHead = await head.lock(minimum);
      return {
        ...locked,
        // All its blocks are claimed; its manifest is not committed yet.
        async stillHeld() {
          purging = purge(gone.deployment, ctx);
          purging.catch(() => undefined);
          await untilStage(ctx, /waits for a snapshot/);
          return locked.stillHeld();
        },
      };
    },
  });
  await purging;
  assert.equal(await isSound(kept, second), true);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
});

test('a snapshot that claims blocks after they are doomed keeps them', async () => {
  const { kept, first, gone } = await keptAndPurged();
  const ctx = stepContext();
  const older = await takeLease(stores, {
    purpose: 'verify',
    deployment: kept.deployment,
    daemon: 'd1',
    snapshot: first.id,
  });
  const purging = purge(gone.deployment, ctx);
  await untilStage(ctx, /waits for a verify/);
  assert.ok((await stores.blocks.countDocuments({ doom: { $gt: 0 } })) > 500);
  const second = await snapshot(kept);
  await older.end();
  await purging;
  assert.equal(await isSound(kept, second), true);
  assert.deepEqual(await unmatchedBlocks(), { dead: 0, missing: 0 });
});

test('work on a snapshot that is purged is waited for before anything is removed', async () => {
  const { gone } = await keptAndPurged();
  const { deployment } = gone;
  const ctx = stepContext();
  const lease = await takeLease(stores, { purpose: 'restore', deployment, daemon: 'd1', snapshot: null });
  const plan = await planPurge(stepContext(), stores, deployment);
  assert.deepEqual(plan.waitsFor, [{ purpose: 'restore', daemon: 'd1', snapshot: null }]);
  const purging = purge(deployment, ctx);
  await untilStage(ctx, /waits for a restore/);
  assert.equal(await stores.manifests.countDocuments({ deployment }), 1);
  await lease.end();
  await purging;
  assert.equal(await tracesOf(deployment), 0);
});

test('a snapshot under a claim from before the purge is not committed', async () => {
  const { gone } = await keptAndPurged();
  const { deployment } = gone;
  await assert.rejects(
    snapshot(gone, {
      async lock(minimum) {
        const locked = await head.lock(minimum);
        return {
          ...locked,
          async stillHeld() {
            await beginPurge(stores, { deployment, run: 'in the middle' });
            return locked.stillHeld();
          },
        };
      },
    }),
    (error) => isLifeboatError(error, 'FenceLost'),
  );
  await purge(deployment);
  assert.equal(await tracesOf(deployment), 0);
});

test('what a later backup of the same name stores stays', async () => {
  const { gone } = await keptAndPurged();
  const { deployment } = gone;
  const request = { deployment, run: 'slow' };
  await beginPurge(stores, request);
  // Another run ends it meanwhile, and a new backup begins.
  await purge(deployment);
  const again = await claimedMember(stores, deployment);
  const taken = await snapshot(again);
  await assert.rejects(purgeSnapshots(stepContext(), stores, request), (error) => isLifeboatError(error, 'FenceLost'));
  await purgeRecords(stepContext(), stores, request);
  assert.equal(await isSound(again, taken), true);
});

test('the ranges of hashes cover each hash once, and hold what they should', () => {
  for (const blocks of [0, 1, 1_000, 1_001, 12_345]) {
    const ranges = hashRanges(blocks, 1_000);
    assert.equal(ranges.length, Math.max(1, Math.ceil(blocks / 1_000)));
    assert.equal(ranges[0]?.from, 0);
    assert.equal(ranges.at(-1)?.to, 2 ** 32);
    for (const [n, { from }] of ranges.entries()) if (n > 0) assert.equal(from, ranges[n - 1]?.to);
  }
});

test('a plan of many blocks tells their bytes from a sample, and says so', () => {
  const nothing = { count: 0, bytes: 0 };
  const facts = {
    deployment: 'shop',
    snapshots: [],
    referredBlocks: 3_000,
    onlyBlocks: 2_000,
    slices: nothing,
    batches: nothing,
    heads: [],
    restores: 0,
    leases: [],
  };
  const sampled = purgePlanOf({ ...facts, samples: [{ blocks: 500, bytes: 5_000, of: 2_000 }] });
  assert.deepEqual(sampled.blocks, {
    referred: 3_000,
    shared: 1_000,
    freed: 2_000,
    freedBytes: 20_000,
    estimated: true,
  });
  assert.equal(purgePlanOf({ ...facts, samples: [{ blocks: 0, bytes: 0, of: 0 }] }).blocks.freedBytes, 0);
});
