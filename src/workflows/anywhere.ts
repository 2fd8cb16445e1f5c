/** Work that any daemon can do. */
import type { DaemonActivities } from '../activities/types.ts';
import { reclaiming } from './claiming.ts';
import { onDaemon, shared } from './options.ts';

/**
 * Runs `work` on whichever daemon answers, and on another when that one does not take it up.
 * @throws ApplicationFailure with the code of what failed it
 */
export async function anywhere<T>(work: (daemon: DaemonActivities) => Promise<T>): Promise<T> {
  return reclaiming(async () => {
    const { taskQueue, patienceMs } = await shared().claim({ purpose: 'anywhere' });
    return work(onDaemon(taskQueue, patienceMs));
  });
}
