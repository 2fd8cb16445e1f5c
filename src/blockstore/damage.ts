/**
 * Damage in the store: a block whose bytes are not the ones its `_id` names.
 *
 * Whoever finds one marks it. A marked block counts as not there for a snapshot: no claim reaches it and no parent
 * vouches for it, so the bytes that the head holds are stored in its place, for every snapshot that refers to it.
 * A block that is missing needs no mark: a snapshot asks whether the blocks of its parent are there.
 */
import type { Document, Filter } from 'mongodb';
import type { Stores } from '../stores/connect.ts';
import type { BlockRecord } from '../stores/records.ts';
import { hashKey, type PackedBlock } from './blocks.ts';

/** The condition that a block is not marked. */
export const SOUND: Filter<BlockRecord> & Document = { damaged: { $exists: false } };

/** What brings the right bytes back into a marked block, and takes mark and doom away. */
export function healing({ size, codec, data }: PackedBlock, lease: number): Document {
  return { $set: { size, codec, data }, $max: { claim: lease }, $unset: { damaged: 1, doom: 1 } };
}

/**
 * Marks blocks that were read and do not match their hash, each only if it still holds the very bytes that were read:
 * it may have been stored anew meanwhile. What cannot be marked, because the store may not be written to or is away, is
 * marked by the next who finds it.
 */
export async function markDamaged(stores: Stores, read: readonly PackedBlock[]): Promise<void> {
  if (read.length === 0) return;
  const marks = read.map(({ _id, size, codec, data }) => ({
    updateOne: { filter: { _id, size, codec, data, ...SOUND }, update: [{ $set: { damaged: '$$NOW' } }] },
  }));
  await stores.blocks.bulkWrite(marks, { ordered: false }).catch(() => undefined);
}

/** With more than this no parent is trusted: all blocks are claimed by their hashes, which asks about each. */
const MOST_KNOWN = 100_000;

/** The keys of all marked blocks, or `many` when they are too many to be kept in mind. */
export async function damagedBlocks(stores: Stores): Promise<ReadonlySet<string> | 'many'> {
  const found = await stores.blocks
    .find<Pick<BlockRecord, '_id'>>(
      { damaged: { $exists: true } },
      { projection: { _id: 1 }, hint: { damaged: 1, _id: 1 }, limit: MOST_KNOWN + 1 },
    )
    .toArray();
  return found.length > MOST_KNOWN ? 'many' : new Set(found.map(({ _id }) => hashKey(_id.buffer)));
}
