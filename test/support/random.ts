/** Seeded randomness: the same seed gives the same choices, so that a failure can be looked at again. */

/** mulberry32, by Tommy Ettinger, public domain: small, and good enough to choose what to write. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed >>> 0;
    this.#state = this.seed;
  }

  /** An unsigned 32-bit integer. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 ≤ n < `end` */
  below(end: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * end);
  }

  chance(probability: number): boolean {
    return this.next() / 0x1_0000_0000 < probability;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }

  /** Bytes that no compression makes smaller. */
  bytes(length: number): Buffer {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let n = 0; n < words.length; n++) words[n] = this.next();
    return Buffer.from(words.buffer, 0, length);
  }

  /** Another source of choices that this one's later choices do not disturb. */
  fork(): Random {
    return new Random(this.next());
  }
}

/** The seed of this run: `LIFEBOAT_TEST_SEED`, else a new one. Print it. */
export function testSeed(): number {
  const given = Number(process.env['LIFEBOAT_TEST_SEED']);
  return Number.isInteger(given) && given > 0 ? given : Math.floor(Math.random() * 0x7fffffff) + 1;
}
