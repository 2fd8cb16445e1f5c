import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Binary, ObjectId } from 'mongodb';
import { storeBytes } from '../src/stores/bytes.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { chainOf, resumePoints, type SliceHeader } from '../src/syncstore/chain.ts';
import { listCollectionsToBuild, saveListing, saveOutcomes } from '../src/syncstore/collections.ts';
import { removeSync } from '../src/syncstore/remove.ts';
import { insertSlice, readChain, readSlice } from '../src/syncstore/slices.ts';
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

const incarnation = new ObjectId();
const readFrom = { host: 'a:1', copyId: 'data' };
const token = (name: string): Binary => new Binary(Buffer.from(name));

/** Headers of slices given as `after>token`, where `-` is the start or the end. */
function headers(...links: string[]): SliceHeader[] {
  const uuid = new Binary(Buffer.alloc(16, 7), 4);
  return links.map((link, seq) => {
    const [from = '', to = ''] = link.split('>');
    const name = (text: string): Binary | null => (text === '-' ? null : token(text));
    return {
      id: { incarnation, uuid, seq },
      after: name(from),
      token: name(to),
      readFrom,
      documents: 1,
      rawBytes: 1,
      storedBytes: 1,
    };
  });
}

const seqs = (links: string[]): number[] => chainOf(headers(...links)).slices.map(({ id }) => id.seq);

test('a chain begins at the newest slice that begins the collection', () => {
  assert.deepEqual(seqs([]), []);
  assert.deepEqual(seqs(['->a', 'a>b']), [0, 1]);
  assert.deepEqual(seqs(['->a', 'a>b', '->x', 'x>-']), [2, 3]);
});

test('a chain is complete when its last slice reached the end, and only then', () => {
  assert.equal(chainOf(headers('->a', 'a>-')).complete, true);
  assert.equal(chainOf(headers('->-')).complete, true);
  assert.equal(chainOf(headers('->a')).complete, false);
  assert.equal(chainOf(headers('->-', '->a')).complete, false);
  assert.equal(chainOf([]).complete, false);
});

test('a slice may go back behind slices before it', () => {
  assert.deepEqual(seqs(['->a', 'a>b', 'b>c', 'a>d', 'd>-']), [0, 1, 2, 3, 4]);
});

test('a slice that follows nothing, and one that is not there, break the chain', () => {
  const broken = { kind: 'SliceMissing' };
  assert.throws(() => chainOf(headers('->a', 'b>c')), broken);
  assert.throws(() => chainOf(headers('a>b')), broken);
  assert.throws(() => chainOf(headers('->a', '->x', 'a>b')), broken);
  assert.throws(() => chainOf(headers('->a', 'a>b', 'b>c').toSpliced(1, 1)), broken);
});

test('reading goes on behind the newest token that is good, further back in growing strides, at last at the start', () => {
  const chain = chainOf(headers('->a', 'a>b', 'b>c', 'c>d', 'd>e'));
  const names = (usable: boolean): (string | undefined)[] =>
    resumePoints(chain, () => usable).map((point) => point?.toString('utf8'));
  assert.deepEqual(names(true), ['e', 'd', 'b', undefined]);
  assert.deepEqual(names(false), [undefined]);
});

async function slice(seq: number, raw: Buffer): Promise<SliceHeader['id']> {
  const id = { incarnation, uuid: new Binary(Buffer.alloc(16, 9), 4), seq };
  const bytes = await storeBytes(stores.sliceParts, incarnation, raw);
  const after = seq === 0 ? null : token(String(seq));
  assert.ok(
    await insertSlice(stores, { id, after, token: token(String(seq + 1)), readFrom, documents: 1, bytes, epoch: 1 }),
  );
  return id;
}

test('what a slice holds comes back as it was; damage and loss are named; a number is given once', async () => {
  const [id, other] = [await slice(0, Buffer.from('first')), await slice(1, Buffer.from('second'))];
  assert.equal((await readSlice(stores, { id })).toString(), 'first');
  const bytes = await storeBytes(stores.sliceParts, incarnation, Buffer.from('third'));
  assert.equal(
    await insertSlice(stores, { id: other, after: null, token: null, readFrom, documents: 1, bytes, epoch: 2 }),
    false,
  );
  assert.equal((await readChain(stores, incarnation, id.uuid)).slices.length, 2);
  await stores.slices.updateOne({ _id: id }, { $set: { 'bytes.sha256': new Binary(Buffer.alloc(32)) } });
  await assert.rejects(readSlice(stores, { id }), { kind: 'SliceDamaged' });
  await stores.slices.deleteOne({ _id: id });
  await assert.rejects(readSlice(stores, { id }), { kind: 'SliceMissing' });
  await assert.rejects(readChain(stores, incarnation, id.uuid), { kind: 'SliceMissing' });
});

test('a chain is read from an index, never from the slices themselves', async () => {
  const plan = await stores.slices
    .find({ '_id.incarnation': incarnation, '_id.uuid': new Binary(Buffer.alloc(16, 9), 4) })
    .project({ '_id.incarnation': 1, '_id.uuid': 1, '_id.seq': 1, after: 1, token: 1, 'readFrom.host': 1, 'readFrom.copyId': 1, documents: 1, 'bytes.rawBytes': 1, 'bytes.storedBytes': 1 })
    .sort({ '_id.seq': 1 })
    .explain('executionStats'); // prettier-ignore
  assert.equal(plan['executionStats'].totalDocsExamined, 0);
});

test('an outcome is noted once, and of several listings each is had by itself', async () => {
  const sync = new ObjectId();
  const record = (n: number): Parameters<typeof saveListing>[1]['collections'][number] => ({
    _id: { incarnation: sync, uuid: new Binary(Buffer.alloc(16, n), 4) },
    db: 'shop', name: `c${n}`, options: new Binary(), indexes: [], state: 'pending', documents: 0, bytes: 0,
  }); // prettier-ignore
  const [first, second] = [new ObjectId(), new ObjectId()];
  await saveListing(stores, { collections: [record(1), record(2)], views: [] }, first);
  await saveListing(stores, { collections: [record(2), record(3)], views: [] }, second);
  const uuid = record(3)._id.uuid;
  await saveOutcomes(stores, sync, [{ uuid, state: 'done', documents: 5, bytes: 50 }]);
  await saveOutcomes(stores, sync, [{ uuid, state: 'dropped', documents: 0, bytes: 0 }]);
  const { collections } = await listCollectionsToBuild(stores, sync, second);
  assert.deepEqual(
    (await listCollectionsToBuild(stores, sync, first)).collections.map(({ name }) => name),
    ['c1', 'c2'],
  );
  assert.deepEqual(
    collections.map(({ name, state, documents }) => [name, state, documents]),
    [
      ['c2', 'pending', 0],
      ['c3', 'done', 5],
    ],
  );
  await removeSync(stores, sync);
  assert.deepEqual(await listCollectionsToBuild(stores, sync), { collections: [], views: [] });
});
