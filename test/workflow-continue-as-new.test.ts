/** A backup's history stays short, and nothing that was asked of it is forgotten when a new run begins. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { WorkflowHandle } from '@temporalio/client';
import { backupWorkflowId, SearchAttribute } from '../src/shared/names.ts';
import type { backup } from '../src/workflows/index.ts';
import type { LifecycleStatus } from '../src/workflows/messages.ts';
import { recordHistory } from './support/histories.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';

const LONG_HISTORY = 60;

let lifeboat: TestLifeboat;
let handle: WorkflowHandle<typeof backup>;

before(async () => {
  lifeboat = await startLifeboat({ longHistory: LONG_HISTORY, sliceMs: 1_000 });
  await lifeboat.source.client.db('shop').collection('items').insertOne({ text: 'one' });
  await lifeboat.startBackup('shop');
  handle = lifeboat.client.workflow.getHandle<typeof backup>(backupWorkflowId('shop'));
  await lifeboat.untilPhase('shop', 'routine', 120_000);
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function runId(): Promise<string> {
  return (await handle.describe()).runId;
}

async function untilNextRun(): Promise<string> {
  const before = await runId();
  await until(async () => (await runId()) !== before, 'a new run has begun', 60_000);
  return before;
}

test('a backup hands over to a new run without a new claim, again and again', async () => {
  await untilNextRun();
  const { epoch } = await owner();
  const handedOver = await untilNextRun();
  assert.equal((await owner()).epoch, epoch);
  assert.equal((await lifeboat.status('shop')).phase, 'routine');
  await recordHistory(lifeboat.temporalAddress, handle.workflowId, 'backup-continued', handedOver);
});

test('a pause, its reason and the search attributes outlive the run they were made in', async () => {
  assert.equal(await command(handle, 'pause', { reason: 'the source is moved' }), 'paused');
  const before = await runId();
  // A pause of what is paused changes nothing but the length of the history.
  await until(async () => {
    await command(handle, 'pause');
    return (await runId()) !== before;
  }, 'a new run has begun');
  const status: LifecycleStatus = await handle.query('status');
  assert.deepEqual([status.phase, status.reason], ['paused', 'the source is moved']);
  assert.deepEqual((await handle.describe()).searchAttributes[SearchAttribute.phase], ['paused']);
  assert.equal((await lifeboat.status('shop')).phase, 'paused');
});

test('what was paused before a new run is resumed after it', async () => {
  assert.equal(await command(handle, 'resume'), 'routine');
  await untilNextRun();
  assert.equal(await command(handle, 'stop'), 'stopped');
  await handle.result();
});

async function owner(): Promise<{ readonly epoch: number }> {
  const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.ok(record);
  return record.owner;
}
