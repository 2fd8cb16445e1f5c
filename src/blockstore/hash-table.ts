/**
 * A set of many hashes in little memory: of each it keeps the first eight bytes, outside of V8's heap. Two hashes that begin
 * alike count as one, so that it may say of a stranger that it is there, never of a member that it is not.
 */
export class HashTable {
  /** Two words to a slot; a slot of zeros is free. */
  #words: Uint32Array;
  #slots: number;
  #size = 0;
  #hasZero = false;

  /** @param expected about how many there will be; it grows when there are more */
  constructor(expected: number) {
    this.#slots = slotsFor(expected);
    this.#words = new Uint32Array(2 * this.#slots);
  }

  get size(): number {
    return this.#size;
  }

  /** Adds the hash at `at` of `bytes`. */
  add(bytes: Buffer, at: number): void {
    this.#put(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4));
    // Half full at most: a search then ends within two or three slots.
    if (2 * this.#size > this.#slots) this.#grow();
  }

  has(bytes: Buffer, at: number): boolean {
    const [a, b] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
    if (a === 0 && b === 0) return this.#hasZero;
    const slot = this.#slotOf(a, b);
    return this.#words[2 * slot] === a && this.#words[2 * slot + 1] === b;
  }

  #put(a: number, b: number): void {
    if (a === 0 && b === 0) {
      if (!this.#hasZero) this.#size += 1;
      this.#hasZero = true;
      return;
    }
    const slot = this.#slotOf(a, b);
    if (this.#words[2 * slot] === a && this.#words[2 * slot + 1] === b) return;
    this.#words[2 * slot] = a;
    this.#words[2 * slot + 1] = b;
    this.#size += 1;
  }

  /** Where it is, or would be put. SHA-256 needs no hashing of its own. */
  #slotOf(a: number, b: number): number {
    const mask = this.#slots - 1;
    let slot = b & mask;
    for (;;) {
      const [x, y] = [this.#words[2 * slot], this.#words[2 * slot + 1]];
      if ((x === a && y === b) || (x === 0 && y === 0)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  #grow(): void {
    const old = this.#words;
    this.#slots *= 2;
    this.#words = new Uint32Array(2 * this.#slots);
    this.#size = this.#hasZero ? 1 : 0;
    for (let at = 0; at < old.length; at += 2) {
      const [a = 0, b = 0] = [old[at], old[at + 1]];
      if (a !== 0 || b !== 0) this.#put(a, b);
    }
  }
}

function slotsFor(expected: number): number {
  // Some more than expected need no other table.
  return 2 ** Math.max(4, Math.ceil(Math.log2(2.2 * expected + 1)));
}
