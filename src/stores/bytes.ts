/** Bytes in the stores: compressed, hashed, cut into parts that fit a record (design decision 1). */
import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdDecompress } from 'node:zlib';
import { Binary, ObjectId, type Collection } from 'mongodb';
import { release } from '../shared/memory.ts';
import type { PartRecord, StoredBytes } from './records.ts';
import { Compressors } from './zstd.ts';

const decompress = promisify(zstdDecompress);

/** Largest piece of bytes in one record; a 16 MB incompressible document does not fit a record otherwise. */
export const PART_BYTES = 8 * 1024 * 1024;

/** The fastest zstd level that still halves text: the sync is bound by the processor, not by the store. */
const LEVEL = 1;

/** SHA-256 of the bytes. */
export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

const compressors = new Compressors({ chunkSize: 1024 * 1024, level: LEVEL });

/** @param rawBytes how many bytes are to come out; more are refused */
async function unzstd(bytes: Uint8Array, rawBytes: number): Promise<Buffer> {
  // With one more there is room left at the end: else zlib makes as much again, for nothing.
  const room = Math.max(rawBytes + 1, constants.Z_MIN_CHUNK);
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
  const packed = Buffer.concat(await compressors.compress(raw));
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
  release(packed);
  return { ...common, parts: { id: of, count } };
}

/** Frees the bytes of a record that is stored, if they are large. */
export function releaseStored({ inline }: StoredBytes): void {
  if (inline) release(inline.buffer);
}

/**
 * The bytes before compression, or undefined when a part is missing or they do not match their hash. They are the caller's
 * alone.
 */
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
