import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { endOfChain } from '../src/oplogstore/batches.ts';
import { compareOptimes } from '../src/shared/optime.ts';
import { oldestEntry } from '../src/source/positions.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { until } from './support/replica-set.ts';
import { openSyncLab, stepContext } from './support/sync.ts';

const never = new AbortController().signal;

test('a source whose oplog has run past the end of the chain is a gap, not read over', async () => {
  // Entries behind the last checkpoint are never cut off, and there is one a minute by default.
  await using lab = await openSyncLab({ extraArgs: ['--oplogSize', '8', '--syncdelay', '1'] });
  const deployment = await lab.begin();
  const plan = await beginSync(stepContext(), deployment);
  await tailOplog(stepContext(), deployment, { maxMs: 300 });
  const end = (await endOfChain(lab.stores, deployment.fence.incarnation)) ?? fromStoredPosition(plan.beginFetching);
  const things = lab.set.client.db('flood').collection('things');
  await until(async () => {
    await things.insertMany(Array.from({ length: 8 }, () => ({ bytes: randomBytes(500_000) })));
    const oldest = await oldestEntry(lab.set.client, never);
    return oldest !== undefined && compareOptimes(oldest, end.ts) > 0;
  }, 'the oplog begins after the chain');
  await assert.rejects(tailOplog(stepContext(), deployment, { maxMs: 1_000 }), { kind: 'OplogGap' });
  assert.deepEqual(await endOfChain(lab.stores, deployment.fence.incarnation), end);
});
