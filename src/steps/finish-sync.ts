/** Step: at the stop point of an initial sync, make the head whole: indexes, views, nothing left over. */
import type { HeadOwner } from '../head/owner.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { StepContext } from './context.ts';

export interface FinishParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
}

/**
 * With the head at the plan's stop point: builds the indexes, makes the views, removes what the replay left over, marks
 * the head consistent and the plan validated, and removes the slices.
 * @throws LifeboatError `IndexBuildFailed`, `FenceLost`; `HeadLost`, `DiskFull`, `StoreUnavailable` (retryable)
 */
export async function finishSync(ctx: StepContext, parts: FinishParts): Promise<void> {
  void [ctx, parts];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'an initial sync cannot be finished yet'));
}
