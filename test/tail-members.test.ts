/** Following a member that is not the whole set: what is known of the source does not come from it alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MongoClient } from 'mongodb';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { appendBatch, CHAIN_START } from '../src/oplogstore/batches.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { compareOptimes } from '../src/shared/optime.ts';
import type { Source } from '../src/source/connect.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import type { SyncPlan } from '../src/stores/records.ts';
import { readMember } from '../src/stores/members.ts';
import { until } from './support/replica-set.ts';
import { openSyncLab, stepContext, type Deployment } from './support/sync.ts';

async function isSecondary(uri: string): Promise<boolean> {
  await using client = await MongoClient.connect(uri);
  return (await client.db('admin').command({ hello: 1 }))['secondary'] === true;
}

/** A member that was just made has yet to hear what is on a majority. */
async function planned(deployment: Deployment): Promise<SyncPlan> {
  let plan: SyncPlan | undefined;
  await until(async () => {
    plan = await beginSync(stepContext(), deployment).catch((error: unknown) => {
      if (isLifeboatError(error, 'SourceNotReady')) return undefined;
      throw error;
    });
    return plan !== undefined;
  }, 'the initial sync has begun');
  assert.ok(plan);
  return plan;
}

test('the lag is that behind the set, also while a member is followed that lags itself', async () => {
  await using lab = await openSyncLab({ members: 3 });
  const deployment = await lab.begin();
  await planned(deployment);
  const uris = lab.set.members.map(({ uri }) => uri);
  await until(async () => (await Promise.all(uris.map(isSecondary))).includes(true), 'there is a secondary');
  const lagging = uris[(await Promise.all(uris.map(isSecondary))).indexOf(true)] ?? '';
  await using client = await MongoClient.connect(lagging);
  const { me } = await client.db('admin').command({ hello: 1 });
  await client.db('admin').command({ fsync: 1, lock: true });
  try {
    await lab.set.client
      .db('shop')
      .collection('orders')
      .insertOne({ n: 1 }, { writeConcern: { w: 'majority' } });
    const newest = await lab.source.majorityPosition();
    const source: Source = { ...lab.source, pinned: () => lab.source.pinned(String(me)) };
    await tailOplog(stepContext(), { ...deployment, source }, { maxMs: 5_000 });
    const { seen } = await readMember(lab.stores, deployment.fence);
    assert.ok(seen && compareOptimes(fromStoredPosition(seen.position).ts, newest.ts) >= 0);
  } finally {
    await client.db('admin').command({ fsyncUnlock: 1 });
  }
});

test('a member that lags is no proof of a rollback while the set has no primary', async () => {
  await using lab = await openSyncLab({ members: 2 });
  const deployment = await lab.begin();
  const { beginFetching } = await planned(deployment);
  const begin = fromStoredPosition(beginFetching);
  // The chain ends at an entry that the remaining member has never heard of.
  const last = { ts: { t: begin.ts.t + 100_000, i: 1 }, term: begin.term };
  const batch = { after: CHAIN_START, first: last, last, lastWall: new Date(), entries: 1, bytes: Buffer.alloc(0) };
  const { incarnation, epoch } = deployment.fence;
  assert.ok(await appendBatch(lab.stores, incarnation, batch, epoch));
  const [killed, left] = lab.set.members;
  assert.ok(killed && left);
  killed.kill('SIGKILL');
  await killed.exited;
  await until(() => isSecondary(left.uri), 'the other member is a secondary');
  await assert.rejects(tailOplog(stepContext(), deployment, { maxMs: 1_000 }), (error) =>
    isLifeboatError(error, 'SourceNotReady'),
  );
});
