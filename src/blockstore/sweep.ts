/**
 * Freeing blocks that nothing refers to any more (design decision 10), beside snapshots and restores that go on.
 *
 * Of the blocks in question, those that some manifest refers to are left out; the others are doomed, and deleted once every
 * older lease has ended and no manifest that came meanwhile refers to them (doom.ts).
 *
 * It may end anywhere and be run again: dooms that are left mean nothing to anybody but the run that made them. A run that
 * was stopped and wakes up may finish whatever it was at: once the leases have ended, a block under its doom can only have
 * been referred to by a claim, which took the doom away.
 */
import { Binary, type ClientSession } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import type { Progress } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestPartRecord } from '../stores/records.ts';
import { HASH_BYTES, hashKey } from './blocks.ts';
import { deleteDoomed, doomBlocks, nextDoom, spareBlocks, untilLeasesEnd } from './doom.ts';
import { hashRanges, placesIn, type HashRange } from './hash-ranges.ts';
import { bytesOf } from './manifest.ts';
import { referencesIn } from './references.ts';

export interface SweepParts {
  readonly stores: Stores;
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

export interface SweepResult {
  /** Blocks that nothing referred to, and those of them that this run deleted, with their bytes as stored. */
  readonly deadBlocks: number;
  readonly deletedBlocks: number;
  readonly reclaimedBytes: number;
}

/** Blocks that are held in memory at a time, at about 100 bytes each. */
const RANGE_BLOCKS = 2 ** 19;
/** Blocks to a write. */
const GROUP_BLOCKS = 500;

/**
 * Frees the blocks that only `dead` snapshots refer to: their manifests are gone, their parts still there.
 * @param blocks about how many blocks they refer to; decides only how much is done at a time
 */
export async function sweepBlocksOf(
  { stores, signal, report }: SweepParts,
  dead: readonly string[],
  blocks: number,
): Promise<SweepResult> {
  const total = { deadBlocks: 0, deletedBlocks: 0, reclaimedBytes: 0 };
  try {
    // Causally consistent: after a change of primary nothing is read that is older than what was read before.
    await stores.client.withSession({ causalConsistency: true }, async (session) => {
      const ranges = hashRanges(blocks, RANGE_BLOCKS);
      for (const [n, range] of ranges.entries()) {
        const sweep = new RangeSweep(stores, session, signal, range, (stage) =>
          report({ stage, done: n, total: ranges.length, unit: 'blocks', perSecond: null, etaSeconds: null }),
        );
        const { deadBlocks, deletedBlocks, reclaimedBytes } = await sweep.run(dead);
        total.deadBlocks += deadBlocks;
        total.deletedBlocks += deletedBlocks;
        total.reclaimedBytes += reclaimedBytes;
      }
    });
    return total;
  } catch (error) {
    signal.throwIfAborted();
    throw castDriverError(error, 'store', 'freeing blocks');
  }
}

/** What only `candidates` refer to, without touching anything: for a plan. */
export async function countOnlyOf(
  { stores, signal }: Pick<SweepParts, 'stores' | 'signal'>,
  candidates: readonly string[],
  blocks: number,
  each: (hashes: readonly Binary[], ofAll: number) => Promise<void>,
): Promise<{ readonly referred: number; readonly only: number }> {
  let referred = 0;
  let only = 0;
  await stores.client.withSession({ causalConsistency: true }, async (session) => {
    for (const range of hashRanges(blocks, RANGE_BLOCKS)) {
      const scan = { stores, session, signal, range };
      const hashes = new Set<string>();
      await scanParts(scan, candidates, (key) => hashes.add(key));
      referred += hashes.size;
      const others = (await snapshotIds(stores, session)).filter((id) => !candidates.includes(id));
      await scanParts(scan, others, (key) => hashes.delete(key));
      only += hashes.size;
      await each([...hashes].slice(0, GROUP_BLOCKS).map(binaryOf), hashes.size);
    }
  });
  return { referred, only };
}

class RangeSweep {
  readonly #stores: Stores;
  readonly #session: ClientSession;
  readonly #signal: AbortSignal;
  readonly #range: HashRange;
  readonly #tell: (stage: string) => void;
  readonly #dead = new Set<string>();

