/** Commands to workflows whose daemon has just died, or is away: they take effect, and say when they have not yet. */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CancelledFailure } from '@temporalio/common';
import { WorkflowFailedError, WorkflowUpdateFailedError, type WorkflowHandle } from '@temporalio/client';
import { TASK_QUEUE } from '../src/shared/names.ts';
import type { backup } from '../src/workflows/index.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';
import { startWorker, type WorkerProcess } from './support/worker.ts';

let lifeboat: TestLifeboat;
let handle: WorkflowHandle<typeof backup>;
let other: WorkerProcess | undefined;

before(async () => {
  lifeboat = await startLifeboat({ sliceMs: 60_000 });
  await lifeboat.source.client.db('shop').collection('items').insertOne({ n: 1 });
  handle = await lifeboat.startBackup('shop');
  await lifeboat.untilPhase('shop', 'routine');
});

after(async () => {
  await other?.kill();
  await lifeboat?.[Symbol.asyncDispose]();
});

async function activities(): Promise<string[]> {
  const { raw } = await handle.describe();
  return (raw.pendingActivities ?? []).map(({ activityType }) => activityType?.name ?? '');
}

test('a command that comes when the worker has just died is no failure of the backup', async () => {
  await until(async () => (await activities()).includes('applyEntries'), 'entries are applied');
  await lifeboat.worker().kill();
  const resyncing = command(handle, 'resync', { reason: 'the worker was killed' });
  await lifeboat.restartWorker();
  assert.equal(await resyncing, 'initial-sync');
  const { problem } = await lifeboat.untilPhase('shop', 'routine');
  assert.equal(problem, null);
});

test('a command that cannot be carried out yet is noted, says so, and takes effect by itself', async () => {
  const { storeSet } = lifeboat;
  storeSet.members[0]?.kill('SIGKILL');
  await assert.rejects(command(handle, 'pause', { reason: 'the stores are moved' }), (error) => {
    assert.ok(error instanceof WorkflowUpdateFailedError);
    assert.match(String(error.cause?.message), /noted and not in effect yet/);
    return true;
  });
  await storeSet.restart(0);
  await lifeboat.untilPhase('shop', 'paused', 120_000);
  assert.equal(await command(handle, 'resume'), 'routine');
});

test('a restore that is cancelled while its daemon is away ends as cancelled', async () => {
  await startOther();
  const { lastSnapshot } = await lifeboat.status('shop');
  assert.ok(lastSnapshot);
  await lifeboat.worker().kill();
  const restoring = await lifeboat.client.workflow.start('restore', {
    workflowId: 'restore/shop/away',
    taskQueue: TASK_QUEUE,
    args: [
      {
        deployment: 'shop',
        snapshot: lastSnapshot.id,
        to: `dir:${join(lifeboat.folder, 'restored')}`,
        daemon: 'test-daemon',
      },
    ],
  });
  await until(async () => {
    const { raw } = await restoring.describe();
    return (raw.pendingActivities ?? []).some(({ activityType }) => activityType?.name === 'restoreDirectory');
  }, 'the restore waits for its daemon');
  await restoring.cancel();
  await assert.rejects(restoring.result(), (error) => {
    assert.ok(error instanceof WorkflowFailedError && error.cause instanceof CancelledFailure, String(error));
    return true;
  });
  assert.equal((await lifeboat.stores.restores.findOne({ _id: 'away' }))?.state, 'cancelled');
});

test('a backup whose daemon is gone stops, and its record says so, when any worker runs', async () => {
  assert.equal(await command(handle, 'stop'), 'stopped');
  assert.deepEqual(await handle.result(), { phase: 'stopped', problem: null });
  assert.equal((await lifeboat.status('shop')).phase, 'stopped');
});

/** A worker with a daemon of its own beside the one of the test. */
async function startOther(): Promise<void> {
  const home = join(lifeboat.folder, 'home-other');
  await mkdir(home);
  const config = JSON.parse(await readFile(lifeboat.setting.configFile, 'utf8')) as { daemon: { id: string } };
  config.daemon.id = 'other-daemon';
  const configFile = join(lifeboat.folder, 'other.yaml');
  await writeFile(configFile, JSON.stringify(config));
  other = await startWorker({ ...lifeboat.setting, configFile, home });
}
