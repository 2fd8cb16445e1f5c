/** The life of one backup, on a real Temporal server, a real source and store, and a worker in a process of its own. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { mongodOn } from '../src/mongod/process.ts';
import { errorKind } from '../src/shared/errors.ts';
import type { RestoreSummary, SnapshotSummary, VerifyResult } from '../src/shared/messages.ts';
import { SearchAttribute, TASK_QUEUE } from '../src/shared/names.ts';
import { compareOptimes, ZERO_OPTIME, type Optime } from '../src/shared/optime.ts';
import type { LifecycleStatus } from '../src/workflows/messages.ts';
import { workerFile } from '../src/worker.ts';
import type { backup } from '../src/workflows/index.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { recordHistory } from './support/histories.ts';
import { until } from './support/replica-set.ts';
import { headPath } from './support/worker.ts';

let lifeboat: TestLifeboat;
let handle: WorkflowHandle<typeof backup>;
let first: SnapshotSummary;

before(async () => {
  lifeboat = await startLifeboat();
  const items = lifeboat.source.client.db('shop').collection<{ _id: number }>('items');
  await items.insertMany(Array.from({ length: 2_000 }, (_, n) => ({ _id: n, text: 'x'.repeat(200) })));
  await items.createIndex({ text: 1 });
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function insert(text: string): Promise<void> {
  await lifeboat.source.client
    .db('shop')
    .collection('orders')
    .insertOne({ text }, { writeConcern: { w: 'majority' } });
}

async function majorityNow(): Promise<Optime> {
  const { lastWrite } = await lifeboat.source.client.db('admin').command({ hello: 1 });
  const { ts } = lastWrite.majorityOpTime;
  return { t: ts.getHighBitsUnsigned(), i: ts.getLowBitsUnsigned() };
}

async function untilApplied(optime: Optime): Promise<void> {
  await until(async () => {
    const [member] = (await lifeboat.status('shop')).members;
    return compareOptimes(member?.appliedThrough ?? ZERO_OPTIME, optime) >= 0;
  }, `${optime.t},${optime.i} is applied`);
}

let ids = 0;
async function run<T>(type: string, input: object): Promise<T> {
  ids += 1;
  const workflowId = `${type}/shop/test-${ids}`;
  const result: T = await lifeboat.client.workflow.execute(type, { workflowId, taskQueue: TASK_QUEUE, args: [input] });
  await recordHistory(lifeboat.temporalAddress, workflowId, type);
  return result;
}

async function failureCode(running: Promise<unknown>): Promise<string | undefined> {
  const error: unknown = await running.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof WorkflowFailedError, String(error));
  return error.cause && 'type' in error.cause ? String(error.cause.type) : undefined;
}

test('a backup becomes routine with its first snapshot', async () => {
  handle = await lifeboat.startBackup('shop');
  const { lastSnapshot, members, restorable, problem } = await lifeboat.untilPhase('shop', 'routine', 120_000);
  assert.ok(lastSnapshot);
  first = lastSnapshot;
  const [range, ...others] = restorable;
  assert.deepEqual([range?.from, others], [first.optime, []]);
  assert.ok(range && compareOptimes(range.to, first.optime) >= 0);
  assert.equal(problem, null);
  assert.equal(members[0]?.name, 'rs0');
  assert.ok(members[0].appliedThrough);
});

test('the workflow says where it is: by query, search attributes and details', async () => {
  const status: LifecycleStatus = await handle.query('status');
  assert.deepEqual([status.phase, status.member, status.problem], ['routine', 'rs0', null]);
  const attributes = (await handle.describe()).searchAttributes;
  assert.deepEqual(attributes[SearchAttribute.deployment], ['shop']);
  assert.deepEqual(attributes[SearchAttribute.phase], ['routine']);
});

test('new writes are applied while the backup runs', async () => {
  await insert('while it runs');
  const written = await majorityNow();
  await untilApplied(written);
});

test('an idle source is followed without spinning', async () => {
  const before = (await handle.describe()).historyLength;
  const begin = await majorityNow();
  // An idle primary writes an entry every ten seconds.
  await untilApplied({ t: begin.t + 10, i: 0 });
  const events = (await handle.describe()).historyLength - before;
  // Two slices at a time of three seconds each, six events to a slice, and as many again for luck.
  assert.ok(events < 100, `${events} events`);
});

test('a snapshot is at or after the moment it was asked for, stores little that is new, and verifies', async () => {
  await insert('before the snapshot');
  const asked = await majorityNow();
  const snapshot = await run<SnapshotSummary>('snapshot', { deployment: 'shop' });
  assert.ok(compareOptimes(snapshot.optime, asked) >= 0);
  assert.ok(snapshot.reusedBlocks > 0);
  const verified = await run<VerifyResult>('verifySnapshot', { snapshot: snapshot.id });
  assert.deepEqual([verified.ok, verified.problems], [true, []]);
});

test('of two snapshots asked for at once each is taken, one after the other', async () => {
  const both = await Promise.all([
    run<SnapshotSummary>('snapshot', { deployment: 'shop' }),
    run<SnapshotSummary>('snapshot', { deployment: 'shop' }),
  ]);
  const found = await lifeboat.stores.manifests.countDocuments({ _id: { $in: both.map(({ id }) => id) } });
  assert.equal(found, 2);
});

test('a snapshot is restored, proven, and its restore is on record under the id of its workflow', async () => {
  const path = join(lifeboat.folder, 'restored');
  const summary = await run<RestoreSummary>('restore', { deployment: 'shop', snapshot: first.id, to: `dir:${path}` });
  assert.equal(summary.id, `test-${ids}`);
  assert.equal(summary.verified, true);
  assert.deepEqual(summary.optime, first.optime);
  assert.equal((await lifeboat.stores.restores.findOne({ _id: summary.id }))?.state, 'done');
});

test('a restore into a folder that is not empty fails and is on record as failed', async () => {
  const path = join(lifeboat.folder, 'restored');
  const code = await failureCode(run('restore', { deployment: 'shop', snapshot: first.id, to: `dir:${path}` }));
  assert.equal(code, errorKind('TargetNotEmpty').code);
  const record = await lifeboat.stores.restores.findOne({ _id: `test-${ids}` });
  assert.deepEqual([record?.state, record?.problem?.code], ['failed', code]);
});

test('a paused backup applies nothing and takes no snapshot; resumed, it catches up', async () => {
  assert.equal(await command(handle, 'pause', { reason: 'the source is upgraded' }), 'paused');
  const paused = (await lifeboat.status('shop')).members[0]?.appliedThrough;
  await insert('while paused');
  const written = await majorityNow();
  assert.equal(await command(handle, 'pause'), 'paused');
  assert.equal(await failureCode(run('snapshot', { deployment: 'shop' })), errorKind('BackupNotRunning').code);
  assert.deepEqual((await lifeboat.status('shop')).members[0]?.appliedThrough, paused);
  assert.equal(await command(handle, 'resume'), 'routine');
  assert.equal(await command(handle, 'resume'), 'routine');
  await untilApplied(written);
});

test('an update with a wrong field is refused and changes nothing', async () => {
  await assert.rejects(handle.executeUpdate('pause', { args: [{ why: 'x' }] }));
  await assert.rejects(handle.executeUpdate('resume', { args: [{ reason: 'x' }] }));
  assert.equal((await lifeboat.status('shop')).phase, 'routine');
});

test('a URI that became wrong stops the backup until it is right again', async () => {
  await command(handle, 'pause');
  await lifeboat.configure({ shop: lifeboat.storeSet.uri });
  await assert.rejects(command(handle, 'resume'));
  const { phase, problem } = await lifeboat.status('shop');
  assert.deepEqual([phase, problem?.code], ['failed', errorKind('StoreOnSource').code]);
  await lifeboat.configure({ shop: lifeboat.source.uri });
  assert.equal(await command(handle, 'resume'), 'routine');
});

test('a stopped backup ends, keeps what it has, and goes on from there when it is started again', async () => {
  const before = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.equal(await command(handle, 'stop'), 'stopped');
  assert.deepEqual(await handle.result(), { phase: 'stopped', problem: null });
  await recordHistory(lifeboat.temporalAddress, handle.workflowId, 'backup-stopped');
  assert.equal((await lifeboat.status('shop')).phase, 'stopped');
  assert.equal(await failureCode(run('snapshot', { deployment: 'shop' })), errorKind('BackupNotRunning').code);
  await insert('while stopped');
  handle = await lifeboat.startBackup('shop');
  await lifeboat.untilPhase('shop', 'routine');
  const again = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.deepEqual(again?.incarnation, before?.incarnation);
  assert.ok((again?.owner.epoch ?? 0) > (before?.owner.epoch ?? 0));
});

test('a worker that is told to end closes its head and leaves nothing behind', async () => {
  const { home } = lifeboat.setting;
  const dbpath = headPath(home, 'shop', 'rs0');
  assert.ok(await mongodOn(dbpath));
  assert.equal(await lifeboat.worker().end(), 0);
  assert.equal(await mongodOn(dbpath), undefined);
  assert.equal(existsSync(workerFile(home)), false);
  await insert('while no worker runs');
  const written = await majorityNow();
  await lifeboat.restartWorker();
  await untilApplied(written);
});

test('a lost head whose entries are gone needs a resync, which makes a new initial sync and keeps the snapshots', async () => {
  const { home } = lifeboat.setting;
  await command(handle, 'pause');
  const before = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  // As it is with a window of 0: a snapshot, and no entries that go on from it.
  const [newest] = await lifeboat.stores.batches.find().sort({ 'last.ts': -1 }).limit(1).toArray();
  assert.ok(newest);
  await lifeboat.stores.batches.deleteMany({ 'last.ts': { $lt: newest.last.ts } });
  await lifeboat.worker().end();
  await rm(join(home, 'daemon', 'heads'), { recursive: true });
  await lifeboat.restartWorker();
  await assert.rejects(command(handle, 'resume'));
  const { phase, problem } = await lifeboat.status('shop');
  assert.deepEqual([phase, problem?.code], ['resync-needed', errorKind('HeadMissing').code]);
  assert.equal(await command(handle, 'resync', { reason: 'the disk was lost' }), 'initial-sync');
  await lifeboat.untilPhase('shop', 'routine', 120_000);
  const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.ok(before && record && !record.incarnation.equals(before.incarnation));
  assert.equal(await lifeboat.stores.batches.countDocuments({ '_id.incarnation': before.incarnation }), 0);
  assert.ok(await lifeboat.stores.manifests.findOne({ _id: first.id }));
});

test('a cancelled workflow stops its backup and says that it was cancelled', async () => {
  await handle.cancel();
  await assert.rejects(handle.result(), WorkflowFailedError);
  assert.equal((await handle.describe()).status.name, 'CANCELLED');
  assert.equal((await lifeboat.status('shop')).phase, 'stopped');
});
