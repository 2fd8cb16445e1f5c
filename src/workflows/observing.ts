/**
 * Showing how the work at hand goes while it runs. An activity tells its workflow nothing before its end, so another
 * one beside it asks its daemon: soon at first, then ever less often, so that histories stay short.
 */
import { CancellationScope, isCancellation, sleep } from '@temporalio/workflow';
import type { DaemonActivities, Sight } from '../activities/types.ts';

/** What is over by then is shown by its end. */
const FIRST = '5 seconds';
const LEAST_MS = 15_000;
const MOST_MS = 3 * 60_000;
/** How much of the time that has passed may pass again until the next look. */
const SHARE = 8;

/** Milliseconds until the next look at work that has gone on for `passedMs`. */
export function lookAfter(passedMs: number): number {
  return Math.min(MOST_MS, Math.max(LEAST_MS, Math.round(passedMs / SHARE)));
}

/** Looks for ever, until it is cancelled. `settled` tells of work that has no end to wait for: it is looked at seldom. */
export async function observe(
  daemon: DaemonActivities,
  show: (sight: Sight) => void,
  settled: () => boolean = () => false,
): Promise<never> {
  const from = Date.now();
  let shown: Sight | null = null;
  await sleep(FIRST, { summary: 'until the first look at how far it is' });
  for (;;) {
    const maxMs = settled() ? MOST_MS : lookAfter(Date.now() - from);
    shown = await daemon.observe({ shown, maxMs: shown === null ? 0 : maxMs });
    show(shown);
  }
}

/** Runs `work`, and shows how it goes. */
export async function observing<T>(
  daemon: DaemonActivities,
  work: () => Promise<T>,
  show: (sight: Sight) => void,
): Promise<T> {
  const scope = new CancellationScope({ cancellable: true });
  const looking = scope
    .run(() => observe(daemon, show))
    .catch((error: unknown) => {
      // What is only looked at fails no work.
      if (!isCancellation(error)) show({ working: [], trouble: null });
    });
  try {
    return await work();
  } finally {
    scope.cancel();
    await looking;
  }
}
