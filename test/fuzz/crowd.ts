/** The clients of a workload, each doing its own steps beside the others, and able to hold still together. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Operation, Step } from './operations.ts';
import { perform, type Target } from './perform.ts';

/** How often the operations of a kind were done, and refused by reason. */
export interface Tally {
  done: number;
  readonly refused: Map<string, number>;
}

export type Tallies = Map<Operation['kind'], Tally>;

/** Does an operation, and counts it. */
export async function performCounted(target: Target, operation: Operation, tallies: Tallies): Promise<void> {
  const outcome = await perform(target, operation);
  const tally = tallies.get(operation.kind) ?? { done: 0, refused: new Map<string, number>() };
  tallies.set(operation.kind, tally);
  if (outcome === 'done') tally.done += 1;
  else tally.refused.set(outcome.refused, (tally.refused.get(outcome.refused) ?? 0) + 1);
}

export class Crowd {
  readonly #target: Target;
  readonly #tallies: Tallies;
  readonly #loops: Promise<void>[];
  readonly #stop = new AbortController();
  #taken = 0;
  #waiting: { readonly steps: number; readonly go: () => void }[] = [];
  #gate = Promise.resolve();
  #open = (): void => undefined;
  readonly #inHand = new Map<Promise<void>, Operation>();
  #failure: unknown;

  constructor(target: Target, clients: readonly (readonly Step[])[], tallies: Tallies) {
    this.#target = target;
    this.#tallies = tallies;
    this.#loops = clients.map((steps) => this.#run(steps).catch((error: unknown) => this.#fail(error)));
  }

  /** Resolves once so many steps were taken, or all that there are. */
  async taken(steps: number): Promise<void> {
    const counted = new Promise<void>((go) => {
      if (this.#taken >= steps) go();
      else this.#waiting.push({ steps, go });
    });
    await Promise.race([counted, Promise.all(this.#loops)]);
    this.#throwFailure();
  }

  /** What its clients are at. */
  get inHand(): readonly Operation[] {
    return [...this.#inHand.values()];
  }

  /** Waits for the steps in hand; no other is begun until `goOn`. */
  async hold(): Promise<void> {
    this.#gate = new Promise((settle) => (this.#open = settle));
    await Promise.all(this.#inHand.keys());
    this.#throwFailure();
  }

  goOn(): void {
    this.#open();
  }

  /** Resolves when all clients have taken all of their steps. */
  async done(): Promise<void> {
    await Promise.all(this.#loops);
    this.#throwFailure();
  }

  /** Ends the clients after the steps in hand. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#open();
    await Promise.all(this.#loops);
  }

  async #run(steps: readonly Step[]): Promise<void> {
    for (const { pauseMs, operation } of steps) {
      await delay(pauseMs);
      await this.#gate;
      if (this.#stop.signal.aborted) return;
      const step = performCounted(this.#target, operation, this.#tallies);
      const settled = step.catch(() => undefined);
      this.#inHand.set(settled, operation);
      await step.finally(() => this.#inHand.delete(settled));
      this.#count();
    }
  }

  #count(): void {
    this.#taken += 1;
    for (const { go } of this.#waiting.filter(({ steps }) => steps <= this.#taken)) go();
    this.#waiting = this.#waiting.filter(({ steps }) => steps > this.#taken);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#stop.abort();
    this.#open();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
