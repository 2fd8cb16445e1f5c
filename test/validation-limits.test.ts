/** What a validation does where there is much to find, or little to be read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { castDriverError } from '../src/mongo/errors.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { openSource } from '../src/source/connect.ts';
import { extentOf } from '../src/validation/findings.ts';
import { notAtThatTime, SourceReader } from '../src/validation/source-reader.ts';
import { DataPath, type DataPathOptions } from './support/data-path.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';

interface Numbered {
  readonly _id: number;
}

/** A head that is whole and not validated. */
async function wholeHead(source: TestReplicaSet, options: Partial<DataPathOptions> = {}): Promise<DataPath> {
  const path = await DataPath.open({ source: source.uri, ...options });
  try {
    await path.initialSync();
    return path;
  } catch (error) {
    await path[Symbol.asyncDispose]();
    throw error;
  }
}

test('a range that is known to differ fails the sync when the source cannot be read to tell what differs', async () => {
  await using source = await startReplicaSet({ name: 'source', setParameters: { enableTestCommands: true } });
  const notes = source.client.db('plain').collection<Numbered>('notes');
  const text = 'x'.repeat(500);
  await notes.insertMany(Array.from({ length: 20_000 }, (_, _id) => ({ _id, text })));
  await using path = await wholeHead(source);
  await using head = await path.connectHead();
  await head
    .db('plain')
    .collection<Numbered>('notes')
    .deleteMany({ _id: { $gte: 100 } });
  // The first reply shows that there is more; a second one never comes.
  const failCommands = ['getMore'];
  const data = { failCommands, namespace: 'plain.notes', errorCode: 246 };
  await source.client.db('admin').command({ configureFailPoint: 'failCommand', mode: 'alwaysOn', data });
  const ticks = source.client.db('ticks').collection('ticks');
  const ticking = setInterval(() => void ticks.insertOne({}).catch(() => undefined), 300);
  try {
    await assert.rejects(path.validate(), (error) => isLifeboatError(error, 'ValidationFailed'));
  } finally {
    clearInterval(ticking);
  }
  const report = await path.validation();
  assert.equal(report.state, 'different');
  assert.deepEqual(new Set(report.failed.map(({ namespace }) => namespace)), new Set(['plain.notes']));
  assert.deepEqual(report.notCompared, []);
  assert.ok((await path.stores.slices.countDocuments()) > 0);
});

test('a source that is silent for too long is given up at that optime, however long the ranges before took', async () => {
  await using source = await startReplicaSet({ name: 'source', setParameters: { enableTestCommands: true } });
  const notes = source.client.db('plain').collection<Numbered>('notes');
  await notes.insertMany(Array.from({ length: 30 }, (_, _id) => ({ _id })));
  const opened = await openSource({ name: 'shop', uri: source.uri });
  const { signal } = new AbortController();
  const replyMs = 400;
  try {
    await using reader = await SourceReader.open(opened, { replyMs });
    const at = await reader.newest();
    const data = { failCommands: ['getMore'], namespace: 'plain.notes', blockConnection: true, blockTimeMS: 100 };
    const failPoint = { configureFailPoint: 'failCommand', mode: 'alwaysOn' };
    await source.client.db('admin').command({ ...failPoint, data });
    {
      await using slow = await reader.open('plain', { find: 'notes' }, { at, signal, average: 4 * 1024 * 1024 });
      let documents = 0;
      while (!slow.ended) documents += (await slow.next()).documents;
      assert.equal(documents, 30, 'all replies together took longer than one may');
    }
    await source.client.db('admin').command({ ...failPoint, data: { ...data, blockTimeMS: 2_000 } });
    {
      await using silent = await reader.open('plain', { find: 'notes' }, { at, signal, average: 4 * 1024 * 1024 });
      await silent.next();
      await assert.rejects(silent.next(), (error) => notAtThatTime(error) !== undefined);
    }
  } finally {
    await source.client.db('admin').command({ configureFailPoint: 'failCommand', mode: 'off' });
    await opened.close();
  }
});

test('a head that lacks more documents than can be fetched anew one by one fails the sync with a report', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  const words = source.client.db('plain').collection<{ _id: string; v: number }>('words');
  // Large _ids: all of them together would not fit one record.
  const ids = Array.from({ length: 2_500 }, (_, n) => `${'x'.repeat(400)}${n}`);
  await words.insertMany(ids.map((_id) => ({ _id, v: 0 })));
  await using path = await wholeHead(source, { rangeDocuments: 1 });
  await using head = await path.connectHead();
  const onHead = head.db('plain').collection<{ _id: string }>('words');
  await onHead.deleteMany({ _id: { $in: ids.filter((_, n) => n % 2 === 0) } });
  await words.updateMany({}, { $inc: { v: 1 } });
  await assert.rejects(path.validate(), (error) => isLifeboatError(error, 'ValidationFailed'));
  const report = await path.validation();
  assert.equal(report.state, 'different');
  const told = report.failed.map(({ namespace, kind, count, ids: first }) => [
    namespace,
    kind,
    count > 1_000,
    first.length,
  ]);
  assert.deepEqual(told, [['plain.words', 'missing', true, 20]]);
  assert.equal(await path.stores.validationCollections.countDocuments(), 0);
});

test('what the driver refuses to send is a defect, not a store that does not answer', async () => {
  await using set = await startReplicaSet({ name: 'blocks' });
  const document = { large: Buffer.alloc(16.5 * 1024 * 1024) };
  const writing = set.client
    .db('any')
    .collection('any')
    .bulkWrite([{ insertOne: { document } }]);
  await assert.rejects(writing, (error) => isLifeboatError(castDriverError(error, 'store', 'writing'), 'Internal'));
  const session = set.client.startSession();
  await session.endSession();
  await assert.rejects(set.client.db('any').command({ ping: 1 }, { session }), (error) =>
    isLifeboatError(castDriverError(error, 'store', 'writing'), 'StoreUnavailable'),
  );
});

test('a validation reads the documents of its source no faster than its limit, in ranges that are short at that pace', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  const notes = source.client.db('plain').collection<Numbered>('notes');
  const text = 'x'.repeat(1024);
  await notes.insertMany(Array.from({ length: 6_000 }, (_, _id) => ({ _id, text })));
  let limit: number | null = null;
  let lookedAt = 0;
  const readLimit = (): Promise<number | null> => {
    lookedAt = performance.now();
    return Promise.resolve(limit);
  };
  await using path = await wholeHead(source, { readLimit });
  limit = 512 * 1024;
  // The limit is looked at once a second.
  await until(() => performance.now() > lookedAt + 1_200, 'the next reading looks at the limit again');
  const begin = performance.now();
  const report = await path.validate();
  const seconds = (performance.now() - begin) / 1_000;
  assert.equal(report.state, 'equal');
  assert.ok(report.bytes / seconds < 1.1 * limit, `${report.bytes} bytes in ${seconds} s`);
  assert.ok(report.ranges > report.collections, 'all of it was one range');
});

test('a head is said to be equal only where nothing was left out', () => {
  const notCompared = [{ namespace: 'plain.notes', reason: 'the source could not be read' }];
  assert.equal(extentOf({ ranges: 3, notCompared: [] }), 'all');
  assert.equal(extentOf({ ranges: 3, notCompared }), 'part');
  assert.equal(extentOf({ ranges: 0, notCompared }), 'nothing');
});
