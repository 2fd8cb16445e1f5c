/** Waiting that a signal can end. */

/** Settles as `work` does, or as soon as `signal` is aborted; `work` then goes on unwatched. */
export async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
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
