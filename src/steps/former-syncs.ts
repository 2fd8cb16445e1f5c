/** Entries of initial syncs that were replaced: kept while the window reaches back to them, so that a resync costs no moment. */
import type { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition } from '../mongo/positions.ts';
import { endOfChain } from '../oplogstore/batches.ts';
import { removeChain } from '../oplogstore/remove.ts';
import { earlierPosition, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import type { ManifestRecord } from '../stores/records.ts';

/**
 * Removes those that the window does not reach back to any more, and that no restore reads. By the source's clock, which
 * is that of the window's begin.
 * @throws LifeboatError `FenceLost`, `StoreUnavailable` (retryable); the signal's reason when it is aborted
 */
export async function removeFormer(
  stores: Stores,
  fence: MemberFence,
  windowMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { deployment, former = [] } = await readMember(stores, fence);
  if (former.length === 0) return;
  const begin = (await stores.now()).getTime() - windowMs;
  for (const { incarnation } of former) {
    const end = await endOfChain(stores, incarnation);
    if (end && windowMs > 0 && end.ts.t * 1000 >= begin) continue;
    if (await entriesBeingRead(stores, deployment, incarnation)) continue;
    try {
      await removeChain(stores, incarnation, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw castDriverError(error, 'store', `removing entries of ${fence.key} from before its resync`);
    }
    // Read again: of two of them each takes its own away.
    const { former: left = [] } = await readMember(stores, fence);
    await updateMember(stores, fence, { former: left.filter((one) => !one.incarnation.equals(incarnation)) });
  }
}

/**
 * For how long a restore that is not at work keeps the entries that it needs, in milliseconds. It is tried again every half
 * minute; one whose workflow was ended by force never is, and nobody writes that.
 */
const WAITS_MS = 24 * 3_600_000;

/** The first entry of an initial sync that a restore under way may still read, or undefined while there is no restore. */
export async function entriesBeingRead(
  stores: Stores,
  deployment: string,
  incarnation: ObjectId,
): Promise<Position | undefined> {
  try {
    // The holder of one that has expired stops by itself, and nobody may ever write its end.
    const alive = { revoked: false, $expr: { $gt: ['$expiresAt', '$$NOW'] } };
    const leases = await stores.leases.find({ deployment, purpose: 'restore', ...alive }).toArray();
    // One that waits for its next try has no lease.
    const seenAt = { $gt: new Date((await stores.now()).getTime() - WAITS_MS) };
    const waiting = await stores.restores
      .find({ deployment, state: 'running', until: { $exists: true }, seenAt })
      .toArray();
    const ids = [...leases, ...waiting].flatMap(({ snapshot }) => (snapshot === null ? [] : [snapshot]));
    if (ids.length === 0) return undefined;
    const read = await stores.manifests
      .find({ _id: { $in: ids }, incarnation })
      .project<Pick<ManifestRecord, 'oplogFrom'>>({ oplogFrom: 1 })
      .toArray();
    return read
      .map(({ oplogFrom }) => fromStoredPosition(oplogFrom))
      .reduce<Position | undefined>((first, one) => (first ? earlierPosition(first, one) : one), undefined);
  } catch (error) {
    throw castDriverError(error, 'store', `looking for restores of ${deployment}`);
  }
}
