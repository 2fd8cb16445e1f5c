/** Step: follow the source's oplog into the oplog store. */
import type { Arrivals } from '../oplogstore/arrivals.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import type { Source } from '../source/connect.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { StepContext } from './context.ts';

export interface TailOplogParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  /** Rung after each stored batch. */
  readonly arrivals: Arrivals;
}

export interface TailResult {
  /** The last stored entry; null while there is none. */
  readonly through: Position | null;
  /** How many this run stored. */
  readonly entries: number;
}

/** Follows for about `maxMs`. */
export async function tailOplog(
  ctx: StepContext,
  parts: TailOplogParts,
  limits: { readonly maxMs: number },
): Promise<TailResult> {
  void [ctx, parts, limits];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'the oplog cannot be followed yet'));
}
