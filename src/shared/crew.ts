/** Several workers beside each other whose number can be changed while they work. */

/** Each takes one task after the other until there is none left. */
export class Crew {
  readonly #task: () => Promise<boolean>;
  readonly #ended: Promise<void>;
  #end: () => void = () => undefined;
  #wanted = 0;
  #working = 0;
  #over = false;

  /** @param task does one task, and says whether there may be another; must not throw */
  constructor(task: () => Promise<boolean>) {
    this.#task = task;
    this.#ended = new Promise((settle) => {
      this.#end = settle;
    });
  }

  /** Changes the number of workers, which is at least 1. One too many ends with the task in its hands. */
  resize(wanted: number): void {
    this.#wanted = Math.max(1, wanted);
    while (!this.#over && this.#working < this.#wanted) {
      this.#working += 1;
      void this.#work();
    }
  }

  /** Settles when no task is left and none is in hand. */
  async ended(): Promise<void> {
    return this.#ended;
  }

  async #work(): Promise<void> {
    while (!this.#over && this.#working <= this.#wanted) {
      if (!(await this.#task())) this.#over = true;
    }
    this.#working -= 1;
    if (this.#over && this.#working === 0) this.#end();
  }
}
