/** Step: build the head of a member from the slices of its initial sync, while they are still being stored. */
import type { HeadOwner } from '../head/owner.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { StepContext } from './context.ts';

export interface BuildParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
}

/**
 * Creates the collections and loads the slices that there are, for at most `maxMs` milliseconds. Finished when every
 * slice of every collection is loaded; the head is then `catching-up`.
 * @throws LifeboatError `SliceDamaged`, `SliceMissing`; `HeadLost`, `DiskFull`, `StoreUnavailable` (retryable)
 */
export async function buildHead(
  ctx: StepContext,
  parts: BuildParts,
  { maxMs }: { readonly maxMs: number },
): Promise<{ readonly finished: boolean }> {
  void [ctx, parts, maxMs];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'heads cannot be built yet'));
}
