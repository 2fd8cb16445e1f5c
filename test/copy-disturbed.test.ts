import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { MongoClient } from 'mongodb';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { compareOptimes } from '../src/shared/optime.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource, type CopyResult } from '../src/steps/copy-source.ts';
import { readMember } from '../src/stores/members.ts';
import { listCollectionsToBuild } from '../src/syncstore/collections.ts';
import { readChain } from '../src/syncstore/slices.ts';
import { until } from './support/replica-set.ts';
import {
  claimAgain,
  digest,
  listed,
  openSyncLab,
  sourceDocuments,
  stepContext,
  storedDocuments,
  type Deployment,
  type SyncLab,
} from './support/sync.ts';

const SLICE = 128 * 1024;
const DOCUMENTS = 10_000;

let lab: SyncLab;
before(async () => {
  lab = await openSyncLab();
});
after(() => lab?.[Symbol.asyncDispose]());

/** A source collection of 10 MB, the only one, and a sync of it that is about to copy. */
async function ready(ns: string): Promise<Deployment> {
  const [db, name] = ns.split('.');
  const { databases } = await lab.set.client.db('admin').command({ listDatabases: 1, nameOnly: true });
  for (const other of databases as { name: string }[]) {
    if (!['admin', 'config', 'local'].includes(other.name)) await lab.set.client.db(other.name).dropDatabase();
  }
  const documents = Array.from({ length: DOCUMENTS }, (_, _id) => ({ _id, text: randomBytes(500).toString('hex') }));
  await lab.set.client
    .db(db)
    .collection(name ?? '')
    .insertMany(documents as never[]);
  const deployment = await lab.begin();
  await beginSync(stepContext(), deployment);
  return deployment;
}

/** Copies everything; `disturb`, if given, is called once, when the third slice is stored. */
async function copy(deployment: Deployment, disturb?: () => Promise<unknown>): Promise<CopyResult> {
  let reports = 0;
  let disturbed: Promise<unknown> | undefined;
  const ctx = {
    ...stepContext(),
    report: () => {
      reports += 1;
      if (reports === 3) disturbed = disturb?.();
    },
  };
  const result = await copySource(ctx, { ...deployment, slicesInFlight: 1, sliceBytes: SLICE }, { maxMs: 120_000 });
  await disturbed;
  assert.equal(disturbed !== undefined, disturb !== undefined, 'it was never disturbed');
  return result;
}

/** Copies at least that many slices of anything and is aborted then. */
async function copySome(deployment: Deployment, slices: number): Promise<void> {
  const stop = new AbortController();
  let reports = 0;
  const ctx = {
    ...stepContext(stop.signal),
    report: () => {
      reports += 1;
      if (reports === slices) stop.abort(new Error('stop'));
    },
  };
  const parts = { ...deployment, slicesInFlight: 1, sliceBytes: SLICE };
  await assert.rejects(copySource(ctx, parts, { maxMs: 120_000 }), { message: 'stop' });
}

async function chainOf(deployment: Deployment, ns: string): ReturnType<typeof readChain> {
  const { _id } = await listed(deployment, ns);
  return readChain(lab.stores, _id.incarnation, _id.uuid);
}

test('a collection that is renamed while it is copied is copied whole', async () => {
  const deployment = await ready('renamed.before');
  const { finished } = await copy(deployment, () => lab.set.client.db('renamed').collection('before').rename('after'));
  assert.ok(finished);
  const source = await sourceDocuments(lab.set.client, 'renamed.after');
  assert.equal(digest(await storedDocuments(deployment, 'renamed.before')), digest(source));
  assert.equal((await chainOf(deployment, 'renamed.before')).slices[0]?.id.seq, 0, 'it was begun anew');
});

test('a collection that is dropped while it is copied counts as dropped', async () => {
  const deployment = await ready('dropped.soon');
  assert.ok((await copy(deployment, () => lab.set.client.db('dropped').collection('soon').drop())).finished);
  assert.equal((await listed(deployment, 'dropped.soon')).state, 'dropped');
});

test('a cursor that is killed costs the slice in hand and no more', async () => {
  const deployment = await ready('killed.cursor');
  const { finished } = await copy(deployment, () => lab.set.client.db('admin').command({ killAllSessions: [] }));
  assert.ok(finished);
  const stored = await storedDocuments(deployment, 'killed.cursor');
  assert.equal(stored.length, DOCUMENTS);
  assert.equal(digest(stored), digest(await sourceDocuments(lab.set.client, 'killed.cursor')));
});

