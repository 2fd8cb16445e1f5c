/** Reading blocks: every one is checked against its hash before anybody sees it. */
import { Binary } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import { hashKey, unpackBlock, type PackedBlock } from './blocks.ts';
import { markDamaged } from './damage.ts';
import type { BlockPlace } from './manifest.ts';
import { whileStoreReturns } from './retry.ts';

/** 4 MiB of raw blocks to a query. */
export const BLOCKS_AT_ONCE = 64;
export const READS_IN_FLIGHT = 5;

/**
 * The bytes of each place, in the order asked for; in the stead of one that cannot be had, a `BlockMissing` or
 * `BlockDamaged` that names snapshot, file and offset. Damaged ones are marked, so that the next snapshot mends them.
 */
export async function readBlocks(
  stores: Stores,
  snapshot: string,
  places: readonly BlockPlace[],
  signal: AbortSignal,
): Promise<readonly (Buffer | LifeboatError)[]> {
  const wanted = new Map(places.map(({ hash }) => [hashKey(hash), new Binary(hash)]));
  const found = await whileStoreReturns(signal, `reading blocks of snapshot ${snapshot}`, () =>
    stores.blocks
      .find<PackedBlock>({ _id: { $in: [...wanted.values()] } }, { batchSize: wanted.size + 1, signal })
      .toArray(),
  );
  const raw = new Map<string, Buffer | 'damaged'>();
  await Promise.all(
    found.map(async (block) => raw.set(hashKey(block._id.buffer), (await unpackBlock(block)) ?? 'damaged')),
  );
  await markDamaged(
    stores,
    found.filter((block) => raw.get(hashKey(block._id.buffer)) === 'damaged'),
  );
  return places.map((place) => {
    const bytes = raw.get(hashKey(place.hash));
    if (bytes === undefined) return unreadable('BlockMissing', snapshot, place, 'is missing');
    if (bytes === 'damaged' || bytes.length !== place.bytes) {
      return unreadable('BlockDamaged', snapshot, place, 'does not match its hash');
    }
    return bytes;
  });
}

function unreadable(
  kind: 'BlockMissing' | 'BlockDamaged',
  snapshot: string,
  { path, offset, hash }: BlockPlace,
  how: string,
): LifeboatError {
  const block = hash.toString('hex').slice(0, 16);
  return new LifeboatError(kind, `block ${block} of snapshot ${snapshot}, at ${offset} of file ${path}, ${how}`);
}
