/** Waiting that a signal can end, and work side by side that ends together. */

/** Settles as `work` does, or as soon as `signal` is aborted; `work` then goes on unwatched. */
export async function untilAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const settled = new AbortController();
  const aborted = new Promise<void>((settle) => {
    signal.addEventListener('abort', () => settle(), { once: true, signal: settled.signal });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    settled.abort();
  }
}

type Work = (ended: AbortSignal) => Promise<unknown>;
type ResultsOf<T extends readonly Work[]> = { -readonly [K in keyof T]: Awaited<ReturnType<T[K]>> };

/**
 * Runs all of it side by side. When one fails the others are told to end, and waited for: nothing of it goes on.
 * @param works each gets a signal that is aborted with `signal`, or when another failed
 * @throws what the first one threw that failed
 */
export async function together<const T extends readonly Work[]>(signal: AbortSignal, works: T): Promise<ResultsOf<T>> {
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  const running = works.map(async (work) => {
    try {
      return await work(ended);
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  await Promise.allSettled(running);
  // What failed first is what the others failed for.
  failed.signal.throwIfAborted();
  return (await Promise.all(running)) as ResultsOf<T>;
}
