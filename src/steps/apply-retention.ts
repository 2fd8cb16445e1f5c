/** Step: the snapshots of a deployment that nothing keeps, found and deleted. */
import { deleteSnapshot, finishDeletions, retainedOf } from '../blockstore/delete-snapshot.ts';
import { castDriverError } from '../mongo/errors.ts';
import { retentionOf, type Keep } from '../retention/plan.ts';
import { isLifeboatError } from '../shared/errors.ts';
import type { RetentionPlan, RetentionResult, RetentionView } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { StepContext } from './context.ts';

export interface RetentionTerms {
  readonly deployment: string;
  /** Null keeps all. */
  readonly keep: Keep | null;
  /** How far back every optime is to be restorable, in milliseconds. */
  readonly windowMs: number;
}

/** What is told of many snapshots through Temporal. */
const MOST_TOLD = 100;

/** What there is by now, and what the terms say of it; changes nothing. */
export async function viewRetention(stores: Stores, terms: RetentionTerms): Promise<RetentionView> {
  const { deployment, keep } = terms;
  try {
    const retained = await retainedOf(stores, deployment);
    const windowMs = Math.max(terms.windowMs, retained.windowMs);
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

/** As much of it as travels; changes nothing. */
export async function planRetention(stores: Stores, terms: RetentionTerms): Promise<RetentionPlan> {
  const { deployment, keep } = terms;
  const { going, kept } = await split(stores, terms);
  return { deployment, keep, kept, going: going.length, oldest: going.slice(0, MOST_TOLD) };
}

/**
 * Deletes, oldest first, what nothing keeps; one that is read or was pinned meanwhile stays for now. Run again it goes on.
 * @throws LifeboatError `StoreUnavailable` (retryable)
 */
export async function applyRetention(
  ctx: StepContext,
  stores: Stores,
  terms: RetentionTerms,
): Promise<RetentionResult> {
  const { deployment, keep, windowMs } = terms;
  const deletedIds = [...(await finishDeletions(stores, deployment))];
  const { going, kept } = await split(stores, terms);
  const skipped: { id: string; reason: string }[] = [];
  for (const [n, id] of going.entries()) {
    ctx.signal.throwIfAborted();
    const reason = await deleted(stores, { snapshot: id, windowMs });
    if (reason === undefined) deletedIds.push(id);
    else skipped.push({ id, reason });
    const done = n + 1;
    ctx.report({ stage: 'retention', done, total: going.length, unit: 'snapshots', perSecond: null, etaSeconds: null });
  }
  ctx.logger.info({ deployment, deleted: deletedIds.length, skipped: skipped.length, kept }, 'retention applied');
  return {
    ...{ deployment, keep, kept, deleted: deletedIds.length },
    ...{ deletedIds: deletedIds.slice(0, MOST_TOLD), skipped: skipped.slice(0, MOST_TOLD) },
  };
}

async function split(stores: Stores, terms: RetentionTerms): Promise<{ going: string[]; kept: number }> {
  const { snapshots } = await viewRetention(stores, terms);
  const going = snapshots.filter(({ keptFor }) => keptFor.length === 0).map(({ id }) => id);
  return { going: going.toReversed(), kept: snapshots.length - going.length };
}

/** Why it stays for now, or undefined when it is deleted. */
async function deleted(stores: Stores, request: Parameters<typeof deleteSnapshot>[1]): Promise<string | undefined> {
  try {
    await deleteSnapshot(stores, request);
    return undefined;
  } catch (error) {
    if (isLifeboatError(error, 'SnapshotInUse') || isLifeboatError(error, 'SnapshotPinned')) return error.message;
    // Somebody else has deleted it.
    if (isLifeboatError(error, 'UnknownSnapshot')) return undefined;
    throw error;
  }
}
