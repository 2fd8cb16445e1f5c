/** Step: copy the collections of a source into slices. */
import { LifeboatError } from '../shared/errors.ts';
import type { Source } from '../source/connect.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { StepContext } from './context.ts';

export interface CopySourceParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  /** How many collections are copied at a time. */
  readonly slicesInFlight: number;
  /** Raw BSON in one slice, about; 10 MB when left out. */
  readonly sliceBytes?: number;
}

export interface CopyResult {
  /** True when all collections are copied and the plan has its stop. */
  readonly finished: boolean;
  readonly slicesStored: number;
  /** Before compression. */
  readonly bytesStored: number;
}

/** Copies for at most about `maxMs`. */
export async function copySource(
  ctx: StepContext,
  parts: CopySourceParts,
  limits: { readonly maxMs: number },
): Promise<CopyResult> {
  void [ctx, parts, limits];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'collections cannot be copied yet'));
}
