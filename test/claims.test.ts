/** Claims on a real store: who owns a member, and whose writes count. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { BSON, Long, ObjectId, Timestamp } from 'mongodb';
import {
  claimBackup,
  claimDaemon,
  claimHead,
  createMember,
  fenceOf,
  newIncarnation,
  type TakeoverTerms,
} from '../src/stores/claims.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { registerDaemon, retireDaemon, touchDaemon } from '../src/stores/daemons.ts';
import { readMember, updateMember } from '../src/stores/members.ts';
import { isLifeboatError, type ErrorName } from '../src/shared/errors.ts';
import type { Claim, MemberClaim, Phase } from '../src/shared/messages.ts';
import type { Position } from '../src/shared/optime.ts';
import { seedsAmong } from '../src/steps/seed-head.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';

let set: TestReplicaSet;
let stores: Stores;

before(async () => {
  set = await startReplicaSet({ name: 'blocks' });
  stores = await openStores({ blockstore: set.uri });
});

after(async () => {
  await stores?.close();
  await set?.[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await Promise.all([stores.members.deleteMany({}), stores.deployments.deleteMany({}), stores.daemons.deleteMany({})]);
});

const source = {
  replicaSetId: new ObjectId(),
  setName: 'rs0',
  version: '6.0.5',
  featureCompatibilityVersion: '6.0',
};

async function make(daemon = 'd1'): Promise<MemberClaim> {
  return createMember(stores, { deployment: 'shop', source, daemon, phase: 'initial-sync' });
}

async function setPhase(phase: Phase): Promise<void> {
  const fields = { kind: 'replica-set', phase, phaseSince: new Date(), problem: null } as const;
  await stores.deployments.replaceOne({ _id: 'shop' }, fields, { upsert: true });
}

function fails(kind: ErrorName): (error: unknown) => boolean {
  return (error) => isLifeboatError(error, kind);
}

test('a deployment of which nothing is stored goes to the daemon that claims it', async () => {
  assert.deepEqual(await claimBackup(stores, { deployment: 'shop', claimant: 'd1' }), {
    daemon: 'd1',
    taskQueue: 'lifeboat.daemon.d1',
    member: null,
  });
});

test('a member keeps its owner, whichever daemon claims, and each claim ends the fence of the one before', async () => {
  const first = await make();
  const { daemon, member } = await claimBackup(stores, { deployment: 'shop', claimant: 'd2' });
  assert.equal(daemon, 'd1');
  assert.ok(member);
  assert.equal(member.epoch, first.epoch + 1);
  assert.equal(member.incarnation, first.incarnation);
  await assert.rejects(updateMember(stores, fenceOf(first), { phase: 'routine' }), fails('FenceLost'));
  await updateMember(stores, fenceOf(member), { phase: 'routine' });
});

test('of claims made at once each gets an epoch of its own', async () => {
  await make();
  const claims = await Promise.all(
    Array.from({ length: 8 }, () => claimBackup(stores, { deployment: 'shop', claimant: 'd1' })),
  );
  assert.deepEqual(
    claims.map(({ member }) => member?.epoch).sort((a, b) => Number(a) - Number(b)),
    [2, 3, 4, 5, 6, 7, 8, 9],
  );
});

test('a member is made once: a second attempt of its daemon claims it, another daemon is refused', async () => {
  const first = await make();
  const again = await make();
  assert.equal(again.incarnation, first.incarnation);
  assert.equal(again.epoch, first.epoch + 1);
  await assert.rejects(make('d2'), fails('FenceLost'));
});

test('starting over makes one new incarnation, also when the claim is run twice', async () => {
  const { incarnation } = await make();
  const request = { deployment: 'shop', claimant: 'd1', replace: incarnation };
  const { member: once } = await claimBackup(stores, request);
  const { member: twice } = await claimBackup(stores, request);
  assert.notEqual(once?.incarnation, incarnation);
  assert.equal(twice?.incarnation, once?.incarnation);
  assert.ok(twice);
  const record = await readMember(stores, fenceOf(twice));
  assert.deepEqual([record.sync, record.head, record.phase], [null, null, 'initial-sync']);
});

test('starting over keeps what restores to a moment rest on, whatever is known of the head, and nothing of another history', async () => {
  const first = await make();
  const at = (t: number) => ({ ts: new Timestamp({ t, i: 1 }), t: Long.fromNumber(1) });
  const keptFor = { windowMs: HOUR, bases: ['base', 'next'] };
  const noted = { keptFor, replayStops: [at(5)], differs: at(7) };
  await updateMember(stores, fenceOf(first), noted);
  const over = async (replace: string): Promise<MemberClaim> => {
    const { member } = await claimBackup(stores, { deployment: 'shop', claimant: 'd1', replace });
    assert.ok(member);
    return member;
  };
  const second = await over(first.incarnation);
  const former = { incarnation: ObjectId.createFromHexString(first.incarnation), bases: keptFor.bases };
  const record = await readMember(stores, fenceOf(second));
  assert.deepEqual(plain(record.former), plain([{ ...former, replayStops: [at(5)], differs: at(7) }]));
  assert.deepEqual([record.keptFor, record.replayStops, record.differs], [undefined, undefined, undefined]);
  // One that was never validated leaves nothing behind, and one of another history neither.
  const third = await over(second.incarnation);
  await updateMember(stores, fenceOf(third), { keptFor, otherHistory: true });
  const fourth = await readMember(stores, fenceOf(await over(third.incarnation)));
  assert.deepEqual([plain(fourth.former), fourth.otherHistory], [plain(record.former), undefined]);
});

/** As it crosses a process border: numbers as the driver gives them. */
function plain(value: unknown): unknown {
  return BSON.EJSON.parse(BSON.EJSON.stringify(value));
}

