/** Working under a claim or a lease that can be lost, and is then simply taken again. */
import { isCancellation, sleep } from '@temporalio/workflow';
import { castFailure, failureOf, isKind, wasNotTakenUp } from './failures.ts';

/** Between two tries, so that rivals do not spin. */
const RECLAIM_PAUSE = '2 seconds';

/**
 * Runs `work`, which claims what it needs, until it ends otherwise than by a lost fence: another claim was made over
 * its own, the store was away for longer than its lease lives, or the daemon did not take the work up.
 * @throws ApplicationFailure with the code of what failed it
 */
export async function reclaiming<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const failure = failureOf(error);
      if (wasNotTakenUp(error)) continue;
      if (isCancellation(error) || !failure || !isKind(failure, 'FenceLost')) throw castFailure(error);
      await sleep(RECLAIM_PAUSE, { summary: 'before the next claim' });
    }
  }
}
