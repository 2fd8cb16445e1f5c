/** What a validation does where there is much to find, or little to be read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLifeboatError } from '../src/shared/errors.ts';
import { openSource } from '../src/source/connect.ts';
import { notAtThatTime, SourceReader } from '../src/validation/source-reader.ts';
import { DataPath, type DataPathOptions } from './support/data-path.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';

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
