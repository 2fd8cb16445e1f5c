/** A backup whose head is found to differ by the comparison of a snapshot stops, and a resync makes it good. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { SnapshotSummary } from '../src/shared/messages.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import { connectHead, headIdentity } from './support/head.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';

let lifeboat: TestLifeboat;
let ids = 0;

before(async () => {
  lifeboat = await startLifeboat();
  const items = lifeboat.source.client.db('shop').collection<{ _id: number }>('items');
  await items.insertMany(Array.from({ length: 500 }, (_, n) => ({ _id: n, text: 'x'.repeat(200) })));
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function snapshot(): Promise<SnapshotSummary> {
  ids += 1;
  const workflowId = `snapshot/shop/divergence-${ids}`;
  const result: SnapshotSummary = await lifeboat.client.workflow.execute('snapshot', {
    ...{ workflowId, taskQueue: TASK_QUEUE },
    args: [{ deployment: 'shop' }],
  });
  return result;
}

test('a backup whose snapshot is found to differ needs a resync, says why and names the snapshot; a resync mends it', async () => {
  const handle = await lifeboat.startBackup('shop');
  await lifeboat.untilPhase('shop', 'routine');
  const sound = await snapshot();
  assert.equal(sound.verification.state, 'equal');
  {
    const identity = headIdentity({ member: 'rs0' });
    await using head = await connectHead(join(lifeboat.setting.home, 'daemon'), identity);
    await head.db('shop').collection<{ _id: number }>('items').deleteOne({ _id: 7 });
  }
  const differing = await snapshot();
  assert.equal(differing.verification.state, 'different');
  assert.deepEqual(differing.verification.different, ['shop.items']);
  const { problem } = await lifeboat.untilPhase('shop', 'resync-needed');
  assert.equal(problem?.code, 'LB4004');
  assert.match(problem?.message ?? '', new RegExp(differing.id));
  assert.match(problem?.fix ?? '', /resync/);
  await command(handle, 'resync', { reason: 'the head differs' });
  await lifeboat.untilPhase('shop', 'routine');
  const mended = await snapshot();
  assert.equal(mended.verification.state, 'equal');
  assert.equal(mended.verification.roundEnded, true);
});
