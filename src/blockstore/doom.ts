/**
 * Deleting blocks beside snapshots that go on (design decision 10).
 *
 * A block is doomed by a conditional write, with a number that is drawn from the counter of leases, and only where no newer
 * lease has claimed it. Whoever claims a block takes its doom away in the same write. Every lease older than the doom is
 * waited for: what such a lease claimed before the doom it may commit after it, so manifests are read again then. What
 * still has its doom is deleted by (hash, doom).
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Binary, ClientSession } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';

/** Whoever dooms: its stores, a causally consistent session, and what ends it. */
export interface DoomParts {
  readonly stores: Stores;
  readonly session: ClientSession;
  readonly signal: AbortSignal;
}

const LOOK_EVERY_MS = 1_000;

/** A number that is newer than every lease there is. */
export async function nextDoom({ stores, session }: Omit<DoomParts, 'signal'>): Promise<number> {
  const counter = await stores.counters.findOneAndUpdate(
    { _id: 'leases' },
    { $inc: { value: 1 } },
    { upsert: true, returnDocument: 'after', session },
  );
  if (!counter) throw new LifeboatError('Internal', 'the counter of leases gave no number');
  return counter.value;
}

/** Dooms those that no newer lease has claimed. */
export async function doomBlocks({ stores, session }: DoomParts, ids: readonly Binary[], doom: number): Promise<void> {
  const filter = { _id: { $in: [...ids] }, claim: { $lt: doom } };
  await stores.blocks.updateMany(filter, { $set: { doom } }, { session });
}

/** Takes a doom back. */
export async function spareBlocks({ stores, session }: DoomParts, ids: readonly Binary[], doom: number): Promise<void> {
  const filter = { _id: { $in: [...ids] }, doom };
  await stores.blocks.updateMany(filter, { $unset: { doom: 1 } }, { session });
}

/** Deletes those that still have their doom; how many, and their bytes as they were stored. */
export async function deleteDoomed(
  { stores, session }: DoomParts,
  ids: readonly Binary[],
  doom: number,
): Promise<{ readonly blocks: number; readonly bytes: number }> {
  const filter = { _id: { $in: [...ids] }, doom };
  const bytes = await storedBytesOf(stores, session, filter);
  const { deletedCount } = await stores.blocks.deleteMany(filter, { session });
  return { blocks: deletedCount, bytes };
}

/**
 * Resolves once no lease is left that is older than the doom. Only a write ends a lease: one that has expired is revoked.
 * @param tell what is waited for, once a second
 */
export async function untilLeasesEnd(
  { stores, session, signal }: DoomParts,
  doom: number,
  tell: (what: string) => void,
): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    await stores.leases.updateMany(
      { _id: { $lt: doom }, revoked: false, $expr: { $lt: ['$expiresAt', '$$NOW'] } },
      { $set: { revoked: true } },
      { session },
    );
    const oldest = await stores.leases.findOne({ _id: { $lt: doom }, revoked: false }, { session });
    if (!oldest) return;
    tell(`waits for a ${oldest.purpose} of ${oldest.deployment} on ${oldest.daemon}`);
    await delay(LOOK_EVERY_MS, undefined, { signal });
  }
}

/** Bytes of the blocks that match, as they are stored. */
export async function storedBytesOf(
  stores: Stores,
  session: ClientSession | undefined,
  filter: object,
): Promise<number> {
  const [sum] = await stores.blocks
    .aggregate<{ bytes: number }>(
      [{ $match: filter }, { $group: { _id: null, bytes: { $sum: { $binarySize: '$data' } } } }],
      session ? { session } : {},
    )
    .toArray();
  return sum?.bytes ?? 0;
}
