/**
 * Bringing blocks into the store, or claiming those that are there.
 *
 * A block that is there is never merely looked for: one conditional write claims it for the lease and takes a groom's
 * doom away, and only what that write reached counts as there (design decision 10). It does not reach a block that is
 * marked as damaged: that one is stored anew in its place. Blocks go in groups, a few groups in flight, so that memory
 * stays flat whatever the size of the head.
 */
import { Binary, MongoBulkWriteError } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { BlockRecord } from '../stores/records.ts';
import { BLOCK_BYTES, hashKey, packBlock, type PackedBlock } from './blocks.ts';
import { healing, SOUND } from './damage.ts';
import { TaskGroup } from './gate.ts';
import { whileStoreReturns } from './retry.ts';

/** 4 MiB of raw blocks to a group: sending one keeps the main thread busy for some milliseconds. */
const GROUP_BLOCKS = 64;
const GROUPS_IN_FLIGHT = 5;

/** How often a block may vanish between its claim and its insertion before that is a defect. */
const MOST_TURNS = 10;

const DUPLICATE_KEY = 11000;

interface WaitingBlock {
  readonly hash: Buffer;
  readonly raw: Buffer;
}

interface Group {
  readonly buffer: Buffer;
  used: number;
  blocks: WaitingBlock[];
}

/** What became of the blocks so far. */
export interface BlockCounts {
  readonly newBlocks: number;
  readonly newStoredBytes: number;
  readonly reusedBlocks: number;
}

/** Stores blocks under one lease. */
export class BlockWriter {
  readonly #stores: Stores;
  readonly #lease: number;
  readonly #signal: AbortSignal;
  readonly #groups = new TaskGroup(GROUPS_IN_FLIGHT);
  readonly #spare: Buffer[] = [];
  /** Keys of blocks that are in the open group or in flight: the same bytes again need no second way. */
  readonly #underWay = new Set<string>();
  #open: Group | undefined;
  #newBlocks = 0;
  #newStoredBytes = 0;
  #reusedBlocks = 0;

  /** @param signal aborted when the lease is lost or the work is to end */
  constructor(stores: Stores, lease: number, signal: AbortSignal) {
    this.#stores = stores;
    this.#lease = lease;
    this.#signal = signal;
  }