test('when the record of the last token was deleted, reading goes on behind an earlier one', async () => {
  const deployment = await ready('token.gone');
  await copySome(deployment, 12);
  const before = await storedDocuments(deployment, 'token.gone');
  const { slices } = await chainOf(deployment, 'token.gone');
  assert.ok(slices.length >= 6 && slices.length < 60);
  const last = slices.at(-1)?.documents ?? 0;
  const gone = lab.set.client.db('token').collection<{ _id: number }>('gone');
  // Natural order is that of _id here, so these are the documents of the last slice.
  await gone.deleteMany({ _id: { $gte: before.length - last, $lt: before.length } });
  assert.ok((await copy(deployment)).finished);
  const chain = await chainOf(deployment, 'token.gone');
  assert.equal(chain.slices[0]?.id.seq, 0, 'it was begun anew');
  const after = await storedDocuments(deployment, 'token.gone');
  assert.equal(after.length, DOCUMENTS);
});

test('two copies beside each other make one chain that holds every document', async () => {
  const deployment = await ready('twins.both');
  const results = await Promise.all([copy(deployment), copy(deployment)]);
  assert.ok(results.every(({ finished }) => finished));
  const chain = await chainOf(deployment, 'twins.both');
  assert.ok(chain.complete);
  const stored = await storedDocuments(deployment, 'twins.both');
  assert.equal(digest(stored), digest(await sourceDocuments(lab.set.client, 'twins.both')));
});

test('a copy whose claim was taken over ends with FenceLost, and the next one goes on behind its slices', async () => {
  const deployment = await ready('fence.lost');
  await copySome(deployment, 8);
  const { nextSeq } = await chainOf(deployment, 'fence.lost');
  const fence = await claimAgain(deployment);
  await assert.rejects(copy(deployment), (error) => isLifeboatError(error, 'FenceLost'));
  assert.ok((await copy({ ...deployment, fence })).finished);
  const { slices } = await chainOf(deployment, 'fence.lost');
  assert.equal(slices[0]?.id.seq, 0);
  assert.ok(slices.length > nextSeq);
});

test('a copy that is aborted ends within a second with the reason, and goes on behind its slices', async () => {
  const deployment = await ready('aborted.copy');
  const stop = new AbortController();
  let at = 0;
  const ctx = {
    ...stepContext(stop.signal),
    report: () => {
      at = Date.now();
      stop.abort(new Error('stop'));
    },
  };
  const parts = { ...deployment, slicesInFlight: 1, sliceBytes: SLICE };
  await assert.rejects(copySource(ctx, parts, { maxMs: 60_000 }), { message: 'stop' });
  assert.ok(Date.now() - at < 1_500);
  assert.ok((await copy(deployment)).finished);
  assert.equal(
    digest(await storedDocuments(deployment, 'aborted.copy')),
    digest(await sourceDocuments(lab.set.client, 'aborted.copy')),
  );
});

test('a member that is killed and comes back is gone on with, and the stop is at or after all that was read', async () => {
  const deployment = await ready('member.killed');
  await lab.set.client.db('admin').command({ fsync: 1 });
  const { finished } = await copy(deployment, async () => {
    lab.set.members[0]?.kill('SIGKILL');
    await lab.set.restart(0);
  }).catch(async (error: unknown) => {
    // Its election may take longer than a step tries again.
    assert.ok(isLifeboatError(error) && error.retryable, String(error));
    await until(
      async () => (await deployment.source.majorityPosition().catch(() => undefined)) !== undefined,
      'it is back',
    );
    return copy(deployment);
  });
  assert.ok(finished);
  await using client = await MongoClient.connect(lab.set.uri);
  assert.equal(
    digest([...new Map((await storedDocuments(deployment, 'member.killed')).map((d) => [digest([d]), d])).values()]),
    digest(await sourceDocuments(client, 'member.killed')),
  );
  const { sync } = await readMember(lab.stores, deployment.fence);
  assert.ok(
    sync?.stop && compareOptimes(fromStoredPosition(sync.stop).ts, fromStoredPosition(sync.beginApplying).ts) >= 0,
  );
  const { collections } = await listCollectionsToBuild(lab.stores, deployment.fence.incarnation);
  assert.ok(collections.every(({ state }) => state !== 'pending'));
});
