/**
 * The groom: blocks that no snapshot refers to, and no work in progress can, are found and deleted (design decision 10).
 *
 * Two passes over all blocks, a range of hashes at a time, under one doom: what is dead is doomed; older leases are waited
 * for, once; what is still dead and doomed is deleted. How far it is stands in its record, written after each range: run
 * again it goes on there, and a range that is done twice is done the same way.
 */
import { Binary, type ClientSession, type WithoutId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { GroomCensus, Progress } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { BlockRecord, GroomRecord } from '../stores/records.ts';
import { HASH_BYTES, hashKey } from './blocks.ts';
import { deleteDoomed, doomBlocks, nextDoom, spareBlocks, storedBytesOf, untilLeasesEnd } from './doom.ts';
import { hashRanges, type HashRange } from './hash-ranges.ts';
import type { HashTable } from './hash-table.ts';
import { referencesIn } from './references.ts';

export interface GroomParts {
  readonly stores: Stores;
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
  /** Blocks of a range, about; smaller ones take less memory and read the manifests more often. */
  readonly rangeBlocks?: number;
}

/** 256 GiB of files, in 128 MiB of memory. */
const RANGE_BLOCKS = 2 ** 22;
/** How long the record of a groom that is done is kept: nobody runs it again after that. */
const REMEMBERED_MS = 90 * 24 * 3_600_000;
/** Blocks to a write. */
const GROUP_BLOCKS = 500;
/** Blocks of a range whose bytes are counted, of the living and of the dead. */
const SAMPLE_BLOCKS = 1_000;

/** Counts, and changes nothing. What work in progress has stored counts as living. */
export async function takeCensus(parts: GroomParts): Promise<GroomCensus> {
  return grooming(parts, async (session) => {
    const { stores } = parts;
    const claimed = await oldestLease(stores, session);
    const total = { liveBlocks: 0, deadBlocks: 0, liveBytes: 0, deadBytes: 0 };
    const ranges = await rangesOf(parts);
    for (const [n, range] of ranges.entries()) {
      report(parts, 'census', n, ranges.length);
      const references = await referencesOf(parts, session, range, ranges.length);
      const [live, dead] = [new Kind(stores, session), new Kind(stores, session)];
      for await (const ids of groupsOf(parts, session, range)) {
        const unreferred = ids.filter((id) => !references.has(id, 0));
        const inUse = await claimedOf(stores, session, unreferred, claimed);
        const unused = new Set(unreferred.filter((id) => !inUse.has(hashKey(id))));
        live.add(ids.filter((id) => !unused.has(id)));
        dead.add([...unused]);
      }
      total.liveBlocks += live.count;
      total.deadBlocks += dead.count;
      total.liveBytes += await live.bytes();
      total.deadBytes += await dead.bytes();
    }
    return total;
  });
}

/** Blocks of one kind: how many, and what they take, estimated from a sample. */
class Kind {
  readonly #stores: Stores;
  readonly #session: ClientSession;
  readonly #sample: Buffer[] = [];
  #count = 0;

  constructor(stores: Stores, session: ClientSession) {
    this.#stores = stores;
    this.#session = session;
  }

  get count(): number {
    return this.#count;
  }

  add(ids: readonly Buffer[]): void {
    this.#count += ids.length;
    this.#sample.push(...ids.slice(0, Math.max(0, SAMPLE_BLOCKS - this.#sample.length)));
  }

  async bytes(): Promise<number> {
    if (this.#count === 0) return 0;
    const sampled = await storedBytesOf(this.#stores, this.#session, { _id: { $in: this.#sample.map(binaryOf) } });
    return Math.round((sampled / this.#sample.length) * this.#count);
  }
}

/**
 * Goes on with the groom of that record until it is done.
 * @throws LifeboatError `ManifestDamaged`; `StoreUnavailable` (retryable)
 */
export async function runGroom(parts: GroomParts, id: string): Promise<GroomRecord> {
  return grooming(parts, async (session) => {
    const { stores, signal } = parts;
    let record = await begin(parts, session, id);
    const ranges = evenRanges(record.ranges);
    // A twin may have been quicker: what it has written counts, and both go on from there.
    const note = async (fields: Partial<WithoutId<GroomRecord>>): Promise<void> => {
      const { stage, next } = record;
      const noted = await stores.grooms.findOneAndUpdate(
        { _id: id, stage, next },
        { $set: fields },
        { returnDocument: 'after', session },
      );
      const found = noted ?? (await stores.grooms.findOne({ _id: id }, { session }));
      if (!found) throw new LifeboatError('Internal', `the record of groom ${id} is gone`);
      record = found;
    };
    const passes = {
      doom: (range: HashRange) => doomRange(parts, session, record, range),
      delete: (range: HashRange) => deleteRange(parts, session, record, range),
    };
    while (record.stage !== 'done') {
      const { stage, next, doom } = record;
      // No older one comes after that: a lease is there as soon as its number is drawn.
      if (stage === 'delete' && next === 0) {
        const leases = { stores, session, signal };
        await untilLeasesEnd(leases, doom, (what) => report(parts, what, 0, null));
      }
      const range = ranges[next];
      if (range) {
        report(parts, stage, next, ranges.length);
        await passes[stage](range);
        await note({ next: next + 1 });
      } else {
        await note(stage === 'doom' ? { stage: 'delete', next: 0 } : { stage: 'done', endedAt: await stores.now() });
      }
    }
    return record;
  });
}

async function doomRange(
  parts: GroomParts,
  session: ClientSession,
  { doom, ranges }: GroomRecord,
  range: HashRange,
): Promise<void> {
  const references = await referencesOf(parts, session, range, ranges);
  for await (const ids of groupsOf(parts, session, range)) {
    const dead = ids.filter((one) => !references.has(one, 0));
    if (dead.length > 0) await doomBlocks({ ...parts, session }, dead.map(binaryOf), doom);
  }
}

async function deleteRange(
  parts: GroomParts,
  session: ClientSession,
  { _id, doom, ranges }: GroomRecord,
  range: HashRange,
): Promise<void> {
  const doomParts = { ...parts, session };
  const references = await referencesOf(parts, session, range, ranges);
  for await (const ids of groupsOf(parts, session, range, doom)) {
    const spared = ids.filter((one) => references.has(one, 0));
    if (spared.length > 0) await spareBlocks(doomParts, spared.map(binaryOf), doom);
    const dead = ids.filter((one) => !references.has(one, 0));
    const gone = await deleteDoomed(doomParts, dead.map(binaryOf), doom);
    const counted = { deletedBlocks: gone.blocks, reclaimedBytes: gone.bytes };
    if (gone.blocks > 0) await parts.stores.grooms.updateOne({ _id }, { $inc: counted }, { session });
  }
}

async function begin(parts: GroomParts, session: ClientSession, id: string): Promise<GroomRecord> {
  const { stores } = parts;
  const found = await stores.grooms.findOne({ _id: id }, { session });
  if (found) return found;
  const old = { stage: 'done', $expr: { $lt: ['$endedAt', { $subtract: ['$$NOW', REMEMBERED_MS] }] } } as const;
  await stores.grooms.deleteMany(old, { session });
  const ranges = (await rangesOf(parts)).length;
  const fresh: GroomRecord = {
    ...{ _id: id, stage: 'doom', doom: await nextDoom({ stores, session }), ranges, next: 0 },
    ...{ deletedBlocks: 0, reclaimedBytes: 0, startedAt: await stores.now(), endedAt: null },
  };
  // Of two that begin it one does, and both go on with it.
  const record = await stores.grooms.findOneAndUpdate(
    { _id: id },
    { $setOnInsert: withoutId(fresh) },
    { upsert: true, returnDocument: 'after', session },
  );
  return record ?? fresh;
}

function withoutId({ _id: _, ...fields }: GroomRecord): WithoutId<GroomRecord> {
  return fields;
}

async function rangesOf({ stores, rangeBlocks = RANGE_BLOCKS }: GroomParts): Promise<readonly HashRange[]> {
  return hashRanges(await stores.blocks.estimatedDocumentCount(), rangeBlocks);
}

function evenRanges(count: number): readonly HashRange[] {
  return hashRanges(count, 1);
}

async function referencesOf(
  { stores, signal, rangeBlocks = RANGE_BLOCKS }: GroomParts,
  session: ClientSession,
  range: HashRange,
  ranges: number,
): Promise<HashTable> {
  const blocks = await stores.blocks.estimatedDocumentCount();
  const expected = Math.min(rangeBlocks, Math.ceil(blocks / ranges));
  return referencesIn({ stores, session, signal, range, expected });
}

/** Ids of the blocks in a range, from an index alone; with `doom`, of those that have it. */
async function* groupsOf(
  { stores, signal }: GroomParts,
  session: ClientSession,
  range: HashRange,
  doom?: number,
): AsyncGenerator<readonly Buffer[], void, void> {
  const filter = { _id: boundsOf(range), ...(doom === undefined ? {} : { doom }) };
  const hint = doom === undefined ? { _id: 1 } : { doom: 1, _id: 1 };
  const cursor = stores.blocks
    .find(filter, { session, hint, batchSize: 10_000 })
    .project<Pick<BlockRecord, '_id'>>({ _id: 1 });
  let group: Buffer[] = [];
  for await (const { _id } of cursor) {
    signal.throwIfAborted();
    if (group.push(Buffer.from(_id.buffer)) < GROUP_BLOCKS) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** All hashes have the same length: they are ordered by their bytes. */
function boundsOf({ from, to }: HashRange): { readonly $gte: Binary; readonly $lte: Binary } {
  const bound = (first: number, rest: number): Binary => {
    const bytes = Buffer.alloc(HASH_BYTES, rest);
    bytes.writeUInt32BE(first, 0);
    return new Binary(bytes);
  };
  return { $gte: bound(from, 0), $lte: bound(to - 1, 0xff) };
}

/** The number of the oldest lease that lives, or undefined. */
async function oldestLease(stores: Stores, session: ClientSession): Promise<number | undefined> {
  const lease = await stores.leases.findOne(
    { revoked: false, $expr: { $gte: ['$expiresAt', '$$NOW'] } },
    { session, sort: { _id: 1 }, projection: { _id: 1 } },
  );
  return lease?._id;
}

/** Which of these a lease that lives may have claimed. */
async function claimedOf(
  stores: Stores,
  session: ClientSession,
  ids: readonly Buffer[],
  since: number | undefined,
): Promise<ReadonlySet<string>> {
  if (since === undefined || ids.length === 0) return new Set();
  const found = await stores.blocks
    .find({ _id: { $in: ids.map(binaryOf) }, claim: { $gte: since } }, { session })
    .project<Pick<BlockRecord, '_id'>>({ _id: 1 })
    .toArray();
  return new Set(found.map(({ _id }) => hashKey(_id.buffer)));
}

function binaryOf(hash: Buffer): Binary {
  return new Binary(hash);
}

function report({ report: tell }: GroomParts, stage: string, done: number, total: number | null): void {
  tell({ stage, done, total, unit: 'blocks', perSecond: null, etaSeconds: null });
}

async function grooming<T>({ stores, signal }: GroomParts, work: (session: ClientSession) => Promise<T>): Promise<T> {
  try {
    return await stores.client.withSession({ causalConsistency: true }, work);
  } catch (error) {
    signal.throwIfAborted();
    throw castDriverError(error, 'store', 'grooming the blockstore');
  }
}
