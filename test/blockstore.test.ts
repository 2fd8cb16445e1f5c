import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Binary } from 'mongodb';
import { BLOCK_BYTES } from '../src/blockstore/blocks.ts';
import { readBlocks } from '../src/blockstore/read-blocks.ts';
import { BlockWriter } from '../src/blockstore/write-blocks.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { sha256 } from '../src/stores/bytes.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { revokeExpiredLeases, takeLease } from '../src/stores/leases.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';

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
const lease = { purpose: 'snapshot', deployment: 'shop', daemon: 'd1', snapshot: null } as const;

async function store(number: number, blocks: readonly Buffer[]): Promise<BlockWriter> {
  const writer = new BlockWriter(stores, number, never);
  for (const raw of blocks) await writer.add(sha256(raw), raw);
  await writer.flush();
  return writer;
}

test('blocks come back as they were, whether they shrink or not', async () => {
  const blocks = [randomBytes(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES, 'lifeboat '), Buffer.from('a short last block')];
  await store(1, blocks);
  const places = blocks.map((raw) => ({ path: 'f', offset: 0, bytes: raw.length, hash: sha256(raw) }));
  assert.deepEqual(await readBlocks(stores, 's', places, never), blocks);
  const codecs = await Promise.all(places.map(({ hash }) => stores.blocks.findOne({ _id: new Binary(hash) })));
  assert.deepEqual(
    codecs.map((block) => block?.codec),
    ['none', 'zstd', 'none'],
  );
});

test('a doomed block that is reused loses its doom and carries the newer claim', async () => {
  const raw = randomBytes(100);
  const _id = new Binary(sha256(raw));
  await store(1, [raw]);
  await stores.blocks.updateOne({ _id }, { $set: { doom: 7 } });
  const { counts } = await store(9, [raw]);
  assert.deepEqual(counts, { newBlocks: 0, newStoredBytes: 0, reusedBlocks: 1 });
  const block = await stores.blocks.findOne({ _id });
  assert.equal(block?.claim, 9);
  assert.equal(block && 'doom' in block, false);
  // A zombie with an older lease takes nothing away from the newer one.
  await store(3, [raw]);
  assert.equal((await stores.blocks.findOne({ _id }))?.claim, 9);
});

test('two writers of the same blocks store each once, and both hold all of them', async () => {
  const blocks = Array.from({ length: 600 }, () => randomBytes(2000));
  // The same bytes twice in one snapshot are one block, too.
  const writers = await Promise.all([store(20, [...blocks, ...blocks]), store(21, blocks)]);
  const counts = writers.map((writer) => writer.counts);
  assert.equal((counts[0]?.newBlocks ?? 0) + (counts[1]?.newBlocks ?? 0), 600);
  assert.equal(
    counts.reduce((sum, { newBlocks, reusedBlocks }) => sum + newBlocks + reusedBlocks, 0),
    1800,
  );
  const ids = blocks.map((raw) => new Binary(sha256(raw)));
  assert.equal(await stores.blocks.countDocuments({ _id: { $in: ids }, claim: { $gte: 20 } }), 600);
});

test('a lease is renewed for as long as it is held, and is gone when it is ended', async () => {
  const held = await takeLease(stores, lease, 600);
  const first = await stores.leases.findOne({ _id: held.number });
  assert.equal(first && first.expiresAt.getTime() - first.takenAt.getTime(), 600);
  await until(
    async () => ((await stores.leases.findOne({ _id: held.number }))?.expiresAt ?? 0) > (first?.expiresAt ?? 0),
    'it is renewed',
  );
  assert.equal(held.signal.aborted, false);
  await held.end();
  assert.equal(await stores.leases.findOne({ _id: held.number }), null);
  const next = await takeLease(stores, lease);
  await next.end();
  assert.ok(next.number > held.number);
});

test('a revoked lease tells its holder, who can no longer settle it', async () => {
  await using held = await takeLease(stores, lease, 600);
  await stores.leases.updateOne({ _id: held.number }, { $set: { revoked: true } });
  await until(() => held.signal.aborted, 'its holder knows');
  assert.ok(isLifeboatError(held.signal.reason, 'FenceLost'));
  await assert.rejects(held.settle(), (error) => isLifeboatError(error, 'FenceLost'));
});

test('only a lease that has expired by the clock of the store is revoked as expired', async () => {
  await using held = await takeLease(stores, { ...lease, deployment: 'expiry' });
  await using other = await takeLease(stores, { ...lease, deployment: 'expiry' });
  await stores.leases.updateOne({ _id: other.number }, [{ $set: { expiresAt: { $subtract: ['$$NOW', 1] } } }]);
  assert.equal(await revokeExpiredLeases(stores, 'expiry'), 1);
  assert.equal((await stores.leases.findOne({ _id: held.number }))?.revoked, false);
  assert.equal((await stores.leases.findOne({ _id: other.number }))?.revoked, true);
});

test('a lease stops its holder when the store does not answer in time', async () => {
  const own = await startReplicaSet({ name: 'away' });
  const away = await openStores({ blockstore: own.uri });
  try {
    const held = await takeLease(away, lease, 900);
    own.members[0]?.kill('SIGSTOP');
    await until(() => held.signal.aborted, 'its holder stops');
    assert.ok(isLifeboatError(held.signal.reason, 'FenceLost'));
    own.members[0]?.kill('SIGCONT');
    await held.end();
  } finally {
    own.members[0]?.kill('SIGCONT');
    await away.close();
    await own[Symbol.asyncDispose]();
  }
});
