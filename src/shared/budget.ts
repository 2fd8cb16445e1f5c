/** A bound on how many bytes are held in memory by several workers together. */

interface Waiter {
  readonly bytes: number;
  readonly admit: () => void;
}

/**
 * Bytes are taken before they are read and given back when they are stored, first come, first served. What turns out
 * larger than it was thought may exceed the bound: it is there already; then the next one waits the longer.
 */
export class ByteBudget {
  #bound: number;
  #held = 0;
  #waiting: Waiter[] = [];

  constructor(bound: number) {
    this.#bound = bound;
  }

  /**
   * Waits until there is room; one that alone exceeds the bound is let in when nothing else is held.
   * @throws the signal's reason when it is aborted: the budget ends with the work that it bounds
   */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#held += bytes;
      return;
    }
    await new Promise<void>((settle) => {
      const stop = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        settle();
      };
      const waiter: Waiter = {
        bytes,
        admit: () => {
          signal.removeEventListener('abort', stop);
          settle();
        },
      };
      signal.addEventListener('abort', stop, { once: true });
      this.#waiting.push(waiter);
    });
    signal.throwIfAborted();
  }

  /** Another bound from now on; what is held beyond a lower one is waited for by the next to come. */
  setBound(bound: number): void {
    this.#bound = bound;
    this.#admitNext();
  }

  /** Corrects what was taken: positive takes more without waiting, negative gives back. */
  adjust(bytes: number): void {
    this.#held += bytes;
    this.#admitNext();
  }

  #fits(bytes: number): boolean {
    return this.#held === 0 || this.#held + bytes <= this.#bound;
  }

  #admitNext(): void {
    for (let next = this.#waiting[0]; next && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#held += next.bytes;
      next.admit();
    }
  }
}
