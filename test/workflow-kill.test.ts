/** `kill -9` of the worker in every stage: the work goes on within half a minute, and little of it is done again. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fromStoredPosition, fromTimestamp } from '../src/mongo/positions.ts';
import type { RestoreSummary, SnapshotSummary, VerifyResult } from '../src/shared/messages.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import { compareOptimes, type Optime } from '../src/shared/optime.ts';
import type { MemberRecord } from '../src/stores/records.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';

/** The promise: from the kill, with a worker started again at once. */
const WITHIN_MS = 30_000;
const COLLECTIONS = 3;
/** Random bytes, so that compressing does not make them few. */
const DOCUMENT_BYTES = 100_000;
const DOCUMENTS = 300;

let lifeboat: TestLifeboat;
let snapshot: SnapshotSummary;

before(async () => {
  lifeboat = await startLifeboat({ sliceMs: 10_000 });
  const db = lifeboat.source.client.db('shop');
  for (let c = 0; c < COLLECTIONS; c += 1) {
    const items = db.collection<{ _id: number }>(`items${c}`);
    for (let n = 0; n < DOCUMENTS; n += 100) {
      await items.insertMany(
        Array.from({ length: 100 }, (_, i) => ({ _id: n + i, bytes: randomBytes(DOCUMENT_BYTES) })),
      );
    }
    await items.createIndex({ bytes: 'hashed' });
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

/** Kills the worker when `inside` holds, shows that it still holds, starts a worker, and waits until `goesOn` holds. */
async function killInside(
  stage: string,
  inside: () => Promise<boolean>,
  goesOn: () => Promise<boolean>,
): Promise<void> {
  await until(inside, `the work is inside the stage ${stage}`, 120_000);
  await lifeboat.worker().kill();
  const killedAt = Date.now();
  assert.ok(await inside(), `the kill fell inside the stage ${stage}`);
  await lifeboat.restartWorker();
  await until(goesOn, `${stage} goes on`, WITHIN_MS - (Date.now() - killedAt));
}

test('killed while the source is copied, it goes on after the last slice that was stored', async () => {
  await lifeboat.startBackup('shop');
  const stored = (): Promise<number> => lifeboat.stores.slices.countDocuments();
  let atKill = 0;
  await killInside(
    'copy',
    async () => {
      atKill = await stored();
      return atKill > 1 && (await member()).sync?.stop === null;
    },
    async () => (await stored()) > atKill,
  );
  await until(async () => Boolean((await member()).sync?.stop), 'all is copied', 120_000);
  const { incarnation } = await member();
  const collections = await lifeboat.source.client.db('shop').listCollections().toArray();
  const uuids = collections.map((listed) => ('info' in listed ? listed.info?.uuid : undefined));
  const slices = await lifeboat.stores.slices
    .find({ '_id.incarnation': incarnation, '_id.uuid': { $in: uuids } })
    .project<{ documents: number }>({ documents: 1 })
    .toArray();
  const read = slices.reduce((sum, { documents }) => sum + documents, 0);
  assert.equal(read, COLLECTIONS * DOCUMENTS, 'what was stored was not read again');
});

test('killed while the head is built, it goes on until the head is whole', async () => {
  await killInside(
    'build',
    async () => {
      const { sync, head } = await member();
      return sync?.stage !== 'validated' && head === null;
    },
    async () => {
      const { sync, head } = await member();
      return sync?.stage === 'validated' || head !== null;
    },
  );
});

test('killed before its first snapshot is committed, it takes another, and that verifies', async () => {
  const committed = async (): Promise<boolean> => (await lifeboat.status('shop')).lastSnapshot !== null;
  await killInside('first snapshot', async () => !(await committed()), committed);
  const { lastSnapshot } = await lifeboat.untilPhase('shop', 'routine');
  assert.ok(lastSnapshot);
  snapshot = lastSnapshot;
  const verified = await run<VerifyResult>('verifySnapshot', { snapshot: snapshot.id });
  assert.deepEqual([verified.ok, verified.problems], [true, []]);
});

test('killed while entries are applied, it goes on from where the head durably stands', async () => {
  const items = lifeboat.source.client.db('shop').collection<{ _id: number }>('items0');
  const writing = new AbortController();
  const writers = (async () => {
    for (let n = 0; !writing.signal.aborted; n += 1) {
      await items.updateOne({ _id: n % DOCUMENTS }, { $inc: { count: 1 } });
    }
  })();
  const applied = async (): Promise<Optime> => {
    const { head } = await member();
    assert.ok(head);
    return fromStoredPosition(head.appliedThrough).ts;
  };
  const atStart = await applied();
  let atKill = atStart;
  await killInside(
    'apply',
    async () => {
      atKill = await applied();
      return compareOptimes(atKill, atStart) > 0;
    },
    async () => compareOptimes(await applied(), atKill) > 0,
  );
  writing.abort();
  await writers;
  const { lastWrite } = await lifeboat.source.client.db('admin').command({ hello: 1 });
  await until(async () => {
    const { phase, problem } = await lifeboat.status('shop');
    assert.deepEqual([phase, problem], ['routine', null]);
    return compareOptimes(await applied(), fromTimestamp(lastWrite.opTime.ts)) >= 0;
  }, 'all that was written is applied');
});

test('killed while a snapshot is taken, it takes one at or after the moment it was asked for', async () => {
  const { seen } = await member();
  const before = await lifeboat.stores.manifests.countDocuments();
  const taking = run<SnapshotSummary>('snapshot', { deployment: 'shop' });
  await killInside(
    'snapshot',
    async () =>
      (await lifeboat.stores.manifests.countDocuments()) === before &&
      (await lifeboat.stores.leases.countDocuments({ purpose: 'snapshot', revoked: false })) > 0,
    async () => (await lifeboat.stores.manifests.countDocuments()) > before,
  );
  const taken = await taking;
  assert.ok(seen && compareOptimes(taken.optime, fromStoredPosition(seen.position).ts) >= 0);
});

test('killed while a snapshot is restored, it goes on and proves the result', async () => {
  const path = join(lifeboat.folder, 'restored');
  const restoring = run<RestoreSummary>('restore', { deployment: 'shop', snapshot: snapshot.id, to: `dir:${path}` });
  const record = async (): Promise<string | undefined> => (await lifeboat.stores.restores.findOne({}))?.state;
  await killInside(
    'restore',
    async () => (await record()) === 'running',
    async () => (await record()) === 'done',
  );
  assert.equal((await restoring).verified, true);
});

let ids = 0;
async function run<T>(type: string, input: object): Promise<T> {
  ids += 1;
  const workflowId = `${type}/shop/kill-${ids}`;
  const result: T = await lifeboat.client.workflow.execute(type, { workflowId, taskQueue: TASK_QUEUE, args: [input] });
  return result;
}
