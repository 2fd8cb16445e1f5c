/** Removing a sync that is validated or was given up. */
import type { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import type { Stores } from '../stores/connect.ts';

/**
 * Removes all that the sync store holds of an incarnation. It may be interrupted at any place and run again. The listing
 * goes last: while it is there, it says that slices may be.
 */
export async function removeSync(stores: Stores, incarnation: ObjectId): Promise<void> {
  try {
    await stores.slices.deleteMany({ '_id.incarnation': incarnation });
    await stores.sliceParts.deleteMany({ incarnation });
    await stores.syncViews.deleteMany({ '_id.incarnation': incarnation });
    await stores.syncCollections.deleteMany({ '_id.incarnation': incarnation });
  } catch (error) {
    throw castDriverError(error, 'store', 'removing the slices of a sync');
  }
}
