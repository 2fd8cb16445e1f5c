/** Removing what an incarnation of a member that was given up left in the stores; reports of validations stay. */
import { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import type { StepContext } from '../steps/context.ts';
import type { Stores } from '../stores/connect.ts';
import type { BatchRecord } from '../stores/records.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import { removeSync } from '../syncstore/remove.ts';
import { giveUpValidations } from '../validation/log.ts';

/** Deleted at a time, so that a long chain is no single huge write and a cancellation is soon obeyed. */
const BITE = 500;

/**
 * The newest claim is read first: what is removed is never the incarnation that is in use.
 * @throws LifeboatError `FenceLost`
 */
export async function discardIncarnation(
  ctx: StepContext,
  stores: Stores,
  fence: MemberFence,
  incarnation: string,
): Promise<void> {
  await readMember(stores, fence);
  const given = ObjectId.createFromHexString(incarnation);
  if (given.equals(fence.incarnation)) return;
  await removeSync(stores, given);
  try {
    await giveUpValidations(stores, given);
    await removeEntries(ctx, stores, given);
  } catch (error) {
    throw castDriverError(error, 'store', `removing stored entries of ${fence.key}`);
  }
}

async function removeEntries({ signal }: StepContext, stores: Stores, incarnation: ObjectId): Promise<void> {
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
