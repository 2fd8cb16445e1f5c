/** How fast documents may be read from one source, by all who read some: a limit that can be changed meanwhile. */
import { setTimeout as delay } from 'node:timers/promises';
import { TokenBucket } from '../shared/token-bucket.ts';

/** Bytes a second; null is no limit. Asked about once a second while there is reading. */
export type ReadLimit = () => Promise<number | null>;

/** Leave to ask for one reply. */
export interface Admission {
  /** How many bytes it may hold, about. */
  readonly bytes: number;
  /** Is told how many it did hold, once; a large one is waited for by the next. */
  readonly settle: (bytes: number) => void;
}

/** How soon a changed limit is seen, in milliseconds. */
const LOOK_MS = 1_000;
/** One reply is to hold no more than this many seconds of the limit: a source is read gently, not in gulps. */
const REPLY_SECONDS = 0.25;
/** A reply is asked for at least this large, or the questions would cost more than the answers. */
const MIN_REPLY_BYTES = 64 * 1024;

/**
 * Oplog entries are not counted and never held up: a backup that falls behind its source's oplog has to begin anew.
 */
export class ReadPace {
  readonly #limit: ReadLimit;
  readonly #bucket: TokenBucket;
  /** Readers are let in one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #lookAt = 0;
  #wake: () => void = () => undefined;

  constructor(limit: ReadLimit = () => Promise.resolve(null)) {
    this.#limit = limit;
    this.#bucket = new TokenBucket(() => performance.now(), null);
  }

  /** The limit as it was last looked at, in bytes a second; null is none. */
  get perSecond(): number | null {
    return this.#bucket.perSecond;
  }

  /**
   * Waits until a reply may be asked for.
   * @param wanted how many bytes it would hold if there were no limit
   * @throws the signal's reason when it is aborted
   */
  async admit(wanted: number, signal: AbortSignal): Promise<Admission> {
    const before = this.#turn;
    const turn = before.then(() => this.#admitted(signal));
    this.#turn = turn.catch(() => undefined);
    await turn;
    const { perSecond } = this.#bucket;
    const bytes = perSecond === null ? wanted : Math.min(wanted, Math.max(MIN_REPLY_BYTES, perSecond * REPLY_SECONDS));
    this.#bucket.take(bytes);
    return {
      bytes,
      settle: (read) => {
        this.#bucket.take(read - bytes);
        this.#wake();
      },
    };
  }

  async #admitted(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      await this.#look();
      const ms = this.#bucket.waitMs();
      if (ms === 0) return;
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await delay(Math.min(ms, LOOK_MS), undefined, { signal: AbortSignal.any([signal, woken.signal]) }).catch(
        () => undefined,
      );
    }
  }

  async #look(): Promise<void> {
    const now = performance.now();
    if (now < this.#lookAt) return;
    this.#lookAt = now + LOOK_MS;
    this.#bucket.setRate(await this.#limit());
  }
}
