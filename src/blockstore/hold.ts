/** Holds: a snapshot that is held is not deleted by anybody, until the hold is taken back. */
import { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord } from '../stores/records.ts';
import { IS_SNAPSHOT } from './manifest.ts';

/**
 * Holds a snapshot, or, held already, changes the reason.
 * @throws LifeboatError `UnknownSnapshot`, also of one that is being deleted; `PurgeUnderWay`; `StoreUnavailable` (retryable)
 */
export async function holdSnapshot(stores: Stores, snapshot: string, reason: string | null): Promise<void> {
  const run = new ObjectId();
  const hold = { reason: { $literal: reason }, since: { $ifNull: ['$hold.since', '$$NOW'] }, run };
  const before = await changed(stores, snapshot, [{ $set: { hold } }]);
  // A purge marks the deployment, and looks for holds after that: of the two one gives way.
  const purging = { _id: before.deployment, 'purge.run': { $exists: true } };
  if (!(await holding(snapshot, () => stores.deployments.findOne(purging, { projection: { _id: 1 } })))) return;
  const own = { _id: snapshot, 'hold.run': run };
  // One that was there before stands, and whoever purges has seen it, or never will.
  if (!before.hold) await holding(snapshot, () => stores.manifests.updateOne(own, { $unset: { hold: 1 } }));
  throw new LifeboatError('PurgeUnderWay', `all that is stored of ${before.deployment} is being removed`);
}

/**
 * Takes a hold back; of one that is not held there is nothing to take back.
 * @throws LifeboatError `UnknownSnapshot`; `StoreUnavailable` (retryable)
 */
export async function releaseSnapshot(stores: Stores, snapshot: string): Promise<void> {
  await changed(stores, snapshot, [{ $unset: 'hold' }]);
}

/** The snapshot as it was before the change. */
async function changed(
  stores: Stores,
  snapshot: string,
  change: object[],
): Promise<Pick<ManifestRecord, 'deployment' | 'hold'>> {
  const projection = { deployment: 1, hold: 1 };
  const found = await holding(snapshot, () =>
    stores.manifests.findOneAndUpdate({ _id: snapshot, ...IS_SNAPSHOT }, change, {
      projection,
      returnDocument: 'before',
    }),
  );
  if (!found) throw new LifeboatError('UnknownSnapshot', `there is no snapshot ${snapshot}`);
  return found;
}

async function holding<T>(snapshot: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castDriverError(error, 'store', `holding snapshot ${snapshot}`);
  }
}
