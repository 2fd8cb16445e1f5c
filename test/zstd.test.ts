/** zstd contexts that are used again and again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Binary } from 'mongodb';
import { packBlock, unpackBlock } from '../src/blockstore/blocks.ts';
import { release } from '../src/shared/memory.ts';
import { sha256 } from '../src/stores/bytes.ts';
import { Compressor } from '../src/stores/zstd.ts';
import { Random, testSeed } from './support/random.ts';

function someBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.alloc(length, `text ${random.below(1_000)} `);
  random.bytes(Math.floor(length / 3)).copy(bytes);
  return bytes;
}

test('frames of any size come back from one context as they were', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  const compressor = new Compressor({ chunkSize: 64 * 1024, level: 1 });
  for (const length of [0, 1, 10, 3_000_000, 0, 65_536, 100_000, 17 << 20, 5]) {
    const raw = someBytes(random, length);
    const packed = Buffer.concat(await compressor.compress(raw));
    assert.ok(zstdDecompressSync(packed).equals(raw), `${length} bytes`);
  }
});

test('a block that is damaged in any way is refused, and those after it are read', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  const raw = someBytes(random, 65_536);
  const block = await packBlock(sha256(raw), raw);
  const bytes = Buffer.from(block.data.buffer);
  const other = Buffer.from(bytes);
  const at = random.below(other.length);
  other[at] = (other[at] ?? 0) ^ (1 + random.below(255));
  const cut = new Binary(bytes.subarray(0, random.below(bytes.length)));
  const damaged = [
    { ...block, data: cut },
    { ...block, data: new Binary(other) },
    { ...block, size: 10 },
    { ...block, size: raw.length + 1 },
    // Four bytes of it for each 128 KiB that come out.
    { ...block, data: new Binary(zstdCompressSync(Buffer.alloc(50_000_000))) },
  ];
  for (const [n, one] of damaged.entries()) {
    assert.ok((await unpackBlock(one)) === undefined, `damage ${n}`);
    assert.ok((await unpackBlock(block))?.equals(raw), `the block after damage ${n}`);
  }
  // What is behind the end of a frame is left in the context.
  const trailing = { ...block, data: new Binary(Buffer.concat([bytes, bytes.subarray(0, 30)])) };
  assert.ok((await unpackBlock(trailing))?.equals(raw));
  assert.ok((await unpackBlock(block))?.equals(raw), 'the block after one with bytes behind its end');
});

test('blocks of any size that are read beside each other come back as they were', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  const blocks = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const raw = someBytes(random, random.below(4) === 0 ? 1 + random.below(65_536) : 65_536);
      return { raw, block: await packBlock(sha256(raw), raw) };
    }),
  );
  const read = await Promise.all(blocks.map(({ block }) => unpackBlock(block)));
  // Compared when all are read: none may be written over by a later one.
  for (const [n, raw] of read.entries()) assert.ok(raw?.equals(blocks[n]?.raw ?? Buffer.alloc(0)), `block ${n}`);
});

test('memory that is released is gone, and the pool that small buffers share stays', () => {
  const large = Buffer.allocUnsafe(1 << 20);
  release(large.subarray(5, 100));
  assert.equal(large.length, 0);
  const small = Buffer.from('a small one');
  release(small);
  assert.equal(small.toString(), 'a small one');
});
