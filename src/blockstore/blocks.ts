/**
 * Blocks: pieces of files, named by the SHA-256 of their bytes.
 *
 * 64 KiB, one record each: WiredTiger rewrites pages of about 32 KB in place, and blocks of 1 MiB would store twice as
 * much of a changed file (research, baselines).
 */
import { Binary } from 'mongodb';
import { sha256 } from '../stores/bytes.ts';
import type { BlockRecord } from '../stores/records.ts';
import { Compressors, Decompressors } from '../stores/zstd.ts';
import { Gate } from './gate.ts';

export const BLOCK_BYTES = 64 * 1024;
export const HASH_BYTES = 32;

/** As many as the thread pool has threads. */
const threads = new Gate(4);

const LEVEL = 1;

/** Room for a whole block in one step of zlib, with what zstd may add to bytes that do not shrink. */
const CHUNK_BYTES = BLOCK_BYTES + 1024;

/** No block looks back further than its own beginning. */
const compressors = new Compressors({ chunkSize: 4 * CHUNK_BYTES, level: LEVEL, windowLog: Math.log2(BLOCK_BYTES) });

async function compress(raw: Buffer): Promise<Buffer> {
  const [only, ...more] = await threads.run(() => compressors.compress(raw));
  return only && more.length === 0 ? only : Buffer.concat(only ? [only, ...more] : []);
}

/** What of a BlockRecord follows from its bytes alone. */
export type PackedBlock = Pick<BlockRecord, '_id' | 'size' | 'codec' | 'data'>;

/** The record of a block, compressed on a thread of the pool; `raw` must not change until this resolves. */
export async function packBlock(hash: Uint8Array, raw: Buffer): Promise<PackedBlock> {
  const packed = await compress(raw);
  const common = { _id: new Binary(hash), size: raw.length };
  return packed.length < raw.length
    ? { ...common, codec: 'zstd', data: new Binary(packed) }
    : { ...common, codec: 'none', data: new Binary(raw) };
}

const decompressors = new Decompressors(BLOCK_BYTES);

/** The bytes of a block, or undefined when they are not the ones its `_id` names. */
export async function unpackBlock({ _id, size, codec, data }: PackedBlock): Promise<Buffer | undefined> {
  const { buffer } = data;
  const isRight = (raw: Buffer): boolean => raw.length === size && sha256(raw).equals(_id.buffer);
  if (codec === 'zstd') return threads.run(() => decompressors.decompress(buffer, isRight));
  const raw = Buffer.from(buffer.buffer, buffer.byteOffset, data.length());
  return isRight(raw) ? raw : undefined;
}

/** A hash as a key of a Map or Set. */
export function hashKey(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, HASH_BYTES).toString('latin1');
}