async function daemonsThere(): Promise<void> {
  await registerDaemon(stores, { id: 'd1', host: 'h', pid: 1, version: '0', process: 'p1' });
  await registerDaemon(stores, { id: 'd2', host: 'h', pid: 1, version: '0', process: 'p2' });
}

async function ago(id: string, field: 'seenAt' | 'hereSince', ms: number): Promise<void> {
  await stores.daemons.updateOne({ _id: id }, { $set: { [field]: new Date(Date.now() - ms) } });
}

const HOUR = 3_600_000;
const terms = (ready = true): TakeoverTerms => ({ afterMs: HOUR / 2, ready: () => Promise.resolve(ready) });

test('a claim passes to another daemon only from an owner that was silent longer than the claimant was away', async () => {
  const first = await make();
  await daemonsThere();
  const ask = (takeover: TakeoverTerms): Promise<Claim> =>
    claimBackup(stores, { deployment: 'shop', claimant: 'd2', takeover, onlyTakeover: true });
  assert.deepEqual((await ask(terms())).member, first, 'an owner that is there keeps its claim, epoch and all');
  await ago('d1', 'seenAt', HOUR);
  assert.equal((await ask(terms())).daemon, 'd1', 'the claimant was not there to know');
  await ago('d2', 'hereSince', HOUR);
  assert.equal((await ask(terms(false))).daemon, 'd1', 'the claimant cannot do the work');
  await updateMember(stores, fenceOf(first), { seen: null });
  const taken = await ask(terms());
  assert.deepEqual([taken.daemon, taken.member?.epoch], ['d2', first.epoch + 1]);
  assert.equal(taken.member?.incarnation, first.incarnation);
  await assert.rejects(updateMember(stores, fenceOf(first), { seen: null }), fails('FenceLost'));
});

test('starting over moves by the terms of a takeover, and needs no head that can be made again', async () => {
  const { incarnation } = await make();
  await daemonsThere();
  const asked: boolean[] = [];
  const ask = async (ready: boolean): Promise<string> => {
    const record = await stores.members.findOne({ deployment: 'shop' });
    const takeover: TakeoverTerms = {
      afterMs: HOUR / 2,
      ready: (_, { needsHead }) => {
        asked.push(needsHead);
        return Promise.resolve(ready);
      },
    };
    const replace = record?.incarnation.toHexString() ?? '';
    return (await claimBackup(stores, { deployment: 'shop', claimant: 'd2', replace, takeover })).daemon;
  };
  await ago('d2', 'hereSince', HOUR);
  assert.equal(await ask(true), 'd1', 'its owner is there');
  await ago('d1', 'seenAt', HOUR);
  await ago('d2', 'hereSince', HOUR / 60);
  assert.equal(await ask(true), 'd1', 'the claimant was not there to know');
  await ago('d2', 'hereSince', HOUR);
  assert.equal(await ask(false), 'd1', 'the claimant cannot do the work');
  assert.equal(await ask(true), 'd2');
  assert.deepEqual(asked, [false, false]);
  const record = await stores.members.findOne({ deployment: 'shop' });
  assert.notEqual(record?.incarnation.toHexString(), incarnation);
});

test('an outage of the store makes no daemon one that is gone', async () => {
  await make();
  await daemonsThere();
  for (const id of ['d1', 'd2']) {
    await ago(id, 'seenAt', HOUR);
    await ago(id, 'hereSince', 2 * HOUR);
  }
  // The store answers again, and the claimant is the first to say that it is there.
  await touchDaemon(stores, { id: 'd2', process: 'p2' });
  const claim = await claimBackup(stores, { deployment: 'shop', claimant: 'd2', takeover: terms() });
  assert.equal(claim.daemon, 'd1');
});

