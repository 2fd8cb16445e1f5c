/** Telling a reader of this process that something was stored, so that it need not ask the store all the time. */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * A bell between a writer and whoever reads what it stored. `rung` counts, so that a reader that notes it before
 * it looks into the store and hands it to `wait` afterwards misses nothing.
 */
export class Arrivals {
  #rung = 0;
  #waiting = new Set<() => void>();

  /** How often the bell has rung. */
  get rung(): number {
    return this.#rung;
  }

  /** Something was stored. */
  notify(): void {
    this.#rung += 1;
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const wake of waiting) wake();
  }

  /**
   * Settles at the next ring, or after `timeoutMs`, at once if that is none; at once if it has rung since `rung` was read.
   * @throws the signal's reason when it is aborted
   */
  async wait(signal: AbortSignal, timeoutMs: number, rung = this.#rung): Promise<void> {
    signal.throwIfAborted();
    if (rung !== this.#rung || timeoutMs <= 0) return;
    const settled = new AbortController();
    const wake = (): void => settled.abort();
    this.#waiting.add(wake);
    try {
      await delay(timeoutMs, undefined, { signal: AbortSignal.any([signal, settled.signal]) }).catch(() => undefined);
    } finally {
      this.#waiting.delete(wake);
    }
    signal.throwIfAborted();
  }
}
