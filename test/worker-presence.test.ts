/** A worker process whose id another worker has taken. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { errorKind } from '../src/shared/errors.ts';
import { startLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';
import { workerLog } from './support/worker.ts';

function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('a worker that was silent and replaced by another of its id ends by itself, and says so', async () => {
  await using lifeboat = await startLifeboat();
  const { daemon, pid } = lifeboat.worker();
  const { matchedCount } = await lifeboat.stores.daemons.updateOne({ _id: daemon }, { $set: { process: 'another' } });
  assert.equal(matchedCount, 1);
  await until(() => !runs(pid), 'the worker has ended', 60_000);
  const log = await readFile(workerLog(lifeboat.setting.home), 'utf8');
  assert.match(log, new RegExp(`${errorKind('DaemonIdTaken').code}.*this worker ends`));
  assert.match(log, /the worker has ended/);
});
