import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Binary, ObjectId } from 'mongodb';
import { loadBytes, storeBytes } from '../src/stores/bytes.ts';
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

test('bytes that no compression makes fit one record come back from their parts', async () => {
  const raw = randomBytes(17 * 1024 * 1024);
  const stored = await storeBytes(stores.sliceParts, new ObjectId(), raw);
  assert.equal(stored.parts?.count, 3);
  assert.ok((await loadBytes(stores.sliceParts, stored))?.equals(raw));
});

test('bytes with a missing part or a flipped bit are not given out', async () => {
  const raw = randomBytes(9 * 1024 * 1024);
  const stored = await storeBytes(stores.sliceParts, new ObjectId(), raw);
  await stores.sliceParts.deleteOne({ '_id.of': stored.parts?.id, '_id.n': 1 });
  assert.equal(await loadBytes(stores.sliceParts, stored), undefined);

  const small = await storeBytes(stores.sliceParts, new ObjectId(), Buffer.from('entries of an oplog'));
  const flipped = Buffer.from(small.inline?.buffer ?? []);
  flipped.writeUInt8(flipped.readUInt8(flipped.length - 1) ^ 1, flipped.length - 1);
  assert.equal(await loadBytes(stores.sliceParts, { ...small, inline: new Binary(flipped) }), undefined);
});
