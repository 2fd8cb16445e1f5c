/** All hashes, a range at a time, so that what is known of each fits into memory. */
import { HASH_BYTES } from './blocks.ts';

/** A part of all hashes: those whose first four bytes are in it. */
export interface HashRange {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

const SPACE = 2 ** 32;

/** Ranges that hold about `rangeBlocks` of `blocks` hashes each. Hashes are spread evenly. */
export function hashRanges(blocks: number, rangeBlocks: number): readonly HashRange[] {
  const count = Math.max(1, Math.ceil(blocks / rangeBlocks));
  return Array.from({ length: count }, (_, n) => ({
    from: Math.floor((SPACE * n) / count),
    to: Math.floor((SPACE * (n + 1)) / count),
  }));
}

/** Offsets in `hashes`, one behind the other, of those that are in the range. */
export function* placesIn({ from, to }: HashRange, hashes: Buffer): Generator<number, void, void> {
  for (let at = 0; at + HASH_BYTES <= hashes.length; at += HASH_BYTES) {
    const first = hashes.readUInt32BE(at);
    if (first >= from && first < to) yield at;
  }
}