  constructor(
    stores: Stores,
    session: ClientSession,
    signal: AbortSignal,
    range: HashRange,
    tell: (stage: string) => void,
  ) {
    this.#stores = stores;
    this.#session = session;
    this.#signal = signal;
    this.#range = range;
    this.#tell = tell;
  }

  async run(candidates: readonly string[]): Promise<SweepResult> {
    this.#tell('sweep: references');
    await this.#scan(candidates, (key) => this.#dead.add(key));
    if (this.#dead.size === 0) return { deadBlocks: 0, deletedBlocks: 0, reclaimedBytes: 0 };
    await this.#leaveOut(this.#dead);
    const parts = { stores: this.#stores, session: this.#session, signal: this.#signal };
    const doom = await nextDoom(parts);
    this.#tell('sweep: doom');
    await this.#inGroups((ids) => doomBlocks(parts, ids, doom));
    await untilLeasesEnd(parts, doom, (what) => this.#tell(`sweep: ${what}`));
    const spared = await this.#leaveOut(this.#dead);
    await this.#inGroups((ids) => spareBlocks(parts, ids, doom), spared);
    this.#tell('sweep: delete');
    let deletedBlocks = 0;
    let reclaimedBytes = 0;
    await this.#inGroups(async (ids) => {
      const { blocks, bytes } = await deleteDoomed(parts, ids, doom);
      deletedBlocks += blocks;
      reclaimedBytes += bytes;
      this.#tell('sweep: delete');
    });
    return { deadBlocks: this.#dead.size, deletedBlocks, reclaimedBytes };
  }

  /** Takes out of `keys` what some snapshot refers to, and says which that was. */
  async #leaveOut(keys: Set<string>): Promise<ReadonlySet<string>> {
    const scan = { stores: this.#stores, session: this.#session, signal: this.#signal, range: this.#range };
    const isWanted = (bytes: Buffer, at: number): boolean => keys.has(hashKey(bytes.subarray(at, at + HASH_BYTES)));
    const references = await referencesIn({ ...scan, expected: keys.size, isWanted });
    const referred = [...keys].filter((key) => references.has(Buffer.from(key, 'latin1'), 0));
    for (const key of referred) keys.delete(key);
    return new Set(referred);
  }

  async #scan(snapshots: readonly string[], found: (key: string) => void): Promise<void> {
    const scan = { stores: this.#stores, session: this.#session, signal: this.#signal, range: this.#range };
    await scanParts(scan, snapshots, found);
  }

  async #inGroups(work: (ids: Binary[]) => Promise<void>, keys: ReadonlySet<string> = this.#dead): Promise<void> {
    let group: Binary[] = [];
    for (const key of keys) {
      if (group.push(binaryOf(key)) < GROUP_BLOCKS) continue;
      this.#signal.throwIfAborted();
      await work(group);
      group = [];
    }
    if (group.length > 0) await work(group);
  }
}

interface Scan {
  readonly stores: Stores;
  readonly session: ClientSession;
  readonly signal: AbortSignal;
  readonly range: HashRange;
}

/** Snapshots to a query. */
const SNAPSHOTS_AT_ONCE = 100;

/** Tells every hash of the range that the parts of these snapshots name. */
async function scanParts(
  { stores, session, signal, range }: Scan,
  snapshots: readonly string[],
  found: (key: string) => void,
): Promise<void> {
  for (let at = 0; at < snapshots.length; at += SNAPSHOTS_AT_ONCE) {
    const some = snapshots.slice(at, at + SNAPSHOTS_AT_ONCE);
    const cursor = stores.manifestParts
      .find({ '_id.snapshot': { $in: some } }, { session, batchSize: 100 })
      .project<Pick<ManifestPartRecord, 'hashes'>>({ _id: 0, hashes: 1 });
    for await (const { hashes } of cursor) {
      signal.throwIfAborted();
      const bytes = bytesOf(hashes);
      for (const at of placesIn(range, bytes)) found(hashKey(bytes.subarray(at, at + HASH_BYTES)));
    }
  }
}

async function snapshotIds(stores: Stores, session: ClientSession): Promise<string[]> {
  const found = await stores.manifests.find({}, { session }).project<{ _id: string }>({ _id: 1 }).toArray();
  return found.map(({ _id }) => _id);
}

function binaryOf(key: string): Binary {
  return new Binary(Buffer.from(key, 'latin1'));
}
