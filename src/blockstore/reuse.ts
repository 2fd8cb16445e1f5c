/**
 * Reusing what the parent manifest refers to, if it is there.
 *
 * The lease keeps every block of the parent from being removed, so that none needs a claim. But a store may have lost one
 * all the same, and a snapshot that is committed and cannot be restored is the worst there is: so it is asked whether
 * they are there, by their ids alone, thousands at once. What is not is read from the head once more and stored.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Binary } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import { sha256 } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { BlockRecord } from '../stores/records.ts';
import { hashKey } from './blocks.ts';
import { TaskGroup } from './gate.ts';
import type { BlockPlace } from './manifest.ts';
import { whileStoreReturns } from './retry.ts';
import type { BlockWriter } from './write-blocks.ts';

/** 128 MiB of the head to a question of 100 KB. */
const IDS_AT_ONCE = 2_048;
const QUESTIONS_IN_FLIGHT = 2;

export class ReusedBlocks {
  readonly #stores: Stores;
  readonly #dbpath: string;
  readonly #writer: BlockWriter;
  readonly #signal: AbortSignal;
  readonly #questions = new TaskGroup(QUESTIONS_IN_FLIGHT);
  #places = new Map<string, BlockPlace>();

  /** @param dbpath of the head, which is held still: a block that is not in the store is read from there again */
  constructor(stores: Stores, dbpath: string, writer: BlockWriter, signal: AbortSignal) {
    this.#stores = stores;
    this.#dbpath = dbpath;
    this.#writer = writer;
    this.#signal = signal;
  }

  /** Counts a block that the parent has. `place.hash` must not change afterwards. */
  async add(place: BlockPlace): Promise<void> {
    this.#writer.countReused();
    this.#places.set(hashKey(place.hash), place);
    if (this.#places.size >= IDS_AT_ONCE) await this.#ask();
  }

  /** Resolves when every block added so far is there, or has been given to the writer. */
  async flush(): Promise<void> {
    await this.#ask();
    await this.#questions.settle();
  }

  /** Waits until nothing is under way, after a failure. */
  async quiet(): Promise<void> {
    await this.#questions.quiet();
  }

  async #ask(): Promise<void> {
    const places = this.#places;
    if (places.size === 0) return;
    this.#places = new Map();
    await this.#questions.add(async () => {
      for (const place of await this.#missing(places)) await this.#storeAnew(place);
    });
  }

  async #missing(places: ReadonlyMap<string, BlockPlace>): Promise<readonly BlockPlace[]> {
    const filter = { _id: { $in: [...places.values()].map(({ hash }) => new Binary(hash)) } };
    return whileStoreReturns(this.#signal, 'looking for the blocks of the parent', async () => {
      if ((await this.#stores.blocks.countDocuments(filter)) === places.size) return [];
      const missing = new Map(places);
      const there = this.#stores.blocks.find<Pick<BlockRecord, '_id'>>(filter, { projection: { _id: 1 } });
      for await (const { _id } of there) missing.delete(hashKey(_id.buffer));
      return [...missing.values()];
    });
  }

  async #storeAnew({ path, offset, bytes, hash }: BlockPlace): Promise<void> {
    const raw = Buffer.allocUnsafe(bytes);
    const handle = await open(join(this.#dbpath, path), 'r');
    try {
      await handle.read(raw, 0, bytes, offset);
    } finally {
      await handle.close();
    }
    // Files of a locked head change where no block of its checkpoint is: what was read first is gone then.
    if (!sha256(raw).equals(hash)) {
      throw new LifeboatError('SnapshotLockLost', `the file ${path} of the head changed while it was read`);
    }
    this.#writer.countStoredAnew();
    await this.#writer.add(hash, raw);
  }
}
