/** A bound on a rate, as arithmetic alone: it neither waits nor looks at a clock of its own. */

/** What may be taken at once after a pause, in seconds of the rate. */
const BURST_SECONDS = 0.25;

/**
 * Tokens flow in at a rate. Whoever finds some may take as many as it needs, also more than there are: what is owed is
 * waited for by the next one. So the average keeps to the rate however large the single helpings are.
 */
export class TokenBucket {
  readonly #now: () => number;
  #perSecond: number | null;
  #tokens: number;
  #at: number;

  /**
   * @param now a clock that only goes forward, in milliseconds
   * @param perSecond tokens a second; null is no bound
   */
  constructor(now: () => number, perSecond: number | null) {
    this.#now = now;
    this.#perSecond = perSecond;
    this.#tokens = (perSecond ?? 0) * BURST_SECONDS;
    this.#at = now();
  }

  get perSecond(): number | null {
    return this.#perSecond;
  }

  /** Another rate from now on. What is owed stays owed, and is paid at the new rate; without a bound it is forgiven. */
  setRate(perSecond: number | null): void {
    if (perSecond === this.#perSecond) return;
    this.#flow();
    this.#perSecond = perSecond;
    this.#tokens = perSecond === null ? 0 : Math.min(this.#tokens, perSecond * BURST_SECONDS);
  }

  /** Takes tokens; a negative number gives back what was not needed. */
  take(tokens: number): void {
    if (this.#perSecond === null) return;
    this.#flow();
    this.#tokens = Math.min(this.#tokens - tokens, this.#perSecond * BURST_SECONDS);
  }

  /** How long, in milliseconds, until tokens may be taken; 0 when they may be now. */
  waitMs(): number {
    if (this.#perSecond === null) return 0;
    this.#flow();
    return this.#tokens >= 0 ? 0 : Math.ceil((-this.#tokens * 1000) / this.#perSecond);
  }

  #flow(): void {
    const now = this.#now();
    if (this.#perSecond !== null) {
      const flown = ((now - this.#at) / 1000) * this.#perSecond;
      this.#tokens = Math.min(this.#tokens + flown, this.#perSecond * BURST_SECONDS);
    }
    this.#at = now;
  }
}
