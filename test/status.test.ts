/** `backup status` from the records alone, on a real store. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Long, ObjectId, Timestamp } from 'mongodb';
import { recordTrouble, writePhase } from '../src/activities/phases.ts';
import { isLifeboatError, LifeboatError } from '../src/shared/errors.ts';
import type { MemberClaim, Phase, Problem } from '../src/shared/messages.ts';
import { claimBackup, createMember, fenceOf } from '../src/stores/claims.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { updateMember } from '../src/stores/members.ts';
import type { StoredPosition } from '../src/stores/records.ts';
import { writeJudgement } from '../src/stores/warnings.ts';
import { readStatus, readStatuses } from '../src/status/backup-status.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';

let set: TestReplicaSet;
let stores: Stores;
let member: MemberClaim;

const T0 = '2026-01-01T00:00:00.000Z';
const T1 = '2026-01-01T00:00:01.000Z';
const T2 = '2026-01-01T00:00:02.000Z';
const source = { replicaSetId: new ObjectId(), setName: 'rs0', version: '6.0.5', featureCompatibilityVersion: '6.0' };
const trouble = { code: 'LB2002', message: 'no member answers', fix: 'wait', since: new Date(T0) };

before(async () => {
  set = await startReplicaSet({ name: 'blocks' });
  stores = await openStores({ blockstore: set.uri });
  member = await createMember(stores, { deployment: 'shop', source, daemon: 'd1', phase: 'initial-sync' });
  await writePhase(stores, { deployment: 'shop', member, phase: 'initial-sync', since: T0, problem: null });
});

after(async () => {
  await stores?.close();
  await set?.[Symbol.asyncDispose]();
});

function position(t: number, i: number): StoredPosition {
  return { ts: new Timestamp({ t, i }), t: Long.fromNumber(1) };
}

test('a deployment that was never backed up has no status', async () => {
  await assert.rejects(readStatus(stores, 'nobody'), (error) => isLifeboatError(error, 'NoBackup'));
});

test('a backup that has only begun has a phase and nothing else', async () => {
  assert.deepEqual(await readStatus(stores, 'shop'), {
    deployment: 'shop',
    kind: 'replica-set',
    phase: 'initial-sync',
    since: T0,
    members: [
      {
        name: 'rs0',
        phase: 'initial-sync',
        appliedThrough: null,
        lagSeconds: null,
        daemon: 'd1',
        progress: null,
        alongside: [],
      },
    ],
    lastSnapshot: null,
    restorable: [],
    problem: null,
  });
  assert.deepEqual(
    (await readStatuses(stores)).map(({ deployment }) => deployment),
    ['shop'],
  );
});

test('the lag is what the source has shown and the head has not applied, and never negative', async () => {
  const at = new Date();
  const head = { appliedThrough: position(100, 1), oplogFrom: position(100, 1), at };
  await updateMember(stores, fenceOf(member), { head, seen: { position: position(107, 3), at } });
  const [behind] = (await readStatus(stores, 'shop')).members;
  assert.deepEqual([behind?.appliedThrough, behind?.lagSeconds], [{ t: 100, i: 1 }, 7]);
  await updateMember(stores, fenceOf(member), { seen: { position: position(99, 1), at } });
  assert.equal((await readStatus(stores, 'shop')).members[0]?.lagSeconds, 0);
});

test('a phase that comes late never replaces a newer one', async () => {
  await writePhase(stores, { deployment: 'shop', member, phase: 'paused', since: T1, problem: null });
  await writePhase(stores, { deployment: 'shop', member: null, phase: 'routine', since: T0, problem: null });
  assert.equal((await readStatus(stores, 'shop')).phase, 'paused');
});

test('a claim that was lost writes no phase', async () => {
  const { member: newer } = await claimBackup(stores, { deployment: 'shop', claimant: 'd1' });
  assert.ok(newer);
  const change = { deployment: 'shop', phase: 'routine', since: T1, problem: null } as const;
  await assert.rejects(writePhase(stores, { ...change, member }), (error) => isLifeboatError(error, 'FenceLost'));
  await writePhase(stores, { ...change, member: newer });
  assert.equal((await readStatus(stores, 'shop')).phase, 'routine');
});

test('trouble that passes shows while a backup runs, and never hides a problem of the workflow', async () => {
  await recordTrouble(stores, 'shop', trouble);
  assert.equal((await readStatus(stores, 'shop')).problem?.code, 'LB2002');
  await recordTrouble(stores, 'shop', null);
  assert.equal((await readStatus(stores, 'shop')).problem, null);
  const problem = { code: 'LB2003', message: 'the login was refused', fix: 'mend it', since: T1 };
  await writePhase(stores, { deployment: 'shop', member: null, phase: 'failed', since: T1, problem });
  await recordTrouble(stores, 'shop', trouble);
  await recordTrouble(stores, 'shop', null);
  assert.deepEqual((await readStatus(stores, 'shop')).problem, problem);
});

test('a warning is shown as one while there is no problem, the oldest first, and not of a backup that is over', async () => {
  const warned = await createMember(stores, { deployment: 'warned', source, daemon: 'd1', phase: 'routine' });
  const phase = (name: Phase, since: string, problem: Problem | null = null): Promise<void> =>
    writePhase(stores, { deployment: 'warned', member: warned, phase: name, since, problem });
  await phase('routine', T0);
  const [short, tight] = [
    new LifeboatError('OplogWindowTooShort', 'short'),
    new LifeboatError('DiskTooSmall', 'tight'),
  ];
  await writeJudgement(stores, fenceOf(warned), { judged: [short.code], found: [short] });
  const [first] = await writeJudgement(stores, fenceOf(warned), { judged: [tight.code], found: [tight] });
  const { code, message, fix } = short;
  const warning = { code, message, fix, since: first?.since.toISOString(), warning: true };
  assert.deepEqual((await readStatus(stores, 'warned')).problem, warning);
  const worse = { code: 'LB2008', message: 'gap', fix: 'resync', since: T1 };
  await phase('failed', T1, worse);
  assert.deepEqual((await readStatus(stores, 'warned')).problem, worse);
  await phase('stopped', T2);
  assert.equal((await readStatus(stores, 'warned')).problem, null);
  await writeJudgement(stores, fenceOf(warned), { judged: [short.code, tight.code], found: [] });
  assert.deepEqual((await stores.members.findOne({ deployment: 'warned' }))?.warnings, []);
});
