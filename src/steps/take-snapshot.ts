/** Step: cut the head, held still at an exact optime, into blocks, and commit them as a snapshot. */
import type { LockedHead } from '../head/types.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { SnapshotSummary } from '../shared/messages.ts';
import type { Optime } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { MemberRecord } from '../stores/records.ts';
import type { StepContext } from './context.ts';

/** The part of a head's owner that a snapshot needs. */
export interface LockableHead {
  /** Waits until every entry up to `minimum` is applied and holds the head still there or later. */
  lock(minimum: Optime, signal: AbortSignal): Promise<LockedHead>;
}

export interface SnapshotParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: LockableHead;
  readonly deployment: string;
  readonly member: string;
  readonly source: MemberRecord['source'];
  /** Id of this daemon. */
  readonly daemon: string;
}

/**
 * Takes a snapshot at an optime at or after `minimum`. Run again after any failure it takes a new one, which finds the
 * blocks that are already stored.
 * @throws LifeboatError `SnapshotLockLost`, `FenceLost`, `HeadLost`, `StoreUnavailable`, `StoreFull` (all retryable)
 */
export async function takeSnapshot(
  ctx: StepContext,
  parts: SnapshotParts,
  { minimum }: { readonly minimum: Optime },
): Promise<SnapshotSummary> {
  void [ctx, parts, minimum];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'snapshots cannot be taken yet'));
}