test('a retired daemon loses its claim at once, and is there again when it speaks', async () => {
  await make();
  await daemonsThere();
  await assert.rejects(retireDaemon(stores, 'd1'), fails('DaemonPresent'));
  await assert.rejects(retireDaemon(stores, 'd3'), fails('DaemonUnknown'));
  await ago('d1', 'seenAt', HOUR / 60);
  assert.ok((await retireDaemon(stores, 'd1')).retiredAt);
  await assert.rejects(claimDaemon(stores, 'd2', 'd1'), fails('DaemonRetired'));
  await touchDaemon(stores, { id: 'd1', process: 'p1' });
  assert.equal((await claimBackup(stores, { deployment: 'shop', claimant: 'd2', takeover: terms() })).daemon, 'd1');
  await ago('d1', 'seenAt', HOUR / 60);
  await retireDaemon(stores, 'd1');
  assert.equal((await claimBackup(stores, { deployment: 'shop', claimant: 'd2', takeover: terms() })).daemon, 'd2');
});

test('a head is made from the newest snapshot that the stored entries go on from, or it is said why not', () => {
  const at = (t: number): Position => ({ ts: { t, i: 1 }, term: 1 });
  const snapshots = [30, 20, 10].map((t) => ({ id: `s${t}`, oplogFrom: at(t) }));
  assert.deepEqual(seedsAmong(snapshots, at(20)), { snapshots: ['s30', 's20'] });
  for (const seeds of [seedsAmong(snapshots, at(31)), seedsAmong(snapshots, null), seedsAmong([], at(1))]) {
    assert.ok('missing' in seeds);
  }
});

test('work on a head needs a backup in routine operation, and raises no epoch', async () => {
  await assert.rejects(claimHead(stores, 'shop'), fails('NoBackup'));
  const made = await make();
  await setPhase('paused');
  await assert.rejects(claimHead(stores, 'shop'), fails('BackupNotRunning'));
  await setPhase('routine');
  assert.deepEqual(await claimHead(stores, 'shop'), { daemon: 'd1', taskQueue: 'lifeboat.daemon.d1', member: made });
});

test('other work goes to the daemon that was asked for, if there ever was one', async () => {
  assert.equal((await claimDaemon(stores, 'd1')).daemon, 'd1');
  await assert.rejects(claimDaemon(stores, 'd1', 'd2'), fails('DaemonUnknown'));
  await registerDaemon(stores, { id: 'd2', host: 'h', pid: 1, version: '0', process: 'p2' });
  assert.equal((await claimDaemon(stores, 'd1', 'd2')).taskQueue, 'lifeboat.daemon.d2');
});

test('a later initial sync has the larger id, within one second and after a clock was set back', () => {
  const now = new Date('2026-01-01T00:00:00Z');
  const first = newIncarnation(now);
  for (const later of [now, new Date('2025-01-01T00:00:00Z'), new Date('2026-02-01T00:00:00Z')]) {
    assert.ok(newIncarnation(later, first).toHexString() > first.toHexString());
  }
});

test('a worker with the id of one that is there is refused, and takes over from one that is silent or has ended', async () => {
  const [here, there] = [
    { id: 'twin', host: 'here', pid: 11, version: '0', process: 'first' },
    { id: 'twin', host: 'there', pid: 22, version: '0', process: 'second' },
  ];
  // In a container each has the host name and the pid of the other.
  const alike = { ...here, process: 'alike' };
  await registerDaemon(stores, here);
  await registerDaemon(stores, here);
  // It beats while the other one looks.
  const beating = setInterval(() => void touchDaemon(stores, here), 200);
  try {
    for (const other of [there, alike]) {
      await assert.rejects(
        registerDaemon(stores, other, () => Promise.resolve(true)),
        fails('DaemonIdTaken'),
      );
    }
  } finally {
    clearInterval(beating);
  }
  // A process of the same machine that has ended need not be waited for.
  const next = { ...here, pid: 12, process: 'next' };
  await registerDaemon(stores, next, (pid) => Promise.resolve(pid === 11));
  await stores.daemons.updateOne({ _id: 'twin' }, { $set: { seenAt: new Date(Date.now() - 60_000) } });
  await registerDaemon(stores, there);
  assert.equal((await stores.daemons.findOne({ _id: 'twin' }))?.host, 'there');
  // It was only silent, and finds out.
  const seen = (await stores.daemons.findOne({ _id: 'twin' }))?.seenAt;
  await assert.rejects(touchDaemon(stores, next), fails('DaemonIdTaken'));
  assert.deepEqual((await stores.daemons.findOne({ _id: 'twin' }))?.seenAt, seen);

  // Of two that start at once, one is refused.
  const both = [here, there].map((one) => ({ ...one, id: 'two-at-once' }));
  const beat = (): unknown => Promise.allSettled(both.map((one) => touchDaemon(stores, one)));
  const beatingToo = setInterval(beat, 200);
  try {
    const started = await Promise.allSettled(both.map((one) => registerDaemon(stores, one)));
    assert.deepEqual(started.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  } finally {
    clearInterval(beatingToo);
  }
});
