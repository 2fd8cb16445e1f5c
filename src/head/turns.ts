/** Whose turn it is: one at a time, in the order of asking. */

/** Ends a turn. Safe to call twice. */
export type EndTurn = () => void;

export class Turns {
  #last: Promise<void> = Promise.resolve();

  /**
   * Waits for its turn, which lasts until it is ended.
   * @throws the signal's reason when it is aborted before
   */
  async take(signal?: AbortSignal): Promise<EndTurn> {
    const before = this.#last;
    let end: EndTurn = () => undefined;
    this.#last = new Promise<void>((settle) => {
      end = settle;
    });
    try {
      await settledOrAborted(before, signal);
      return end;
    } catch (error) {
      // Those behind wait for the one before.
      void before.then(end);
      throw error;
    }
  }

  /** Runs `work` in a turn of its own. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const end = await this.take(signal);
    try {
      return await work();
    } finally {
      end();
    }
  }
}

/** Waits for a promise that never rejects. */
async function settledOrAborted(promise: Promise<void>, signal?: AbortSignal): Promise<void> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let stop: () => void = () => undefined;
  const aborted = new Promise<void>((settle) => {
    stop = settle;
  });
  signal.addEventListener('abort', stop);
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
  signal.throwIfAborted();
}
