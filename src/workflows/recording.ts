/** Writing to the stores what a workflow has decided, also while the daemon that does its work is away. */
import { wasNotTakenUp } from './failures.ts';
import { recordsOnDaemon, shared, type RecordActivities } from './options.ts';

/** Runs `write` on the daemon of `taskQueue`, or on any that lives while that one takes nothing up. */
export async function recordingOn(
  taskQueue: string,
  write: (activities: RecordActivities) => Promise<void>,
): Promise<void> {
  let queue = taskQueue;
  for (;;) {
    try {
      return void (await write(recordsOnDaemon(queue)));
    } catch (error) {
      if (!wasNotTakenUp(error)) throw error;
    }
    queue = (await shared().claim({ purpose: 'anywhere' })).taskQueue;
  }
}
