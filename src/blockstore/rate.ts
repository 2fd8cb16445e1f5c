/** Progress with a speed and an expected end. */
import type { Progress } from '../shared/messages.ts';

/** Counts what is done of a stage since it began. */
export class Meter {
  readonly #stage: string;
  readonly #unit: Progress['unit'];
  readonly #total: number;
  readonly #beganAt = performance.now();
  #done = 0;

  constructor(stage: string, unit: Progress['unit'], total: number) {
    this.#stage = stage;
    this.#unit = unit;
    this.#total = total;
  }

  add(amount: number): Progress {
    this.#done += amount;
    const seconds = (performance.now() - this.#beganAt) / 1000;
    const perSecond = seconds > 0 ? this.#done / seconds : null;
    return {
      stage: this.#stage,
      done: this.#done,
      total: this.#total,
      unit: this.#unit,
      perSecond: perSecond === null ? null : Math.round(perSecond),
      etaSeconds: perSecond ? Math.ceil((this.#total - this.#done) / perSecond) : null,
    };
  }
}
