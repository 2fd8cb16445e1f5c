/** Initial syncs that end on another daemon than they began on, and those that are asked for anew. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import type { Timestamp } from 'mongodb';
import { fromStoredPosition, fromTimestamp } from '../src/mongo/positions.ts';
import { endOfChain } from '../src/oplogstore/batches.ts';
import type { RestoreSummary, SnapshotSummary, VerifyResult } from '../src/shared/messages.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import { compareOptimes, formatOptime, type Optime } from '../src/shared/optime.ts';
import { removeUnneeded } from '../src/steps/apply-entries.ts';
import { removeFormer } from '../src/steps/former-syncs.ts';
import { takeLease } from '../src/stores/leases.ts';
import type { MemberRecord } from '../src/stores/records.ts';
import type { backup } from '../src/workflows/index.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';
import { withMongod } from './support/with-mongod.ts';
import { endHead } from './support/worker.ts';

const COLLECTIONS = 3;
/** Random bytes, so that compressing does not make them few. */
const DOCUMENT_BYTES = 100_000;
const DOCUMENTS = 300;

let lifeboat: TestLifeboat;
let handle: WorkflowHandle<typeof backup>;

before(async () => {
  lifeboat = await startLifeboat({ takeoverAfter: '30s' });
  const db = lifeboat.source.client.db('shop');
  for (let c = 0; c < COLLECTIONS; c += 1) {
    const items = db.collection<{ _id: number }>(`items${c}`);
    for (let n = 0; n < DOCUMENTS; n += 100) {
      await items.insertMany(
        Array.from({ length: 100 }, (_, i) => ({ _id: n + i, bytes: randomBytes(DOCUMENT_BYTES) })),
      );
    }
  }
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function member(): Promise<MemberRecord> {
  const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.ok(record, 'the member has a record');
  return record;
}

let ids = 0;
async function run<T>(type: string, input: object): Promise<T> {
  ids += 1;
  const workflowId = `${type}/shop/anew-${ids}`;
  const result: T = await lifeboat.client.workflow.execute(type, { workflowId, taskQueue: TASK_QUEUE, args: [input] });
  return result;
}

test('an initial sync whose daemon is gone goes on elsewhere, and reads nothing twice that was stored', async () => {
  handle = await lifeboat.startBackup('shop');
  await until(async () => (await lifeboat.stores.slices.countDocuments()) > 1, 'slices are stored', 60_000);
  await lifeboat.worker().kill();
  const { incarnation, sync } = await member();
  assert.equal(sync?.stop ?? null, null, 'the kill fell into the copying');
  await endHead(lifeboat.setting.home, 'shop', 'rs0');
  await rm(join(lifeboat.setting.home, 'daemon'), { recursive: true });
  await lifeboat.startDaemon('second');
  let documents = 0;
  await until(
    async () => {
      const { sync: now } = await member();
      if (now?.stage !== 'validated') {
        const found = await lifeboat.stores.slices
          .find({ '_id.incarnation': incarnation })
          .project<{ documents: number }>({ documents: 1 })
          .toArray();
        documents = Math.max(
          documents,
          found.reduce((sum, slice) => sum + slice.documents, 0),
        );
      }
      return (await lifeboat.status('shop')).phase === 'routine';
    },
    'the backup is in routine operation',
    150_000,
  );
  const now = await member();
  assert.deepEqual([now.owner.daemon, now.incarnation], ['second', incarnation]);
  const own = documents - COLLECTIONS * DOCUMENTS;
  // The source's own collections have a few documents besides.
  assert.ok(own >= 0 && own < 50, `${documents} documents were read`);
  const snapshot = (await lifeboat.status('shop')).lastSnapshot;
  assert.ok(snapshot);
  assert.equal((await run<VerifyResult>('verifySnapshot', { snapshot: snapshot.id })).ok, true);
});

test('a resync keeps old snapshots restorable, and stores little where the data is the same', async (t) => {
  const old = (await lifeboat.status('shop')).lastSnapshot;
  assert.ok(old);
  const { incarnation } = await member();
  const moment = await momentBehind('before the resync');
  assert.equal(await command(handle, 'resync', { reason: 'a test' }), 'initial-sync');
  await until(
    async () => {
      const { phase, lastSnapshot } = await lifeboat.status('shop');
      return phase === 'routine' && lastSnapshot?.id !== old.id;
    },
    'a new initial sync has ended',
    120_000,
  );
  assert.ok(!(await member()).incarnation.equals(incarnation));
  const fresh = (await lifeboat.status('shop')).lastSnapshot;
  assert.ok(fresh);
  t.diagnostic(`of ${fresh.newBlocks + fresh.reusedBlocks} blocks of the new head ${fresh.reusedBlocks} were there`);
  const listed = await lifeboat.stores.manifests.distinct('_id', { deployment: 'shop' });
  assert.ok(listed.includes(old.id));
  const path = join(lifeboat.folder, 'restored-old');
  const restored = await run<RestoreSummary>('restore', { deployment: 'shop', snapshot: old.id, to: `dir:${path}` });
  assert.deepEqual([restored.verified, restored.optime], [true, old.optime]);
  const again = await run<SnapshotSummary>('snapshot', { deployment: 'shop' });
  assert.ok(again.reusedBlocks > again.newBlocks);

  // Moments before it, with a gap behind them unless nothing was written meanwhile.
  const [before, after, ...others] = (await lifeboat.status('shop')).restorable;
  assert.ok(before && after && compareOptimes(before.to, moment) >= 0 && compareOptimes(before.to, after.from) <= 0);
  assert.deepEqual([after.from, others], [fresh.optime, []]);
  const to = join(lifeboat.folder, 'restored-moment');
  const at = formatOptime(moment);
  const there = await run<RestoreSummary>('restore', { deployment: 'shop', at, to: `dir:${to}` });
  assert.deepEqual([there.verified, there.optime], [true, moment]);
  await withMongod(to, {}, async (client) => {
    assert.equal(await client.db('shop').collection('marks').countDocuments({ mark: 'before the resync' }), 1);
  });
});

test('what a resync left goes when the window is over, but not under a restore that reads it', async () => {
  const { stores } = lifeboat;
  const { _id: key, incarnation, owner, former = [] } = await member();
  const [{ incarnation: old, bases } = { incarnation, bases: [] }] = former;
  const [base] = bases;
  assert.ok(base !== undefined && !old.equals(incarnation));
  await assert.rejects(run('deleteSnapshot', { snapshot: base }), WorkflowFailedError);
  const remove = (windowMs: number): Promise<void> =>
    removeFormer(stores, { key, incarnation, epoch: owner.epoch }, windowMs, new AbortController().signal);
  await remove(3_600_000);
  assert.ok(await endOfChain(stores, old));
  const lease = await takeLease(stores, { purpose: 'restore', deployment: 'shop', daemon: 'd', snapshot: base });
  await remove(0);
  assert.ok(await endOfChain(stores, old));
  await lease.end();
  await remove(0);
  assert.equal(await endOfChain(stores, old), null);
  assert.deepEqual((await member()).former, []);
  assert.equal(
    (await lifeboat.status('shop')).restorable.length,
    (await stores.manifests.distinct('_id', { incarnation: old })).length + 1,
  );
});

/** Writes a mark, and waits until it is applied; notes what restores to it rest on, as is done every ten seconds. */
async function momentBehind(mark: string): Promise<Optime> {
  const { operationTime } = await lifeboat.source.client.db('shop').command({ insert: 'marks', documents: [{ mark }] });
  const at = fromTimestamp(operationTime as Timestamp);
  await until(async () => {
    const { head } = await member();
    return head !== null && compareOptimes(fromTimestamp(head.appliedThrough.ts), at) >= 0;
  }, 'the mark is applied');
  const { _id: key, incarnation, owner, head } = await member();
  assert.ok(head);
  const fence = { key, incarnation, epoch: owner.epoch };
  const [appliedThrough, oplogFrom] = [fromStoredPosition(head.appliedThrough), fromStoredPosition(head.oplogFrom)];
  const position = { appliedThrough, oplogFrom, inconsistentUntil: null };
  await removeUnneeded({ stores: lifeboat.stores, fence, windowMs: 86_400_000 }, position);
  return at;
}
