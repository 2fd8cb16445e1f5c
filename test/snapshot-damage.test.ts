import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Binary } from 'mongodb';
import { placesOf, readManifest, readRuns, type BlockPlace } from '../src/blockstore/manifest.ts';
import { findBinary } from '../src/embedded/binaries.ts';
import { isLifeboatError, type ErrorName } from '../src/shared/errors.ts';
import type { VerifyResult } from '../src/shared/messages.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { restoreDirectory } from '../src/steps/restore-directory.ts';
import { takeSnapshot } from '../src/steps/take-snapshot.ts';
import { verifySnapshot } from '../src/steps/verify-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import type { BlockRecord } from '../src/stores/records.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext } from './support/snapshots.ts';

let set: TestReplicaSet;
let stores: Stores;
let folder: TestFolder;
let snapshot: string;
/** A block in the middle of a file, and its record. */
let place: BlockPlace;
let block: BlockRecord;
before(async () => {
  folder = await testFolder();
  set = await startReplicaSet({ name: 'blocks' });
  stores = await openStores({ blockstore: set.uri });
  const head = await startLockableMongod();
  try {
    const documents = Array.from({ length: 1_000 }, (_, n) => ({ n, bytes: new Binary(randomBytes(4_000)) }));
    await head.client.db('shop').collection('orders').insertMany(documents);
    const member = await claimedMember(stores);
    snapshot = (await takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME })).id;
  } finally {
    await head[Symbol.asyncDispose]();
  }
  const manifest = await readManifest(stores, snapshot);
  for await (const run of readRuns(stores, manifest)) {
    const middle = [...placesOf(run, manifest.blockSize)].find(({ offset }) => offset > 1_000_000);
    if (middle) place = middle;
  }
  const found = await stores.blocks.findOne({ _id: new Binary(place.hash) });
  assert.ok(found);
  block = found;
});
after(async () => {
  await stores?.close();
  await set?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

async function verify(): Promise<VerifyResult> {
  return verifySnapshot(stepContext(), { stores, daemon: 'd1' }, { snapshot });
}

/** Restores into a folder of that name and expects the error; nothing that a mongod starts on may be left. */
async function assertRestoreRefused(name: string, kind: ErrorName): Promise<string> {
  const path = join(folder.path, name);
  const parts = { stores, daemon: 'd1', mongodFor: () => findBinary('mongod') };
  let message = '';
  await assert.rejects(restoreDirectory(stepContext(), parts, { id: name, snapshot, path }), (error) => {
    message = error instanceof Error ? error.message : '';
    return isLifeboatError(error, kind);
  });
  await assert.rejects(access(join(path, 'WiredTiger')));
  const record = await stores.restores.findOne({ _id: name });
  assert.deepEqual([record?.state, record?.problem?.message], ['failed', message]);
  return message;
}

async function putBack(): Promise<void> {
  await stores.blocks.replaceOne({ _id: block._id }, block, { upsert: true });
}

test('a whole snapshot verifies, block by block', async () => {
  const manifest = await readManifest(stores, snapshot);
  assert.deepEqual(await verify(), {
    ok: true,
    blocksChecked: manifest.blocks,
    bytesChecked: manifest.logicalBytes,
    problems: [],
  });
});

test('a sample reads its share of the blocks, spread over the files, and one or another sample finds each damage', async () => {
  const { blocks } = await readManifest(stores, snapshot);
  const parts = { stores, daemon: 'd1' };
  await stores.blocks.deleteOne({ _id: block._id });
  try {
    let found = 0;
    for (let tries = 0; found === 0 && tries < 100; tries += 1) {
      const result = await verifySnapshot(stepContext(), parts, { snapshot, sample: 0.25 });
      assert.ok(Math.abs(result.blocksChecked - blocks / 4) <= 1, `${result.blocksChecked} of ${blocks}`);
      assert.equal(result.ok, result.problems.length === 0);
      found = result.problems.length;
    }
    assert.equal(found, 1);
  } finally {
    await putBack();
  }
});

test('a flipped bit in a block is found and named, and such a block is never restored', async () => {
  const data = Buffer.from(block.data.buffer);
  data.writeUInt8(data.readUInt8(data.length >> 1) ^ 1, data.length >> 1);
  await stores.blocks.updateOne({ _id: block._id }, { $set: { data: new Binary(data) } });
  try {
    const { ok, problems } = await verify();
    assert.equal(ok, false);
    assert.equal(problems.length, 1);
    assert.equal(problems[0]?.code, 'LB5002');
    for (const named of [snapshot, place.path, String(place.offset)]) assert.ok(problems[0]?.message.includes(named));
    assert.equal(await assertRestoreRefused('flipped', 'BlockDamaged'), problems[0]?.message);
  } finally {
    await putBack();
  }
});

test('a block that was cut short, or put in the place of another, is damage', async () => {
  const other = await stores.blocks.findOne({ _id: { $ne: block._id }, codec: block.codec, size: block.size });
  assert.ok(other);
  for (const data of [new Binary(block.data.buffer.subarray(0, 100)), other.data]) {
    await stores.blocks.updateOne({ _id: block._id }, { $set: { data } });
    try {
      assert.deepEqual(
        (await verify()).problems.map(({ code }) => code),
        ['LB5002'],
      );
    } finally {
      await putBack();
    }
  }
});

test('a missing block is found and named, and the snapshot is refused by a restore', async () => {
  await stores.blocks.deleteOne({ _id: block._id });
  try {
    const { problems } = await verify();
    assert.deepEqual(
      problems.map(({ code }) => code),
      ['LB5003'],
    );
    assert.equal(await assertRestoreRefused('missing', 'BlockMissing'), problems[0]?.message);
  } finally {
    await putBack();
  }
});

test('a damaged or missing part of a manifest is found and named, and nothing of it is restored', async () => {
  const part = await stores.manifestParts.findOne({ '_id.snapshot': snapshot, path: place.path });
  assert.ok(part);
  const hashes = Buffer.from(part.hashes.buffer);
  hashes.writeUInt8(hashes.readUInt8(40) ^ 1, 40);
  await stores.manifestParts.updateOne({ _id: part._id }, { $set: { hashes: new Binary(hashes) } });
  const damaged = await verify();
  assert.equal(damaged.problems[0]?.code, 'LB5004');
  assert.ok(damaged.problems[0]?.message.includes(place.path));
  await assertRestoreRefused('manifest', 'ManifestDamaged');
  assert.equal((await readdir(folder.path)).includes('manifest'), false);

  await stores.manifestParts.deleteOne({ _id: part._id });
  const missing = await verify();
  assert.equal(
    missing.problems[0]?.message,
    `the manifest of snapshot ${snapshot} is damaged: part ${part._id.n} is missing`,
  );
  await assertRestoreRefused('manifest-part', 'ManifestDamaged');

  await stores.manifestParts.insertOne(part);
  assert.equal((await verify()).ok, true);
});

test('a snapshot that does not exist is called so by its id', async () => {
  const asked = verifySnapshot(stepContext(), { stores, daemon: 'd1' }, { snapshot: 'shop-none' });
  await assert.rejects(
    asked,
    (error) => isLifeboatError(error, 'UnknownSnapshot') && error.message.includes('shop-none'),
  );
});
