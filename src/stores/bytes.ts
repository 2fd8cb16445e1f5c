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

/** zstd, on a thread of the pool, in one step: in the default steps of 16 KiB it takes a third as much processor time again. */
async function zstd(bytes: Uint8Array): Promise<Buffer> {
  // ZSTD_compressBound (zstd.h): what does not shrink grows by less than this.
  const chunkSize = bytes.length + (bytes.length >> 8) + 128;
  return compress(bytes, { chunkSize, params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
}

/** @param rawBytes how many bytes are to come out; more are refused */
async function unzstd(bytes: Uint8Array, rawBytes: number): Promise<Buffer> {
  const room = Math.max(rawBytes, constants.Z_MIN_CHUNK);
  return decompress(bytes, { chunkSize: room, maxOutputLength: room });
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
    const raw = await unzstd(packed, stored.rawBytes);
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
