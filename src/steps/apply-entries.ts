/** Step: apply the stored oplog entries to the head, as they come, and remove what nothing needs any more. */
import type { HeadOwner } from '../head/owner.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { HeadPosition } from '../shared/messages.ts';
import type { Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { StepContext } from './context.ts';

export interface ApplyParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
  /** Tells that entries were stored by this process; others are found by looking. */
  readonly arrivals: { wait(signal: AbortSignal, timeoutMs: number): Promise<void> };
  /** How long applied entries are kept, in milliseconds: `pointInTime.window` of the deployment. */
  readonly windowMs: number;
}

export interface ApplyRequest {
  /** How long to go on, in milliseconds. */
  readonly maxMs: number;
  /** Nothing after it is applied, and the step ends when it is reached. */
  readonly until?: Position;
}

export interface ApplyResult {
  readonly position: HeadPosition;
  /** Every stored entry (up to `until`) is applied. */
  readonly caughtUp: boolean;
}

/**
 * @throws LifeboatError `UnknownEntry`, `EntryNotSupported`, `Diverged`, `EntriesMissing`, `EntriesDamaged`, `FenceLost`;
 *   `HeadLost`, `DiskFull`, `StoreUnavailable` (retryable)
 */
export async function applyEntries(ctx: StepContext, parts: ApplyParts, request: ApplyRequest): Promise<ApplyResult> {
  void [ctx, parts, request];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'entries cannot be applied yet'));
}
