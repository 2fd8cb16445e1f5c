/** Bytes in the stores: compressed, hashed, cut into parts that fit a record (design decision 1). */
import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { Binary, ObjectId, type Collection } from 'mongodb';
import type { PartRecord, StoredBytes } from './records.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Largest piece of bytes in one record; a 16 MB incompressible document does not fit a record otherwise. */
export const PART_BYTES = 8 * 1024 * 1024;

/** The fastest zstd level that still halves text: the sync is bound by the processor, not by the store. */
const LEVEL = 1;

/** SHA-256 of the bytes. */
export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

/** zstd with `level`, on a thread of the pool. */
export async function zstd(bytes: Uint8Array, level = LEVEL): Promise<Buffer> {
  return compress(bytes, { params: { [constants.ZSTD_c_compressionLevel]: level } });
}

export async function unzstd(bytes: Uint8Array): Promise<Buffer> {
  return decompress(bytes);
}

/**
 * Compresses `raw`; whatever does not fit one record goes into `parts` first. Until a record holds what this returns,
 * nothing refers to those parts.
 */
export async function storeBytes(
  parts: Collection<PartRecord>,
  incarnation: ObjectId,
  raw: Buffer,
): Promise<StoredBytes> {
  const packed = await zstd(raw);
  const common = {
    codec: 'zstd' as const,
    rawBytes: raw.length,
    storedBytes: packed.length,
    sha256: new Binary(sha256(raw)),
  };
  if (packed.length <= PART_BYTES) return { ...common, inline: new Binary(packed) };
  const of = new ObjectId();
  const count = Math.ceil(packed.length / PART_BYTES);
  for (let n = 0; n < count; n += 1) {
    const data = new Binary(packed.subarray(n * PART_BYTES, (n + 1) * PART_BYTES));
    await parts.insertOne({ _id: { of, n }, data, incarnation });
  }
  return { ...common, parts: { id: of, count } };
}

/** The bytes before compression, or undefined when a part is missing or they do not match their hash. */
export async function loadBytes(parts: Collection<PartRecord>, stored: StoredBytes): Promise<Buffer | undefined> {
  const packed = await packedBytes(parts, stored);
  if (!packed) return undefined;
  try {
    const raw = await unzstd(packed);
    return raw.length === stored.rawBytes && sha256(raw).equals(stored.sha256.buffer) ? raw : undefined;
  } catch {
    // zstd refuses what is not its own: damage, like a wrong hash.
    return undefined;
  }
}

async function packedBytes(parts: Collection<PartRecord>, stored: StoredBytes): Promise<Uint8Array | undefined> {
  if (stored.inline) return stored.inline.buffer;
  if (!stored.parts) return undefined;
  const { id, count } = stored.parts;
  const pieces: Uint8Array[] = [];
  for (let n = 0; n < count; n += 1) {
    const part = await parts.findOne({ _id: { of: id, n } });
    if (!part) return undefined;
    pieces.push(part.data.buffer);
  }
  return Buffer.concat(pieces);
}
