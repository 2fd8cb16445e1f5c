/** Step: read every block of a snapshot and check it against its hash. */
import { LifeboatError } from '../shared/errors.ts';
import type { VerifyResult } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { StepContext } from './context.ts';

export interface VerifyParts {
  readonly stores: Stores;
  /** Id of this daemon. */
  readonly daemon: string;
}

/**
 * Reads all of a snapshot. Damage is a result, not an error: each problem (at most 100) names snapshot, file and offset.
 * @throws LifeboatError `UnknownSnapshot`; `StoreUnavailable`, `FenceLost` (retryable)
 */
export async function verifySnapshot(
  ctx: StepContext,
  parts: VerifyParts,
  { snapshot }: { readonly snapshot: string },
): Promise<VerifyResult> {
  void [ctx, parts, snapshot];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'snapshots cannot be verified yet'));
}
