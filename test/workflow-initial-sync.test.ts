/** Commands to a backup in the middle of its initial sync, from a source that answers slowly. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { WorkflowHandle } from '@temporalio/client';
import type { MemberRecord } from '../src/stores/records.ts';
import type { backup } from '../src/workflows/index.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';

const COLLECTIONS = 8;

let lifeboat: TestLifeboat;
let handle: WorkflowHandle<typeof backup>;

before(async () => {
  lifeboat = await startLifeboat({ testCommands: true });
  const db = lifeboat.source.client.db('shop');
  for (let c = 0; c < COLLECTIONS; c += 1) {
    await db.collection(`items${c}`).insertMany(Array.from({ length: 100 }, () => ({ bytes: randomBytes(50_000) })));
  }
  await slowReads(true);
  handle = await lifeboat.startBackup('shop');
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

/** Makes the source take its time for each reading of a collection, of ours alone. */
async function slowReads(slow: boolean): Promise<void> {
  await lifeboat.source.client.db('admin').command({
    configureFailPoint: 'failCommand',
    mode: slow ? 'alwaysOn' : 'off',
    ...(slow ? { data: { failCommands: ['find'], blockConnection: true, blockTimeMS: 700, appName: 'lifeboat' } } : {}),
  });
}

/** Whether a reading of ours is under way on the source. */
async function isRead(): Promise<boolean> {
  const { inprog } = await lifeboat.source.client
    .db('admin')
    .command({ currentOp: 1, appName: 'lifeboat', 'command.find': { $exists: true } });
  return (inprog as unknown[]).length > 0;
}

async function slices(): Promise<number> {
  return lifeboat.stores.slices.countDocuments();
}

async function member(): Promise<MemberRecord> {
  const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.ok(record);
  return record;
}

async function untilSlicesAfter(count: number): Promise<void> {
  await until(async () => (await slices()) > count, 'a slice is stored', 60_000);
  assert.equal((await member()).sync?.stop, null, 'the copy is not over');
}

test('a pause in the middle of the copy ends it, and a resume goes on where it was', async () => {
  await untilSlicesAfter(0);
  assert.equal(await command(handle, 'pause', { reason: 'the source is busy' }), 'paused');
  const paused = await slices();
  await until(async () => !(await isRead()), 'the source is left alone');
  assert.equal(await slices(), paused);
  assert.equal(await command(handle, 'resume'), 'initial-sync');
  await untilSlicesAfter(paused);
});

test('a resync in the middle of the copy begins anew, and nothing of the first copy stays', async () => {
  const { incarnation } = await member();
  assert.equal(await command(handle, 'resync', { reason: 'changed my mind' }), 'initial-sync');
  assert.ok(!(await member()).incarnation.equals(incarnation));
  await until(
    async () => (await lifeboat.stores.slices.countDocuments({ '_id.incarnation': incarnation })) === 0,
    'the slices of the first copy are removed',
  );
});

test('a stop in the middle of the copy ends the backup, which is finished when it is started again', async () => {
  await untilSlicesAfter(0);
  assert.equal(await command(handle, 'stop'), 'stopped');
  await handle.result();
  const { incarnation } = await member();
  await slowReads(false);
  handle = await lifeboat.startBackup('shop');
  const { lastSnapshot } = await lifeboat.untilPhase('shop', 'routine', 120_000);
  assert.ok(lastSnapshot);
  assert.ok((await member()).incarnation.equals(incarnation));
  const report = await lifeboat.stores.validations.findOne({ incarnation });
  assert.deepEqual([report?.state, report?.repaired, report?.notCompared], ['equal', [], []]);
  assert.equal(await slices(), 0, 'the slices go once the head is validated');
});
