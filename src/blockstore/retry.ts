/** Outliving a store that changes its primary while a head is held still. */
import { setTimeout as delay } from 'node:timers/promises';
import { castDriverError } from '../mongo/errors.ts';
import { isLifeboatError } from '../shared/errors.ts';

/** Longer than an election, in milliseconds. */
const PATIENCE_MS = 20_000;
const PAUSE_MS = 250;

/**
 * Runs something that may run any number of times, again and again while the store is unavailable.
 * @param what what is done and to what, for the message of an error
 */
export async function whileStoreReturns<T>(signal: AbortSignal, what: string, task: () => Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + PATIENCE_MS;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await task();
    } catch (error) {
      const cast = castDriverError(error, 'store', what);
      if (!isLifeboatError(cast, 'StoreUnavailable') || performance.now() > giveUpAt) throw cast;
    }
    await delay(PAUSE_MS, undefined, { signal });
  }
}
