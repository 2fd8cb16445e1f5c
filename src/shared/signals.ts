/** Waiting that a signal can end. */

/** Settles with `work`, which never rejects, or as soon as `signal` is aborted; `work` then goes on unwatched. */
export async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const settled = new AbortController();
  const aborted = new Promise<void>((settle) => {
    signal.addEventListener('abort', () => settle(), { once: true, signal: settled.signal });
  });
  await Promise.race([work, aborted]);
  settled.abort();
}
