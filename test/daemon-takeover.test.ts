/** Two daemons, each a process with a disk of its own: one is gone, the other goes on, and the source is not read again. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { mongodOn } from '../src/mongod/process.ts';
import { fromTimestamp } from '../src/mongo/positions.ts';
import { proveEqual } from '../src/proof/equality.ts';
import { errorKind } from '../src/shared/errors.ts';
import type { RestoreSummary, RetiredDaemon, SnapshotSummary, VerifyResult } from '../src/shared/messages.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import { compareOptimes, ZERO_OPTIME, type Optime } from '../src/shared/optime.ts';
import type { MemberRecord } from '../src/stores/records.ts';
import type { backup } from '../src/workflows/index.ts';
import { command, startLifeboat, type TestDaemon, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';
import { endHead, headPath } from './support/worker.ts';
import { withMongod } from './support/with-mongod.ts';

const DOCUMENTS = 2_000;

let lifeboat: TestLifeboat;
let second: TestDaemon;

before(async () => {
  // A snapshot compares a part of the head with the source: those reads are not the ones that are counted here.
  lifeboat = await startLifeboat({ window: '24h', takeoverAfter: '75s', limits: { verifyFor: '0' } });
  const shop = lifeboat.source.client.db('shop');
  const items = shop.collection<{ _id: number }>('items');
  await items.insertMany(Array.from({ length: DOCUMENTS }, (_, n) => ({ _id: n, text: 'x'.repeat(200) })));
  await items.createIndex({ text: 1 });
  await lifeboat.startBackup('shop');
  second = await lifeboat.startDaemon('second');
  await lifeboat.untilPhase('shop', 'routine', 120_000);
  // From here on every read of the source's data leaves a record.
  await shop.command({ profile: 2 });
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function member(): Promise<MemberRecord> {
  const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.ok(record, 'the member has a record');
  return record;
}

let written = 0;
/** Changes old documents and adds new ones; the optime behind it. */
async function write(): Promise<Optime> {
  const items = lifeboat.source.client.db('shop').collection<{ _id: number }>('items');
  for (let n = 0; n < 20; n += 1) {
    written += 1;
    await items.updateOne({ _id: written % DOCUMENTS }, { $set: { text: `changed ${written}` } });
    await items.insertOne({ _id: DOCUMENTS + written });
  }
  const { lastWrite } = await lifeboat.source.client.db('admin').command({ hello: 1 });
  return fromTimestamp(lastWrite.opTime.ts);
}

async function untilApplied(optime: Optime, timeoutMs?: number): Promise<void> {
  await until(
    async () => {
      const [status] = (await lifeboat.status('shop')).members;
      return compareOptimes(status?.appliedThrough ?? ZERO_OPTIME, optime) >= 0;
    },
    `${optime.t},${optime.i} is applied`,
    timeoutMs,
  );
}

let ids = 0;
async function run<T>(type: string, input: object): Promise<T> {
  ids += 1;
  const workflowId = `${type}/shop/takeover-${ids}`;
  const result: T = await lifeboat.client.workflow.execute(type, { workflowId, taskQueue: TASK_QUEUE, args: [input] });
  return result;
}

/** The head as it stands, seen through a snapshot: restored, started, and held against the source at its optime. */
async function proveHead(name: string): Promise<void> {
  const snapshot = await run<SnapshotSummary>('snapshot', { deployment: 'shop' });
  const verified = await run<VerifyResult>('verifySnapshot', { snapshot: snapshot.id });
  assert.deepEqual([verified.ok, verified.problems], [true, []]);
  const path = join(lifeboat.folder, name);
  await run<RestoreSummary>('restore', { deployment: 'shop', snapshot: snapshot.id, to: `dir:${path}` });
  await withMongod(path, {}, async (client) => {
    const source = { client: lifeboat.source.client, at: snapshot.optime };
    const report = await proveEqual({ source, copy: { client }, ids: 5 });
    assert.deepEqual([report.differences, report.equal], [[], true]);
  });
}

