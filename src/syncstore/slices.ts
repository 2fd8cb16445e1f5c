/** Slices: stored once, in the order of their chain, and read back. */
import { Binary, MongoServerError, type ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import { loadBytes } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { ReadFrom, SliceRecord, StoredBytes } from '../stores/records.ts';
import { chainOf, type Chain, type SliceHeader } from './chain.ts';

const DUPLICATE_KEY = 11000;

/** The fields of a header. With an index that holds just these, no slice is read for them. */
const HEADER = {
  '_id.incarnation': 1,
  '_id.uuid': 1,
  '_id.seq': 1,
  after: 1,
  token: 1,
  'readFrom.host': 1,
  'readFrom.copyId': 1,
  documents: 1,
  'bytes.rawBytes': 1,
  'bytes.storedBytes': 1,
} as const;

/**
 * All slices of one collection that can be loaded, as far as they are stored.
 * @param known headers that were read before, all there were; new ones are added, and only those are read: while a sync
 *   is under way none changes or goes
 */
export async function readChain(
  stores: Stores,
  incarnation: ObjectId,
  uuid: Binary,
  known: SliceHeader[] = [],
): Promise<Chain> {
  try {
    const found = await stores.slices
      .find({ '_id.incarnation': incarnation, '_id.uuid': uuid, '_id.seq': { $gte: known.length } })
      .project<HeaderFields>(HEADER)
      .sort({ '_id.seq': 1 })
      .toArray();
    for (const one of found) known.push(toHeader(one));
    return chainOf(known);
  } catch (error) {
    throw castDriverError(error, 'store', 'reading the slices of a collection');
  }
}

/** Bytes of all slices of a sync, before compression. */
export async function bytesInSlices(stores: Stores, incarnation: ObjectId): Promise<number> {
  try {
    const [sum] = await stores.slices
      .aggregate<{ bytes: number }>([
        { $match: { '_id.incarnation': incarnation } },
        { $group: { _id: null, bytes: { $sum: '$bytes.rawBytes' } } },
      ])
      .toArray();
    return sum?.bytes ?? 0;
  } catch (error) {
    throw castDriverError(error, 'store', 'adding up the slices of a sync');
  }
}

interface HeaderFields extends Pick<SliceRecord, '_id' | 'after' | 'token' | 'readFrom' | 'documents'> {
  readonly bytes: Pick<StoredBytes, 'rawBytes' | 'storedBytes'>;
}

function toHeader({ _id, after, token, readFrom, documents, bytes }: HeaderFields): SliceHeader {
  const id = { incarnation: _id.incarnation, uuid: _id.uuid, seq: _id.seq };
  return { id, after, token, readFrom, documents, rawBytes: bytes.rawBytes, storedBytes: bytes.storedBytes };
}

/**
 * The documents of a slice: concatenated raw BSON, as they stood on the source.
 * @throws LifeboatError `SliceMissing`, `SliceDamaged`; `StoreUnavailable` (retryable)
 */
export async function readSlice(stores: Stores, header: Pick<SliceHeader, 'id'>): Promise<Buffer> {
  const { seq } = header.id;
  try {
    const record = await stores.slices.findOne({ _id: header.id });
    if (!record) throw new LifeboatError('SliceMissing', `slice ${seq} of a collection is not in the sync store`);
    const bytes = await loadBytes(stores.sliceParts, record.bytes);
    if (!bytes) throw new LifeboatError('SliceDamaged', `slice ${seq} of a collection does not match its checksum`);
    return bytes;
  } catch (error) {
    throw castDriverError(error, 'store', `reading slice ${seq} of a collection`);
  }
}

export interface NewSlice {
  readonly id: SliceRecord['_id'];
  readonly after: Buffer | Binary | null;
  readonly token: Buffer | Binary | null;
  readonly readFrom: ReadFrom;
  readonly documents: number;
  readonly bytes: StoredBytes;
  readonly epoch: number;
}

/**
 * Stores the header of a slice whose bytes were stored before; that makes the slice be. False when another writer
 * has stored the slice of that number.
 */
export async function insertSlice(stores: Stores, slice: NewSlice): Promise<boolean> {
  const { id, after, token, readFrom, documents, bytes, epoch } = slice;
  const record: SliceRecord = {
    _id: id,
    after: toBinary(after),
    token: toBinary(token),
    readFrom,
    documents,
    bytes,
    epoch,
    storedAt: new Date(),
  };
  try {
    await stores.slices.insertOne(record);
    return true;
  } catch (error) {
    if (!(error instanceof MongoServerError) || error.code !== DUPLICATE_KEY) {
      throw castDriverError(error, 'store', 'storing a slice');
    }
  }
  if (bytes.parts) await stores.sliceParts.deleteMany({ '_id.of': bytes.parts.id, incarnation: id.incarnation });
  return false;
}

function toBinary(token: Buffer | Binary | null): Binary | null {
  return token === null || token instanceof Binary ? token : new Binary(token);
}
