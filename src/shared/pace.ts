/** How fast work goes now, which is not how fast it went since it began: a source that slows down is to be seen. */

/** How far back it is looked, in milliseconds. */
const WINDOW_MS = 30_000;
/** Amounts that come within this time are kept as one. */
const GRAIN_MS = 500;
/** A shorter past than this tells of no speed. */
const LEAST_MS = 1_000;

interface Grain {
  readonly at: number;
  amount: number;
}

/** The speed over the last half minute, of amounts that are told as they come. */
export class Pace {
  readonly #clock: () => number;
  readonly #beganAt: number;
  #grains: Grain[] = [];

  /** @param clock milliseconds from any moment on, never going back */
  constructor(clock: () => number) {
    this.#clock = clock;
    this.#beganAt = clock();
  }

  add(amount: number): void {
    const now = this.#clock();
    const newest = this.#grains.at(-1);
    if (newest && now - newest.at < GRAIN_MS) newest.amount += amount;
    else this.#grains.push({ at: now, amount });
    this.#forget(now);
  }

  /** Units a second; null as long as there is too little to look back upon. */
  perSecond(): number | null {
    const now = this.#clock();
    this.#forget(now);
    const spanMs = Math.min(WINDOW_MS, now - this.#beganAt);
    if (spanMs < LEAST_MS) return null;
    const amount = this.#grains.reduce((sum, grain) => sum + grain.amount, 0);
    return (amount * 1_000) / spanMs;
  }

  #forget(now: number): void {
    const from = now - WINDOW_MS;
    let old = 0;
    for (; (this.#grains[old]?.at ?? now) < from; old += 1);
    if (old > 0) this.#grains = this.#grains.slice(old);
  }
}

/** Seconds until `left` is done at that speed; null when it has none. */
export function secondsLeft(left: number, perSecond: number | null): number | null {
  if (left <= 0) return 0;
  return perSecond !== null && perSecond > 0 ? Math.ceil(left / perSecond) : null;
}
