/** Reading kindly: the limits of lifeboat.yaml, held while a real source is copied, and changed meanwhile. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { MongoClient } from 'mongodb';
import type { Progress } from '../src/shared/messages.ts';
import { openSource } from '../src/source/connect.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource, type CopyResult } from '../src/steps/copy-source.ts';
import { openStores } from '../src/stores/connect.ts';
import { Arrivals } from '../src/stores/arrivals.ts';
import { startReplicaSet, until } from './support/replica-set.ts';
import { newFence, openSyncLab, stepContext, type Deployment, type SyncLab } from './support/sync.ts';

const MIB = 2 ** 20;
const DOCUMENT_BYTES = 1024;
const COLLECTIONS = 4;
const DOCUMENTS = 8_000;

let lab: SyncLab;
before(async () => {
  lab = await openSyncLab();
  for (let n = 0; n < COLLECTIONS; n += 1) {
    const documents = Array.from({ length: DOCUMENTS }, () => ({ bytes: randomBytes(DOCUMENT_BYTES) }));
    await lab.set.client.db('shop').collection(`c${n}`).insertMany(documents);
  }
});
after(() => lab?.[Symbol.asyncDispose]());

/** Bytes of the documents that the source has handed out since it was started, about. */
async function handedOut(client: MongoClient): Promise<number> {
  const { metrics } = await client.db('admin').command({ serverStatus: 1 });
  return Number(metrics.document.returned) * DOCUMENT_BYTES;
}

/** What was handed out, once it no longer grows. */
async function handedOutAtRest(client: MongoClient): Promise<number> {
  let [last, same] = [-1, 0];
  await until(async () => {
    const now = await handedOut(client);
    // Some documents are handed out to others than the copy.
    same = now - last < 100 * DOCUMENT_BYTES ? same + 1 : 0;
    last = now;
    return same > 20;
  }, 'the copy waits');
  return last;
}

interface Running {
  readonly result: Promise<CopyResult>;
  readonly shown: () => Progress | undefined;
}

function start(
  deployment: Deployment,
  parts: { readonly slicesInFlight: number | (() => Promise<number>); readonly sliceBytes: number },
): Running {
  let shown: Progress | undefined;
  const ctx = { ...stepContext(), report: (progress: Progress) => (shown = progress) };
  const result = copySource(ctx, { ...deployment, ...parts }, { maxMs: 120_000 });
  // Awaited at the end of the test; a failure before that is no unhandled one.
  result.catch(() => undefined);
  return { result, shown: () => shown };
}

test('a copy keeps to its limit, goes faster soon after it was raised, and its progress shows the limit', async () => {
  let limit: number | null = 2 * MIB;
  const source = await openSource({ name: 'shop', uri: lab.set.uri, readLimit: () => Promise.resolve(limit) });
  try {
    const deployment = { ...(await lab.begin()), source };
    await beginSync(stepContext(), deployment);
    const begin = await handedOut(lab.set.client);
    const startedAt = performance.now();
    const read = async (): Promise<number> => (await handedOut(lab.set.client)) - begin;
    const copy = start(deployment, { slicesInFlight: 4, sliceBytes: 512 * 1024 });
    await until(async () => (await read()) > 10 * MIB, 'ten MiB are read');
    const slow = (await read()) / ((performance.now() - startedAt) / 1000);
    assert.ok(slow < 3 * MIB, `${slow / MIB} MiB a second`);
    assert.ok(slow > 1 * MIB, `${slow / MIB} MiB a second`);
    await until(() => copy.shown()?.limitPerSecond === limit, 'the progress shows the limit');
    assert.ok((copy.shown()?.perSecond ?? 0) < 3 * MIB);

    limit = null;
    const raisedAt = performance.now();
    const { finished } = await copy.result;
    assert.ok(finished);
    const left = COLLECTIONS * DOCUMENTS * DOCUMENT_BYTES - 11 * MIB;
    const fast = left / ((performance.now() - raisedAt) / 1000);
    assert.ok(fast > 2 * slow, `${fast / MIB} MiB a second after ${slow / MIB}`);
    assert.equal(copy.shown()?.limitPerSecond, undefined);
  } finally {
    await source.close();
  }
});

test('no more is in memory than the slices in flight, also after their number was raised meanwhile', async () => {
  const { client } = lab.set;
  await using blocks = await startReplicaSet({ name: 'blocks', setParameters: { enableTestCommands: true } });
  const stores = await openStores({ blockstore: blocks.uri });
  try {
    const fence = await newFence(stores, lab.source, 'held-up');
    const deployment = { stores, source: lab.source, fence, arrivals: new Arrivals() };
    await beginSync(stepContext(), deployment);
    // While nothing can be stored, what is read stays in memory.
    const failing = { configureFailPoint: 'failCommand', data: { failCommands: ['insert'], blockConnection: true } };
    const data = { ...failing.data, blockTimeMS: 15_000 };
    await blocks.client.db('admin').command({ ...failing, mode: 'alwaysOn', data });
    let slicesInFlight = 1;
    const begin = await handedOut(client);
    const copy = start(deployment, { slicesInFlight: () => Promise.resolve(slicesInFlight), sliceBytes: MIB });
    await until(async () => (await handedOut(client)) > begin, 'the copy reads');
    const one = (await handedOutAtRest(client)) - begin;
    // A reply may be half as much again as the slice, and some documents are our own.
    assert.ok(one <= 3 * MIB, `${one / MIB} MiB for one slice`);
    slicesInFlight = 12;
    await until(async () => (await handedOut(client)) - begin > one + 5 * MIB, 'more is read');
    const many = (await handedOutAtRest(client)) - begin;
    assert.ok(many <= 20 * MIB, `${many / MIB} MiB for twelve slices`);
    slicesInFlight = 1;
    await blocks.client.db('admin').command({ ...failing, mode: 'off' });
    assert.ok((await copy.result).finished);
  } finally {
    await stores.close();
  }
});
