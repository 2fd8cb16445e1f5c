/** Removing the whole chain of an incarnation that was given up. */
import type { ObjectId } from 'mongodb';
import type { Stores } from '../stores/connect.ts';
import type { BatchRecord } from '../stores/records.ts';

/** Deleted at a time, so that a long chain is no single huge write and a cancellation is soon obeyed. */
const BITE = 500;

/** Run again after any failure it goes on. @throws the driver's errors, and the signal's reason when it is aborted */
export async function removeChain(stores: Stores, incarnation: ObjectId, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const ids = await stores.batches
      .find({ '_id.incarnation': incarnation })
      .project<Pick<BatchRecord, '_id'>>({ _id: 1 })
      .limit(BITE)
      .toArray();
    if (ids.length === 0) break;
    await stores.batches.deleteMany({ _id: { $in: ids.map(({ _id }) => _id) } });
  }
  await stores.batchParts.deleteMany({ incarnation });
}
