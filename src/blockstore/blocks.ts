/**
 * Blocks: pieces of files, named by the SHA-256 of their bytes.
 *
 * 64 KiB, one record each: WiredTiger rewrites pages of about 32 KB in place, and blocks of 1 MiB would store twice as
 * much of a changed file (research, baselines).
 */
import { promisify } from 'node:util';
import { constants, createZstdCompress, zstdDecompress } from 'node:zlib';
import { Binary } from 'mongodb';
import { sha256 } from '../stores/bytes.ts';
import type { BlockRecord } from '../stores/records.ts';
import { Gate } from './gate.ts';

export const BLOCK_BYTES = 64 * 1024;
export const HASH_BYTES = 32;

const decompress = promisify(zstdDecompress);

/** As many as the thread pool has threads. */
const threads = new Gate(4);

const LEVEL = 1;
/** Room for a whole block in one step of zlib, with what zstd may add to bytes that do not shrink. */
const CHUNK_BYTES = BLOCK_BYTES + 1024;

/**
 * A zstd context that makes one frame after the other. A new context for each block takes half as much processor time
 * again, most of it in the collection of garbage.
 */
class Compressor {
  readonly #zstd = createZstdCompress({
    chunkSize: 4 * CHUNK_BYTES,
    params: {
      [constants.ZSTD_c_compressionLevel]: LEVEL,
      // No block looks back further than its own beginning.
      [constants.ZSTD_c_windowLog]: Math.log2(BLOCK_BYTES),
      // Every block is checked against its SHA-256: a checksum inside only takes time.
      [constants.ZSTD_c_checksumFlag]: 0,
    },
  });
  #output: Buffer[] = [];

  constructor() {
    this.#zstd.on('data', (piece: Buffer) => this.#output.push(piece));
  }

  async compress(raw: Buffer): Promise<Buffer> {
    this.#output = [];
    await new Promise<void>((settle, fail) => {
      this.#zstd.once('error', fail);
      this.#zstd.write(raw);
      this.#zstd.flush(constants.ZSTD_e_end, () => {
        this.#zstd.off('error', fail);
        settle();
      });
    });
    const [only, ...more] = this.#output;
    return only && more.length === 0 ? only : Buffer.concat(this.#output);
  }
}

const idle: Compressor[] = [];

async function compress(raw: Buffer): Promise<Buffer> {
  return threads.run(async () => {
    const compressor = idle.pop() ?? new Compressor();
    const packed = await compressor.compress(raw);
    idle.push(compressor);
    return packed;
  });
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

/** The bytes of a block, or undefined when they are not the ones its `_id` names. */
export async function unpackBlock(block: PackedBlock): Promise<Buffer | undefined> {
  const raw = await rawBytes(block);
  return raw?.length === block.size && sha256(raw).equals(block._id.buffer) ? raw : undefined;
}

async function rawBytes({ codec, data }: PackedBlock): Promise<Buffer | undefined> {
  const { buffer } = data;
  if (codec === 'none') return Buffer.from(buffer.buffer, buffer.byteOffset, data.length());
  try {
    return await threads.run(() => decompress(buffer, { chunkSize: CHUNK_BYTES, maxOutputLength: BLOCK_BYTES }));
  } catch {
    // zstd refuses what is not its own: damage, like a wrong hash.
    return undefined;
  }
}

/** A hash as a key of a Map or Set. */
export function hashKey(hash: Uint8Array): string {
  return Buffer.from(hash.buffer, hash.byteOffset, HASH_BYTES).toString('latin1');
}
