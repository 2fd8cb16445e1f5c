/** What the step that applies entries says of where the head stands, and of a head that holds nothing. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Long, ObjectId, UUID, type Document } from 'mongodb';
import { finishDeletions } from '../src/blockstore/delete-snapshot.ts';
import type { HeadOwner } from '../src/head/owner.ts';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { appendBatch, CHAIN_START } from '../src/oplogstore/batches.ts';
import { isLifeboatError, type ErrorName } from '../src/shared/errors.ts';
import { applyEntries, removeUnneeded } from '../src/steps/apply-entries.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { buildHead } from '../src/steps/build-head.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { finishSync } from '../src/steps/finish-sync.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { validateHead } from '../src/steps/validate-head.ts';
import { readMember, updateMember } from '../src/stores/members.ts';
import type { SyncPlan } from '../src/stores/records.ts';
import { listCollectionsToBuild, pendingCollections, saveListing } from '../src/syncstore/collections.ts';
import { at, createOf, entry, insertOf, inTransaction } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import { beginAt, headIdentity, openHead } from './support/head.ts';
import { listed, openSyncLab, stepContext, type Deployment, type SyncLab } from './support/sync.ts';

let lab: SyncLab;
const ctx = stepContext();

before(async () => {
  lab = await openSyncLab();
});

after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

interface Begun extends AsyncDisposable {
  readonly deployment: Deployment;
  readonly head: HeadOwner;
  readonly plan: SyncPlan;
}

/** An initial sync that has begun, the first entries of its source, and a head that holds nothing. */
async function begun(): Promise<Begun> {
  const deployment = await lab.begin();
  const { stores, source, fence } = deployment;
  const plan = await beginSync(ctx, { stores, source, fence });
  await tailOplog(ctx, deployment, { maxMs: 1_000 });
  const folder = await testFolder();
  const head = await openHead(folder.path, headIdentity({ incarnation: fence.incarnation.toHexString() }));
  return {
    deployment,
    head,
    plan,
    async [Symbol.asyncDispose]() {
      await head.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

function parts({ deployment, head }: Pick<Begun, 'deployment' | 'head'>): Parameters<typeof applyEntries>[1] {
  const { stores, fence, arrivals } = deployment;
  return { stores, fence, head, source: () => Promise.resolve(deployment.source), arrivals, windowMs: 0 };
}

function kind(name: ErrorName): (error: unknown) => boolean {
  return (error) => isLifeboatError(error, name) && !error.retryable;
}

test('an initial sync has caught up at its stop point and not before, whatever is stored', async () => {
  await using made = await begun();
  const { head, plan } = made;
  const start = fromStoredPosition(plan.beginApplying);
  const until = { ts: { t: start.ts.t + 10_000, i: 1 }, term: start.term };
  await head.attempt('build').turn((open) => {
    const position = { appliedThrough: start, oplogFrom: start, inconsistentUntil: until };
    return open.save({ ...open.record, stage: 'catching-up', position }, { journaled: true });
  });
  for (const maxMs of [50, 300, 1_100]) {
    const { caughtUp } = await applyEntries(ctx, parts(made), { maxMs, until });
    assert.equal(caughtUp, false);
  }
  await assert.rejects(finishSync(ctx, parts(made)), kind('HeadUnfinished'));
});

test('a head that a crash has left with all that it lacked applied is consistent without another entry', async () => {
  await using made = await begun();
  const { head, plan } = made;
  const start = fromStoredPosition(plan.beginApplying);
  await head.attempt('build').turn((open) => {
    const position = { appliedThrough: start, oplogFrom: start, inconsistentUntil: start };
    return open.save({ ...open.record, stage: 'consistent', position }, { journaled: true });
  });
  const { position } = await applyEntries(ctx, parts(made), { maxMs: 10_000, until: start });
  assert.deepEqual(position, { appliedThrough: start, oplogFrom: start, inconsistentUntil: null });
});

test('a head that lost its data in an initial sync sends the sync back to building it', async () => {
  await using made = await begun();
  await assert.rejects(applyEntries(ctx, parts(made), { maxMs: 1_000 }), kind('HeadUnfinished'));
  await assert.rejects(finishSync(ctx, parts(made)), kind('HeadUnfinished'));
});

test('a head that lost its data after the initial sync is missing, and no slice is removed over that', async () => {
  await using made = await begun();
  const { stores, fence } = made.deployment;
  await updateMember(stores, fence, { sync: { ...made.plan, stage: 'validated' } });
  await assert.rejects(applyEntries(ctx, parts(made), { maxMs: 1_000 }), kind('HeadMissing'));
  const listed = await stores.syncCollections.countDocuments({ '_id.incarnation': fence.incarnation });
  const validating = validateHead(ctx, { ...parts(made), source: made.deployment.source }, { maxMs: 1_000 });
  await assert.rejects(validating, kind('HeadMissing'));
  assert.equal(await stores.syncCollections.countDocuments({ '_id.incarnation': fence.incarnation }), listed);
});

test('a collection whose slices are gone is not built without its documents', async () => {
  const orders = lab.set.client.db('shop').collection('orders');
  await orders.insertMany(Array.from({ length: 10 }, (_, n) => ({ n })));
  await using made = await begun();
  const { stores, source, fence } = made.deployment;
  for (let finished = false; !finished;) {
    ({ finished } = await copySource(ctx, { stores, source, fence, slicesInFlight: 2 }, { maxMs: 5_000 }));
  }
  const { _id } = await listed(made.deployment, 'shop.orders');
  await stores.slices.deleteMany({ '_id.incarnation': fence.incarnation, '_id.uuid': _id.uuid });
  const building = buildHead(ctx, { stores, fence, head: made.head }, { maxMs: 10_000 });
  await assert.rejects(building, kind('SliceMissing'));
});

test('what a stopped twin lists when all is copied is nothing to wait for: entries make it', async () => {
  await lab.set.client.db('shop').collection('items').insertOne({ n: 1 });
  await using made = await begun();
  const { stores, source, fence } = made.deployment;
  for (let finished = false; !finished;) {
    ({ finished } = await copySource(ctx, { stores, source, fence, slicesInFlight: 2 }, { maxMs: 5_000 }));
  }
  const { collections, views } = await listCollectionsToBuild(stores, fence.incarnation);
  const late = { ...(await listed(made.deployment, 'shop.items')), name: 'late', state: 'pending' as const };
  const uuid = new UUID();
  const listing = { collections: [...collections, { ...late, _id: { ...late._id, uuid } }], views };
  await saveListing(stores, listing, new ObjectId());
  assert.equal((await pendingCollections(stores, fence.incarnation)).length, 1);
  const { finished } = await buildHead(ctx, { stores, fence, head: made.head }, { maxMs: 10_000 });
  assert.equal(finished, true);
});

test('a repair that fails between two batches of a transaction makes the entries be read again, and no resync', async () => {
  const deployment = await lab.begin();
  const { stores, fence } = deployment;
  const [ui, session] = [new UUID(), new UUID()];
  const part = (id: number, extra: Document): Document => ({
    op: 'c',
    ns: 'admin.$cmd',
    ...inTransaction(session, 7),
    o: { applyOps: [insertOf('a.b', ui, { _id: id })], ...extra },
  });
  const entries = [
    { op: 'n', ns: '', o: { msg: 'where the head begins' } },
    createOf('a.b', ui),
    part(1, { partialTxn: true }),
    insertOf('a.b', ui, { _id: 9 }),
    part(2, { count: Long.fromNumber(2) }),
  ];
  for (const [n, fields] of entries.entries()) {
    const here = { first: at(n), last: at(n), lastWall: new Date(), entries: 1, bytes: entry(n, fields) };
    const batch = { after: n === 0 ? CHAIN_START : at(n - 1), ...here };
    assert.ok(await appendBatch(stores, fence.incarnation, batch, fence.epoch));
  }
  await using folder = await testFolder();
  const head = await openHead(folder.path, headIdentity({ incarnation: fence.incarnation.toHexString() }));
  try {
    await beginAt(head, at(0));
    const repairs: Promise<unknown>[] = [];
    // Its turn comes before that of the next batch.
    const failRepair = (): void => {
      if (repairs.length === 3) return;
      const validate = head.attempt('validate');
      const failing = validate.turn((open) => {
        validate.applier(open);
        return Promise.reject(new Error('the source broke the connection'));
      });
      repairs.push(assert.rejects(failing));
    };
    const request = { maxMs: 20_000, until: at(4) };
    const applied = await applyEntries({ ...ctx, count: failRepair }, parts({ deployment, head }), request);
    await Promise.all(repairs);
    assert.equal(repairs.length, 3);
    assert.deepEqual([applied.caughtUp, applied.position.oplogFrom], [true, at(4)]);
  } finally {
    await head.close();
  }
});

test('which snapshot entries are kept for is written down first, and none goes for one that is being deleted', async () => {
  await using made = await begun();
  const { stores, fence } = made.deployment;
  for (let n = 0; n < 3; n += 1) {
    await lab.set.client.db('shop').collection('items').insertOne({ kept: n });
    await tailOplog(ctx, made.deployment, { maxMs: 300 });
  }
  await updateMember(stores, fence, { sync: { ...made.plan, stage: 'validated' } });
  const { incarnation } = fence;
  const ofChain = { '_id.incarnation': incarnation };
  const batches = await stores.batches.find(ofChain).sort({ 'last.ts': 1 }).toArray();
  const newest = batches.at(-1);
  assert.ok(newest && batches.length > 2);
  const { deployment, member } = await readMember(stores, fence);
  const base = 'the one that the window rests on';
  const told = { deployment, member, incarnation, optime: newest.first, oplogFrom: newest.first };
  const deleting = { run: incarnation, since: new Date() };
  const wallTime = new Date(Date.now() - 60_000);
  await stores.manifests.insertOne({ _id: base, ...told, wallTime, deleting } as never);
  const at = fromStoredPosition(newest.last);
  const position = { appliedThrough: at, oplogFrom: at, inconsistentUntil: null };
  const remove = async (): Promise<number> => {
    await removeUnneeded({ stores, fence, windowMs: 1_000 }, position);
    return stores.batches.countDocuments(ofChain);
  };
  assert.equal(await remove(), batches.length);
  assert.equal((await readMember(stores, fence)).keptFor, undefined, 'it is being deleted: nothing rests on it');
  await stores.manifests.updateOne({ _id: base }, { $unset: { deleting: 1 } });
  assert.equal(await remove(), 1);
  assert.deepEqual((await readMember(stores, fence)).keptFor, { windowMs: 1_000, bases: [base] });
  await stores.manifests.updateOne({ _id: base }, { $set: { deleting } });
  assert.deepEqual(await finishDeletions(stores, deployment), []);
  assert.equal(await stores.manifests.countDocuments({ _id: base, deleting: { $exists: false } }), 1);
});
