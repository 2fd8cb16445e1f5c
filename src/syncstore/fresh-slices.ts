/**
 * Slices that this process has just stored, for the head that it loads at the same time: what is in memory need not be read
 * back, decompressed and hashed. Only ever a short cut: whoever does not find a slice here reads it from the store.
 */
import { Arrivals } from '../stores/arrivals.ts';
import type { SliceRecord } from '../stores/records.ts';

/** The raw BSON of a slice. */
export interface FreshSlice {
  readonly bytes: Buffer;
  /** Frees their memory; nobody may use them any more. */
  readonly release: () => void;
}

type SliceId = SliceRecord['_id'];

interface Held extends FreshSlice {
  readonly id: SliceId;
}

export interface FreshSlicesOptions {
  /** How much is held before a copy has to wait, in bytes. */
  readonly mostBytes?: number;
  /** How long it waits for the head, in milliseconds: one that is slower for longer reads from the store. */
  readonly patienceMs?: number;
}

const MOST_BYTES = 32 * 1024 * 1024;
const PATIENCE_MS = 2_000;

export class FreshSlices {
  readonly #mostBytes: number;
  readonly #patienceMs: number;
  readonly #held = new Map<string, Held>();
  /** The newest slice of each collection that was asked for. */
  readonly #asked = new Map<string, number>();
  readonly #filling = new Arrivals();
  readonly #emptying = new Arrivals();
  #bytes = 0;
  #loaders = 0;

  constructor({ mostBytes = MOST_BYTES, patienceMs = PATIENCE_MS }: FreshSlicesOptions = {}) {
    this.#mostBytes = mostBytes;
    this.#patienceMs = patienceMs;
  }

  /** Slices are held from now on, until what this gives is disposed of. */
  expect(): Disposable {
    this.#loaders += 1;
    return {
      [Symbol.dispose]: () => {
        this.#loaders -= 1;
        if (this.#loaders > 0) return;
        for (const held of this.#held.values()) this.#drop(held);
        this.#asked.clear();
        this.#emptying.notify();
      },
    };
  }

  /**
   * Gives a slice away that is stored. Only once it is: of two that are read for one place in a chain, the one in the store
   * is the slice. Settles when it takes no room that others need; where that takes too long, it is no longer held.
   * @throws the signal's reason when it is aborted
   */
  async offer(id: SliceId, slice: FreshSlice, signal: AbortSignal): Promise<void> {
    const isWanted = this.#loaders > 0 && id.seq > (this.#asked.get(chainOf(id)) ?? -1);
    if (!isWanted) {
      slice.release();
      return;
    }
    const held = { ...slice, id };
    this.#held.set(keyOf(id), held);
    this.#bytes += slice.bytes.length;
    const until = Date.now() + this.#patienceMs;
    for (;;) {
      const { rung } = this.#emptying;
      if (this.#bytes > this.#mostBytes / 2) this.#filling.notify();
      if (this.#held.get(keyOf(id)) !== held || this.#bytes <= this.#mostBytes) return;
      const leftMs = until - Date.now();
      if (leftMs <= 0) break;
      await this.#emptying.wait(signal, leftMs, rung);
    }
    this.#drop(held);
  }

  /** How often there was more than half of what is held: see wait. */
  get filled(): number {
    return this.#filling.rung;
  }

  /** The slice, which is then the caller's. Those of the same collection before it will not be asked for any more. */
  take(id: SliceId): FreshSlice | undefined {
    const found = this.#held.get(keyOf(id));
    if (found) this.#forget(found);
    for (const held of this.#held.values()) {
      if (chainOf(held.id) === chainOf(id) && held.id.seq < id.seq) this.#drop(held);
    }
    this.#asked.set(chainOf(id), id.seq);
    this.#emptying.notify();
    return found;
  }

  /**
   * Settles when there was more than half of what is held after `filled` was read, or after `timeoutMs`: of what is little,
   * or comes from another process, nothing is said.
   * @throws the signal's reason when it is aborted
   */
  async wait(signal: AbortSignal, timeoutMs: number, filled: number): Promise<void> {
    await this.#filling.wait(signal, timeoutMs, filled);
  }

  #forget(held: Held): void {
    this.#held.delete(keyOf(held.id));
    this.#bytes -= held.bytes.length;
  }

  #drop(held: Held): void {
    this.#forget(held);
    held.release();
  }
}

function chainOf({ incarnation, uuid }: SliceId): string {
  return `${incarnation.toHexString()}/${uuid.toString('hex')}`;
}

function keyOf(id: SliceId): string {
  return `${chainOf(id)}/${id.seq}`;
}
