/** Progress of one stage, with the speed it has now and the time it still takes at that speed. */
import type { Progress } from './messages.ts';
import { Pace, secondsLeft } from './pace.ts';

export interface MeterOptions {
  /** What earlier runs did of it: part of what is done, not of the speed. */
  readonly done?: number;
  /** See Pace. */
  readonly clock?: () => number;
}

/** Counts what is done of a stage. */
export class Meter {
  readonly #stage: string;
  readonly #unit: Progress['unit'];
  readonly #pace: Pace;
  #done: number;
  /** Null while it is not known. What is done beyond it makes it larger: it may be an estimate. */
  total: number | null;

  constructor(stage: string, unit: Progress['unit'], total: number | null, options: MeterOptions = {}) {
    this.#stage = stage;
    this.#unit = unit;
    this.total = total;
    this.#done = options.done ?? 0;
    this.#pace = new Pace(options.clock ?? (() => performance.now()));
  }

  add(amount: number): Progress {
    this.#done += amount;
    this.#pace.add(amount);
    return this.now();
  }

  /** Counts what was found done. */
  skip(amount: number): void {
    this.#done += amount;
  }

  now(): Progress {
    const perSecond = this.#pace.perSecond();
    const total = this.total === null ? null : Math.max(this.total, this.#done);
    return {
      stage: this.#stage,
      done: this.#done,
      total,
      unit: this.#unit,
      perSecond: perSecond === null ? null : Math.round(perSecond),
      etaSeconds: total === null ? null : secondsLeft(total - this.#done, perSecond),
    };
  }
}
