/** How fast something goes now: an average over the last minute, or over all of it while that is less. */

const WINDOW_MS = 60_000;

interface Sample {
  readonly at: number;
  readonly done: number;
}

export class RecentRate {
  readonly #now: () => number;
  #samples: readonly [Sample, ...Sample[]];

  /** @param now a clock in milliseconds */
  constructor(now: () => number) {
    this.#now = now;
    this.#samples = [{ at: now(), done: 0 }];
  }

  /** Notes what is done by now, counted from the begin. */
  note(done: number): void {
    const at = this.#now();
    const [first, ...later] = this.#samples;
    // One sample from before the window stays, for the window to begin at.
    const [base = first] = [first, ...later].filter((sample) => sample.at <= at - WINDOW_MS).slice(-1);
    this.#samples = [base, ...later.filter((sample) => sample.at > base.at), { at, done }];
  }

  /** Units a second. */
  perSecond(): number {
    const [first, ...later] = this.#samples;
    const { done } = later.at(-1) ?? first;
    return Math.round(((done - first.done) * 1000) / Math.max(1, this.#now() - first.at));
  }
}
