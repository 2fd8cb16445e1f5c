/** Step: which snapshots of a deployment are kept, and for what. */
import { retainedOf } from '../blockstore/delete-snapshot.ts';
import { castDriverError } from '../mongo/errors.ts';
import { retentionOf, type Keep } from '../retention/plan.ts';
import type { RetentionPlan } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';

export interface RetentionTerms {
  readonly deployment: string;
  /** Null keeps all. */
  readonly keep: Keep | null;
  /** How far back every optime is to be restorable, in milliseconds. */
  readonly windowMs: number;
}

/** What there is by now, and what the terms say of it; changes nothing. */
export async function planRetention(stores: Stores, terms: RetentionTerms): Promise<RetentionPlan> {
  const { deployment, keep, windowMs } = terms;
  try {
    const retained = await retainedOf(stores, deployment);
    const optimes = new Map(retained.snapshots.map(({ id, optime }) => [id, optime]));
    const { snapshots } = retentionOf({ ...retained, keep, windowMs });
    return {
      deployment,
      keep,
      snapshots: snapshots.flatMap(({ id, keptFor }) => {
        const optime = optimes.get(id);
        return optime ? [{ id, optime, keptFor }] : [];
      }),
    };
  } catch (error) {
    throw castDriverError(error, 'store', `planning the retention of ${deployment}`);
  }
}