/** Reads of the source's documents by Lifeboat since the profiler was switched on; the proof has another name. */
async function readsOfData(): Promise<number> {
  const profile = lifeboat.source.client.db('shop').collection('system.profile');
  return profile.countDocuments({
    appName: /^lifeboat/,
    ns: { $ne: 'shop.system.profile' },
    op: { $in: ['query', 'getmore'] },
  });
}

async function tookOver(daemon: string): Promise<void> {
  await until(async () => (await member()).owner.daemon === daemon, `${daemon} owns the backup`, 300_000);
}

test('a short outage of the worker moves nothing', async () => {
  const { owner } = await member();
  await lifeboat.worker().kill();
  const asked = async (): Promise<boolean> => {
    const { events = [] } = await lifeboat.client.workflow.getHandle('backup/shop').fetchHistory();
    return (events ?? []).some(({ activityTaskTimedOutEventAttributes }) =>
      Boolean(activityTaskTimedOutEventAttributes),
    );
  };
  await until(asked, 'the backup has asked whether the daemon is gone', 60_000);
  await lifeboat.restartWorker();
  await untilApplied(await write());
  assert.deepEqual((await member()).owner.daemon, owner.daemon);
  const { phase, problem } = await lifeboat.status('shop');
  assert.deepEqual([phase, problem], ['routine', null]);
});

test('a daemon that stays silent is replaced by another, which makes the head from a snapshot', async () => {
  const before = await member();
  // Its head outlives it.
  await lifeboat.worker().kill();
  assert.ok(await mongodOn(headPath(lifeboat.setting.home, 'shop', 'rs0')));
  const optime = await write();
  await tookOver('second');
  await untilApplied(optime, 180_000);
  const now = await member();
  assert.deepEqual([now.incarnation, now.sync], [before.incarnation, before.sync]);
  const { phase, problem, members } = await lifeboat.status('shop');
  assert.deepEqual([phase, problem, members[0]?.daemon], ['routine', null, 'second']);
  assert.equal(await readsOfData(), 0);
  await proveHead('restored-second');
});

test('the daemon that comes back lets go of its head, and disturbs nothing', async () => {
  const dbpath = headPath(lifeboat.setting.home, 'shop', 'rs0');
  const { owner } = await member();
  await lifeboat.restartWorker();
  await until(() => Promise.resolve(!existsSync(dbpath)), 'its head is gone', 180_000);
  assert.equal(await mongodOn(dbpath), undefined);
  await untilApplied(await write());
  assert.deepEqual((await member()).owner, owner);
});

test('a daemon that is there cannot be retired', async () => {
  await assert.rejects(run('retireDaemon', { daemon: 'second' }), (error: { cause?: { type?: string } }) => {
    return error.cause?.type === errorKind('DaemonPresent').code;
  });
});

test('a daemon whose disk is gone is retired, and the other one goes on without a read of the source', async () => {
  const optime = await write();
  await untilApplied(optime);
  await second.worker().kill();
  await endHead(second.home, 'shop', 'rs0');
  await rm(second.home, { recursive: true });
  const later = await write();
  let retired: RetiredDaemon | undefined;
  const retires = async (): Promise<boolean> => {
    retired = await run<RetiredDaemon>('retireDaemon', { daemon: 'second' }).catch(() => undefined);
    return retired !== undefined;
  };
  await until(retires, 'it is silent for long enough', 60_000);
  assert.deepEqual([retired?.id, retired?.deployments], ['second', ['shop']]);
  await tookOver('test-daemon');
  await untilApplied(later, 60_000);
  assert.equal(await readsOfData(), 0);
  await proveHead('restored-first');
});

test('a head whose disk was lost is made again by its own daemon', async () => {
  const { owner, incarnation } = await member();
  const handle = lifeboat.client.workflow.getHandle<typeof backup>('backup/shop');
  await command(handle, 'pause');
  await lifeboat.worker().end();
  await rm(join(lifeboat.setting.home, 'daemon', 'heads'), { recursive: true });
  await lifeboat.restartWorker();
  await command(handle, 'resume');
  await untilApplied(await write(), 60_000);
  const now = await member();
  assert.deepEqual([now.owner.daemon, now.incarnation], [owner.daemon, incarnation]);
  assert.equal(await readsOfData(), 0);
});
