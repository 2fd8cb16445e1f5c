/** Removing what an incarnation of a member that was given up left in the stores; reports of validations stay, and entries for a while. */
import { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import type { StepContext } from '../steps/context.ts';
import { removeChain } from '../oplogstore/remove.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import { removeSync } from '../syncstore/remove.ts';
import { giveUpValidations } from '../validation/log.ts';

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
  const { former = [] } = await readMember(stores, fence);
  const given = ObjectId.createFromHexString(incarnation);
  if (given.equals(fence.incarnation)) return;
  await removeSync(stores, given);
  try {
    await giveUpValidations(stores, given);
    await stores.rotations.deleteOne({ _id: given });
    // What the window reaches back to goes when that is over (src/steps/former-syncs.ts).
    if (!former.some((one) => one.incarnation.equals(given))) await removeChain(stores, given, ctx.signal);
  } catch (error) {
    throw castDriverError(error, 'store', `removing stored entries of ${fence.key}`);
  }
}
