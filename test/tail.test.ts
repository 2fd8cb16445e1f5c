import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ObjectId } from 'mongodb';
import { entryPlace } from '../src/mongo/entries.ts';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { appendBatch, CHAIN_START, endOfChain, readEntries, type EntryBatch } from '../src/oplogstore/batches.ts';
import { isLifeboatError, LifeboatError } from '../src/shared/errors.ts';
import { compareOptimes, samePosition, type Position } from '../src/shared/optime.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { readMember } from '../src/stores/members.ts';
import { until } from './support/replica-set.ts';
import { claimAgain, openSyncLab, split, stepContext, type Deployment, type SyncLab } from './support/sync.ts';

let lab: SyncLab;
before(async () => {
  lab = await openSyncLab();
});
after(() => lab?.[Symbol.asyncDispose]());

const never = new AbortController().signal;

async function begun(): Promise<Deployment & { readonly begin: Position }> {
  const deployment = await lab.begin();
  const plan = await beginSync(stepContext(), deployment);
  return { ...deployment, begin: fromStoredPosition(plan.beginFetching) };
}

async function batchesOf({ stores, fence }: Deployment, from: Position): Promise<EntryBatch[]> {
  const batches: EntryBatch[] = [];
  for await (const batch of readEntries(stores, fence.incarnation, from, never)) batches.push(batch);
  return batches;
}

/** All raw entries of the source from `from` on, in their order. */
async function oplogFrom(from: Position): Promise<Buffer[]> {
  const entries = await lab.set.client
    .db('local')
    .collection('oplog.rs')
    .find({}, { raw: true, readConcern: { level: 'majority' } })
    .toArray();
  return entries
    .map((raw) => Buffer.from(raw as unknown as Uint8Array))
    .filter((raw) => compareOptimes(entryPlace(raw).ts, from.ts) >= 0);
}

test('what is stored is the raw bytes of each entry from beginFetching on, once, over many runs', async () => {
  const deployment = await begun();
  const things = lab.set.client.db('many').collection('things');
  for (let n = 0; n < 5; n += 1) {
    await things.insertMany(Array.from({ length: 200 }, (_, i) => ({ n, i })));
    await tailOplog(stepContext(), deployment, { maxMs: 200 });
  }
  const batches = await batchesOf(deployment, deployment.begin);
  const stored = batches.flatMap(({ bytes }) => split(bytes));
  const expected = (await oplogFrom(deployment.begin)).slice(0, stored.length);
  assert.ok(stored.length > 1_000);
  assert.ok(stored.every((entry, n) => entry.equals(expected[n] ?? Buffer.alloc(0))));
  assert.ok(batches.length < 60, `${batches.length} batches for 1,000 entries`);
});

test('a second stream beside the first one adds nothing twice, and its chain is one', async () => {
  const deployment = await begun();
  const things = lab.set.client.db('twins').collection('things');
  const [first, second] = [1, 2].map(() => tailOplog(stepContext(), deployment, { maxMs: 2_500 }));
  for (let n = 0; n < 20; n += 1) await things.insertMany(Array.from({ length: 20 }, (_, i) => ({ n, i })));
  await Promise.all([first, second]);
  const batches = await batchesOf(deployment, deployment.begin);
  const stored = batches.flatMap(({ bytes }) => split(bytes));
  const expected = (await oplogFrom(deployment.begin)).slice(0, stored.length);
  assert.ok(stored.length >= 400);
  assert.ok(stored.every((entry, n) => entry.equals(expected[n] ?? Buffer.alloc(0))));
});

test('a stream whose claim was taken over ends with FenceLost, under writes and idle', async () => {
  const deployment = await begun();
  const tailing = tailOplog(stepContext(), deployment, { maxMs: 60_000 });
  await until(async () => (await endOfChain(lab.stores, deployment.fence.incarnation)) !== null, 'a batch is stored');
  await claimAgain(deployment);
  await assert.rejects(tailing, (error) => isLifeboatError(error, 'FenceLost'));
});

test('a stream that is aborted ends within a second, with the reason, and all that was stored is whole', async () => {
  const deployment = await begun();
  const stop = new AbortController();
  const tailing = tailOplog(stepContext(stop.signal), deployment, { maxMs: 60_000 });
  tailing.catch(() => undefined);
  await until(async () => (await endOfChain(lab.stores, deployment.fence.incarnation)) !== null, 'a batch is stored');
  const at = Date.now();
  stop.abort(new Error('stop'));
  await assert.rejects(tailing, { message: 'stop' });
  assert.ok(Date.now() - at < 1_500);
  await batchesOf(deployment, deployment.begin);
});

test('each stored batch rings the bell', async () => {
  const deployment = await begun();
  const tailing = tailOplog(stepContext(), deployment, { maxMs: 2_000 });
  await deployment.arrivals.wait(never, 60_000, 0);
  assert.ok((await endOfChain(lab.stores, deployment.fence.incarnation)) !== null);
  await tailing;
});

test('an idle source is noted as seen, and the stream returns when its time is up', async () => {
  const deployment = await begun();
  const at = Date.now();
  await tailOplog(stepContext(), deployment, { maxMs: 1_500 });
  assert.ok(Date.now() - at < 10_000);
  const { seen } = await readMember(lab.stores, deployment.fence);
  assert.ok(seen !== null && compareOptimes(fromStoredPosition(seen.position).ts, deployment.begin.ts) >= 0);
});

/** A chain that ends at `last`, as if entries up to there had been read. */
async function pretend(deployment: Deployment, last: Position): Promise<void> {
  const [bytes] = await oplogFrom({ ts: { t: 0, i: 0 }, term: 0 });
  const batch = {
    after: CHAIN_START,
    first: last,
    last,
    lastWall: new Date(),
    entries: 1,
    bytes: bytes ?? Buffer.alloc(0),
  };
  assert.ok(await appendBatch(deployment.stores, deployment.fence.incarnation, batch, deployment.fence.epoch));
}

async function refusal(deployment: Deployment): Promise<string> {
  return tailOplog(stepContext(), deployment, { maxMs: 1_000 }).then(
    () => 'none',
    (error: unknown) => (error instanceof LifeboatError ? error.kind : String(error)),
  );
}

test('an end of the chain with another term, one that never was, and one that is still to come are rollbacks', async () => {
  const ends: ((begin: Position) => Position)[] = [
    ({ ts, term }) => ({ ts, term: term + 1 }),
    ({ ts, term }) => ({ ts: { t: ts.t, i: ts.i + 50_000 }, term }),
    ({ ts, term }) => ({ ts: { t: ts.t + 100_000, i: 1 }, term }),
  ];
  for (const end of ends) {
    const deployment = await begun();
    await pretend(deployment, end(deployment.begin));
    await until(async () => {
      await lab.set.client.db('more').collection('things').insertOne({ of: 'them' });
      const newest = (await oplogFrom(deployment.begin)).at(-1);
      return newest !== undefined && entryPlace(newest).ts.t > deployment.begin.ts.t;
    }, 'the source has an entry of a later second');
    assert.equal(await refusal(deployment), 'SourceRolledBack');
  }
});

test('an incarnation of its own has a chain of its own', async () => {
  const deployment = await begun();
  await tailOplog(stepContext(), deployment, { maxMs: 300 });
  assert.equal(await endOfChain(lab.stores, new ObjectId()), null);
  const end = await endOfChain(lab.stores, deployment.fence.incarnation);
  assert.ok(end && !samePosition(end, CHAIN_START));
});