  get counts(): BlockCounts {
    return { newBlocks: this.#newBlocks, newStoredBytes: this.#newStoredBytes, reusedBlocks: this.#reusedBlocks };
  }

  /** Counts a block that the parent manifest, which the lease holds, already refers to. */
  countReused(): void {
    this.#reusedBlocks += 1;
  }

  /** Takes back what `countReused` counted: the block is not there, and is added. */
  countStoredAnew(): void {
    this.#reusedBlocks -= 1;
  }

  /** Copies `raw`; waits while enough groups are under way. */
  async add(hash: Buffer, raw: Buffer): Promise<void> {
    const key = hashKey(hash);
    if (this.#underWay.has(key)) {
      this.#reusedBlocks += 1;
      return;
    }
    this.#underWay.add(key);
    const group = (this.#open ??= { buffer: this.#takeBuffer(), used: 0, blocks: [] });
    const end = group.used + raw.copy(group.buffer, group.used);
    group.blocks.push({ hash, raw: group.buffer.subarray(group.used, end) });
    group.used = end;
    if (group.blocks.length === GROUP_BLOCKS) await this.#send();
  }

  /** Resolves when every block added so far is durable in the store under the lease. */
  async flush(): Promise<void> {
    await this.#send();
    await this.#groups.settle();
  }

  /** Waits until nothing is under way, after a failure. */
  async quiet(): Promise<void> {
    await this.#groups.quiet();
  }

  #takeBuffer(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(GROUP_BLOCKS * BLOCK_BYTES);
  }

  async #send(): Promise<void> {
    const group = this.#open;
    if (!group) return;
    this.#open = undefined;
    await this.#groups.add(async () => {
      await this.#store(group.blocks);
      for (const { hash } of group.blocks) this.#underWay.delete(hashKey(hash));
      this.#spare.push(group.buffer);
    });
  }

  async #store(blocks: readonly WaitingBlock[]): Promise<void> {
    const packed = new Map<string, PackedBlock>();
    let missing = blocks;
    for (let turn = 0; turn < MOST_TURNS; turn += 1) {
      missing = await this.#claim(missing);
      await this.#pack(missing, packed);
      missing = await this.#insert(missing, packed);
      if (missing.length === 0) return;
    }
    throw new LifeboatError('Internal', `${missing.length} blocks vanish as often as they are claimed`);
  }

  /** Claims what is there; resolves to what is not. */
  async #claim(blocks: readonly WaitingBlock[]): Promise<readonly WaitingBlock[]> {
    const ids = blocks.map(({ hash }) => new Binary(hash));
    return whileStoreReturns(this.#signal, 'claiming blocks', async () => {
      const claim = { $max: { claim: this.#lease }, $unset: { doom: 1 as const } };
      const { matchedCount } = await this.#stores.blocks.updateMany({ _id: { $in: ids }, ...SOUND }, claim);
      if (matchedCount === 0) return blocks;
      const held = await this.#held(ids, matchedCount);
      this.#reusedBlocks += held === 'all' ? blocks.length : held.size;
      return held === 'all' ? [] : blocks.filter(({ hash }) => !held.has(hashKey(hash)));
    });
  }

  async #held(ids: readonly Binary[], matched: number): Promise<'all' | ReadonlySet<string>> {
    if (matched === ids.length) return 'all';
    const filter = { _id: { $in: ids }, claim: { $gte: this.#lease }, ...SOUND };
    const found = await this.#stores.blocks
      .find<Pick<BlockRecord, '_id'>>(filter, { projection: { _id: 1 }, batchSize: ids.length + 1 })
      .toArray();
    return new Set(found.map(({ _id }) => hashKey(_id.buffer)));
  }

  async #pack(blocks: readonly WaitingBlock[], packed: Map<string, PackedBlock>): Promise<void> {
    await Promise.all(
      blocks.map(async ({ hash, raw }) => {
        const key = hashKey(hash);
        if (!packed.has(key)) packed.set(key, await packBlock(hash, raw));
      }),
    );
  }

  /**
   * Inserts blocks, or mends them where they are marked as damaged; resolves to those that somebody else inserted at the
   * same time, and that are to be claimed.
   */
  async #insert(
    blocks: readonly WaitingBlock[],
    packed: ReadonlyMap<string, PackedBlock>,
  ): Promise<readonly WaitingBlock[]> {
    if (blocks.length === 0) return [];
    const records = blocks.map(({ hash }): BlockRecord => {
      const block = packed.get(hashKey(hash));
      if (!block) throw new LifeboatError('Internal', 'a block was not packed');
      return { ...block, claim: this.#lease };
    });
    const taken = await whileStoreReturns(this.#signal, 'storing blocks', async () => {
      try {
        await this.#stores.blocks.insertMany(records, { ordered: false });
        return new Set<number>();
      } catch (error) {
        return duplicatesOf(error);
      }
    });
    const mended = await this.#mend(records.filter((_, index) => taken.has(index)));
    const isTaken = (record: BlockRecord, index: number): boolean =>
      taken.has(index) && !mended.has(hashKey(record._id.buffer));
    for (const record of records.filter((one, index) => !isTaken(one, index))) {
      this.#newBlocks += 1;
      this.#newStoredBytes += record.data.length();
    }
    return blocks.filter((_, index) => isTaken(records[index] as BlockRecord, index));
  }

  /** Stores anew what is marked as damaged of these; says which that was. */
  async #mend(records: readonly BlockRecord[]): Promise<ReadonlySet<string>> {
    if (records.length === 0) return new Set();
    return whileStoreReturns(this.#signal, 'mending blocks', async () => {
      const mended = new Set<string>();
      const ids = records.map(({ _id }) => _id);
      const marked = await this.#stores.blocks
        .find<Pick<BlockRecord, '_id'>>({ _id: { $in: ids }, damaged: { $exists: true } }, { projection: { _id: 1 } })
        .toArray();
      const keys = new Set(marked.map(({ _id }) => hashKey(_id.buffer)));
      for (const record of records.filter(({ _id }) => keys.has(hashKey(_id.buffer)))) {
        const filter = { _id: record._id, damaged: { $exists: true } };
        const { matchedCount } = await this.#stores.blocks.updateOne(filter, healing(record, this.#lease));
        if (matchedCount === 1) mended.add(hashKey(record._id.buffer));
      }
      return mended;
    });
  }
}

/** Which of the records were there already; anything else than that is thrown. */
function duplicatesOf(error: unknown): ReadonlySet<number> {
  if (!(error instanceof MongoBulkWriteError) || error.result.getWriteConcernError()) throw error;
  const failures = [error.writeErrors].flat();
  if (failures.length === 0 || failures.some(({ code }) => code !== DUPLICATE_KEY)) throw error;
  return new Set(failures.map(({ index }) => index));
}
