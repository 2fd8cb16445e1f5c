import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Binary, ObjectId } from 'mongodb';
import { toStoredPosition } from '../src/mongo/positions.ts';
import { appendBatch, CHAIN_START, endOfChain, readEntries, type EntryBatch } from '../src/oplogstore/batches.ts';
import { keepEntriesFrom, windowSnapshot } from '../src/oplogstore/keep.ts';
import { removeApplied } from '../src/oplogstore/removal.ts';
import { Arrivals } from '../src/stores/arrivals.ts';
import type { Position } from '../src/shared/optime.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
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

const never = new AbortController().signal;
const at = (t: number): Position => ({ ts: { t, i: 1 }, term: 1 });

/** A chain of batches of ten entries each, the first of them at 1. */
async function chain(batches: number): Promise<ObjectId> {
  const incarnation = new ObjectId();
  for (let n = 0; n < batches; n += 1) assert.ok(await append(incarnation, n));
  return incarnation;
}

async function append(incarnation: ObjectId, n: number): Promise<boolean> {
  const after = n === 0 ? CHAIN_START : at(n * 10);
  const batch = { after, first: at(n * 10 + 1), last: at(n * 10 + 10), lastWall: new Date(n), entries: 10 };
  return appendBatch(stores, incarnation, { ...batch, bytes: Buffer.from(`batch ${n}`) }, 1);
}

async function read(incarnation: ObjectId, from: Position): Promise<EntryBatch[]> {
  const batches: EntryBatch[] = [];
  for await (const batch of readEntries(stores, incarnation, from, never)) batches.push(batch);
  return batches;
}

const texts = (batches: EntryBatch[]): string[] => batches.map(({ bytes }) => bytes.toString());

test('a chain is extended by one writer at each place, and its end is its position', async () => {
  const incarnation = await chain(2);
  assert.equal(await append(incarnation, 1), false);
  assert.deepEqual(await endOfChain(stores, incarnation), at(20));
  assert.equal(await endOfChain(stores, new ObjectId()), null);
});

test('reading begins with the batch that holds the entry', async () => {
  const incarnation = await chain(3);
  assert.deepEqual(texts(await read(incarnation, at(1))), ['batch 0', 'batch 1', 'batch 2']);
  assert.deepEqual(texts(await read(incarnation, at(20))), ['batch 1', 'batch 2']);
  assert.deepEqual(texts(await read(incarnation, at(30))), ['batch 2']);
  assert.deepEqual(await read(new ObjectId(), at(1)), []);
});

test('an entry before or after all that is stored, and a missing link, are missing entries', async () => {
  const incarnation = await chain(4);
  const missing = { kind: 'EntriesMissing' };
  await assert.rejects(read(incarnation, at(41)), missing);
  await stores.batches.deleteOne({ _id: { incarnation, after: toStoredPosition(at(20)) } });
  await assert.rejects(read(incarnation, at(1)), missing);
  await removeApplied(stores, incarnation, at(11));
  await assert.rejects(read(incarnation, at(5)), missing);
});

test('a batch that does not match its checksum is not given out', async () => {
  const incarnation = await chain(2);
  const sha256 = new Binary(Buffer.alloc(32));
  await stores.batches.updateOne(
    { _id: { incarnation, after: toStoredPosition(at(10)) } },
    { $set: { 'bytes.sha256': sha256 } },
  );
  await assert.rejects(read(incarnation, at(1)), { kind: 'EntriesDamaged' });
});

test('removal leaves an unbroken chain that holds what is kept, and never takes the newest batch', async () => {
  const incarnation = await chain(100);
  assert.equal(await removeApplied(stores, incarnation, at(1)), 0);
  assert.equal(await removeApplied(stores, incarnation, at(905)), 90);
  assert.deepEqual(texts(await read(incarnation, at(905))).slice(0, 2), ['batch 90', 'batch 91']);
  assert.equal(await removeApplied(stores, incarnation, at(5_000)), 9);
  assert.deepEqual(texts(await read(incarnation, at(1_000))), ['batch 99']);
  assert.deepEqual(await endOfChain(stores, incarnation), at(1_000));
  assert.ok(await append(incarnation, 100));
});

const head = { appliedThrough: at(100), oplogFrom: at(95), inconsistentUntil: null };
const snapshot = (t: number): { optime: Position['ts']; oplogFrom: Position; wallTime: Date } => ({
  optime: { t, i: 1 },
  oplogFrom: at(t - 2),
  wallTime: new Date(t * 1_000),
});
const question = {
  windowMs: 50_000,
  now: new Date(100_000),
  snapshots: [20, 60, 40].map(snapshot),
  head,
  validated: true,
};

test('entries are kept from the newest snapshot at or before the begin of the window', () => {
  assert.deepEqual(keepEntriesFrom(question), at(38));
  assert.deepEqual(windowSnapshot(question)?.optime, { t: 40, i: 1 });
  assert.deepEqual(keepEntriesFrom({ ...question, windowMs: 40_000 }), at(58));
});

test('without a snapshot to rest on, before validation and while the head is inconsistent nothing is removed', () => {
  assert.equal(keepEntriesFrom({ ...question, snapshots: [snapshot(60)] }), null);
  assert.equal(keepEntriesFrom({ ...question, validated: false }), null);
  assert.equal(keepEntriesFrom({ ...question, head: { ...head, inconsistentUntil: at(120) } }), null);
  assert.equal(keepEntriesFrom({ ...question, windowMs: 0, validated: false }), null);
});

test('with a window of 0 entries go once applied, and what the head needs is always kept', () => {
  assert.deepEqual(keepEntriesFrom({ ...question, windowMs: 0 }), at(95));
  assert.equal(windowSnapshot({ ...question, windowMs: 0 }), undefined);
  assert.deepEqual(keepEntriesFrom({ ...question, head: { ...head, oplogFrom: at(30) } }), at(30));
});

test('a bell that rang since it was looked at does not make anyone wait', async () => {
  const arrivals = new Arrivals();
  const { rung } = arrivals;
  arrivals.notify();
  await arrivals.wait(never, 600_000, rung);
  const waiting = arrivals.wait(never, 600_000);
  arrivals.notify();
  await waiting;
  await arrivals.wait(never, 1);
  await assert.rejects(arrivals.wait(AbortSignal.abort(new Error('stop')), 600_000), { message: 'stop' });
});
