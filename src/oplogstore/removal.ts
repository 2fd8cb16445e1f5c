/** Removing stored entries that nobody needs any more. */
import type { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { toTimestamp } from '../mongo/positions.ts';
import { minOptime, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import type { BatchRecord } from '../stores/records.ts';
import { endOfChain } from './batches.ts';

/** How many batches go at a time: at 8 MB each, a write that takes longer holds others up. */
const BITE = 32;

type Doomed = Pick<BatchRecord, 'last'> & { readonly bytes: Pick<BatchRecord['bytes'], 'parts'> };

/**
 * Removes the batches that end before `keepFrom`, oldest first, so that what is left is one unbroken chain at every
 * moment. The newest batch stays: it is the position of the stream. Runs beside readers and writers of the chain.
 * @param keepFrom see keepEntriesFrom
 * @returns how many batches went
 */
export async function removeApplied(stores: Stores, incarnation: ObjectId, keepFrom: Position): Promise<number> {
  const end = await endOfChain(stores, incarnation);
  if (!end) return 0;
  const before = toTimestamp(minOptime(keepFrom.ts, end.ts));
  try {
    for (let removed = 0; ;) {
      const bite = await stores.batches
        .find({ '_id.incarnation': incarnation, 'last.ts': { $lt: before } })
        .project<Doomed>({ last: 1, 'bytes.parts': 1 })
        .sort({ 'last.ts': 1 })
        .limit(BITE)
        .toArray();
      await removeBite(stores, incarnation, bite);
      removed += bite.length;
      if (bite.length < BITE) return removed;
    }
  } catch (error) {
    throw castDriverError(error, 'store', 'removing stored oplog entries');
  }
}

/** Parts first: a crash in between leaves records that are removed next time, not parts that nothing refers to. */
async function removeBite(stores: Stores, incarnation: ObjectId, bite: readonly Doomed[]): Promise<void> {
  const newest = bite.at(-1);
  if (!newest) return;
  const parts = bite.flatMap(({ bytes }) => (bytes.parts ? [bytes.parts.id] : []));
  if (parts.length > 0) await stores.batchParts.deleteMany({ '_id.of': { $in: parts }, incarnation });
  await stores.batches.deleteMany({ '_id.incarnation': incarnation, 'last.ts': { $lte: newest.last.ts } });
}
