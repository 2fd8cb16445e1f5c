/** A head that holds nothing where a step expects data: its directory is gone, or another was put in its place. */
import { LifeboatError } from '../shared/errors.ts';
import type { MemberFence } from '../stores/members.ts';
import type { SyncPlan } from '../stores/records.ts';

/**
 * What that means: `HeadUnfinished` while the slices to build it from are stored, so that the sync goes back to building
 * it; `HeadMissing` when it was whole before, and the slices are gone.
 */
export function unloadedHead({ key }: MemberFence, sync: Pick<SyncPlan, 'stage'> | null): LifeboatError {
  return sync?.stage === 'validated'
    ? new LifeboatError('HeadMissing', `the head of ${key} holds nothing any more`)
    : new LifeboatError('HeadUnfinished', `the head of ${key} is not loaded`);
}
