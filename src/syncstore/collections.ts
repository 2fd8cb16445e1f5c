/** What a sync copies: the listed collections and views, and how far each collection is. */
import { type Binary, type AnyBulkWriteOperation, type ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { SyncCollectionRecord, SyncViewRecord } from '../stores/records.ts';

/** Everything that the head is made from, in the order of database and name. */
export interface SyncListing {
  readonly collections: readonly SyncCollectionRecord[];
  readonly views: readonly SyncViewRecord[];
}

/** How many records one write to the store takes. */
const WRITE_BATCH = 500;

async function storing<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castDriverError(error, 'store', what);
  }
}

/**
 * The collections and views of a sync. Complete once the plan's stage is no longer `list`.
 * @param listing that of the plan; without one, all that was ever listed
 */
export async function listCollectionsToBuild(
  stores: Stores,
  incarnation: ObjectId,
  listing?: ObjectId,
): Promise<SyncListing> {
  return storing('reading the listed collections', async () => {
    const [collections, views] = await Promise.all([
      stores.syncCollections.find(listedIn(incarnation, listing)).toArray(),
      stores.syncViews.find(listedIn(incarnation, listing)).toArray(),
    ]);
    const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
    return {
      collections: collections.sort((a, b) => compare(a.db, b.db) || compare(a.name, b.name)),
      views: views.sort((a, b) => compare(a._id.db, b._id.db) || compare(a._id.name, b._id.name)),
    };
  });
}

function listedIn(incarnation: ObjectId, listing: ObjectId | undefined): object {
  return { '_id.incarnation': incarnation, ...(listing ? { listings: listing } : {}) };
}

/**
 * Stores a listing; what another one has listed stays, and how far it is.
 *
 * A twin that was stopped may store its own at any time, even when all is copied: the plan says which of them counts, so
 * that nothing is ever taken away, begun anew or waited for by it. Any listing made after beginApplying is as good as
 * another, since what was made or dropped between two of them is made or dropped by entries.
 * @param listing made up for it
 */
export async function saveListing(
  stores: Stores,
  { collections, views }: SyncListing,
  listing: ObjectId,
): Promise<void> {
  await storing('storing the listed collections', async () => {
    for (const records of inBatches(collections)) {
      const writes = records.map((record) => listedBy<SyncCollectionRecord>(record, listing));
      await stores.syncCollections.bulkWrite(writes, { ordered: false });
    }
    for (const records of inBatches(views)) {
      const writes = records.map((record) => listedBy<SyncViewRecord>(record, listing));
      await stores.syncViews.bulkWrite(writes, { ordered: false });
    }
  });
}

function listedBy<T extends SyncCollectionRecord | SyncViewRecord>(
  { _id, listings: _, ...fields }: T,
  listing: ObjectId,
): AnyBulkWriteOperation<T> {
  const update = { $setOnInsert: fields, $addToSet: { listings: listing } };
  return { updateOne: { filter: { _id }, update, upsert: true } } as unknown as AnyBulkWriteOperation<T>;
}

function* inBatches<T>(records: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < records.length; at += WRITE_BATCH) yield records.slice(at, at + WRITE_BATCH);
}

/** What became of a collection. */
export interface CollectionOutcome {
  readonly uuid: Binary;
  readonly state: 'done' | 'dropped';
  readonly documents: number;
  readonly bytes: number;
}

/** Notes what became of collections. Said again it says the same. */
export async function saveOutcomes(
  stores: Stores,
  incarnation: ObjectId,
  outcomes: readonly CollectionOutcome[],
): Promise<void> {
  await storing('storing the state of collections', async () => {
    for (const batch of inBatches(outcomes)) {
      const writes = batch.map(({ uuid, ...fields }) => ({
        updateOne: { filter: { _id: { incarnation, uuid }, state: 'pending' as const }, update: { $set: fields } },
      }));
      await stores.syncCollections.bulkWrite(writes, { ordered: false });
    }
  });
}

/** The collections of a listing, or of all, that are not copied yet. */
export async function pendingCollections(
  stores: Stores,
  incarnation: ObjectId,
  listing?: ObjectId,
): Promise<Pick<SyncCollectionRecord, '_id' | 'db' | 'name'>[]> {
  return storing('reading the listed collections', () =>
    stores.syncCollections
      .find({ ...listedIn(incarnation, listing), state: 'pending' })
      .project<Pick<SyncCollectionRecord, '_id' | 'db' | 'name'>>({ _id: 1, db: 1, name: 1 })
      .sort({ _id: 1 })
      .toArray(),
  );
}

/** Those of the collections that have slices already, as hex. */
export async function collectionsWithSlices(
  stores: Stores,
  incarnation: ObjectId,
  uuids: readonly Binary[],
): Promise<ReadonlySet<string>> {
  return storing('reading the slices of a sync', async () => {
    const begun = new Set<string>();
    for (const batch of inBatches(uuids)) {
      const found = await stores.slices
        .find({ '_id.incarnation': incarnation, '_id.uuid': { $in: [...batch] }, '_id.seq': 0 })
        .project<{ _id: { uuid: Binary } }>({ '_id.uuid': 1 })
        .toArray();
      for (const { _id } of found) begun.add(_id.uuid.toString('hex'));
    }
    return begun;
  });
}
