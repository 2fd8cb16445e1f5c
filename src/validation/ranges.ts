/**
 * Ranges of one collection by `_id`, cut where the head has one.
 *
 * A range is read by `min` and `max` on the `_id` index, which unlike a filter take values of every type, and by the
 * collection's own collation (research, mongodb-internals §3; tried on collections with a collation, clustered ones and
 * buckets of time series, 6.0.5). Any value is as good a cut as another, as long as both sides are cut at the same bytes:
 * so only an `_id` is taken that comes back from JavaScript as it went in.
 */
import { Binary, BSON, type Document } from 'mongodb';
import { documentLength } from '../bson/raw.ts';
import { namespaceOf, type HeadCollection } from '../head/catalog.ts';
import { idDocument } from '../head/missing.ts';
import type { OpenHead } from '../head/open-head.ts';
import { replyValues } from '../head/socket.ts';
import type { StoredRange } from '../stores/records.ts';
import { HeadCursor } from './head-cursor.ts';

/** From `from` on, before `to`, each raw BSON `{_id}`; null where it is open. */
export interface Range {
  readonly from: Buffer | null;
  readonly to: Buffer | null;
}

export function rangeOf({ from, to }: StoredRange): Range {
  return { from: from && Buffer.from(from.buffer), to: to && Buffer.from(to.buffer) };
}

export function storedRange({ from, to }: Range): StoredRange {
  return { from: from && new Binary(from), to: to && new Binary(to) };
}

/** Whether a stored range is that one: two of a collection may begin alike, around one missing document and around more. */
export function isRange(stored: StoredRange, { from, to }: Range): boolean {
  return isBound(stored.from, from) && isBound(stored.to, to);
}

function isBound(stored: Binary | null, bound: Buffer | null): boolean {
  return stored === null ? bound === null : bound !== null && bound.equals(stored.buffer);
}

/** `id`: along the `_id` index. `natural`: as one range, where a server takes no bounds on `_id`. */
export type Order = 'id' | 'natural';

/** About how many bytes a reply brings: a few of them have to fit memory. */
export const BATCH_BYTES = 4 * 1024 * 1024;
const RANGE_BYTES = 32 * 1024 * 1024;
const RANGE_DOCUMENTS = 50_000;
/** How many `_id`s are looked at for one that can be a cut, and how large it may be, in bytes. */
const CANDIDATES = 20;
const MOST_CUT_BYTES = 512;

/**
 * The greatest `_id` there can be. `min` without `max` ends before it (6.0.5), so behind a cut it is a range of its own,
 * found by its value.
 */
const LAST = Buffer.from(BSON.serialize({ _id: new BSON.MaxKey() }));

/** What is known of a collection that its ranges depend on. */
export interface Shape {
  readonly order: Order;
  /** Bytes of a document on average. */
  readonly average: number;
}

/** How many documents come to about `bytes`. */
export function batchSize({ average }: Pick<Shape, 'average'>, bytes = BATCH_BYTES): number {
  return Math.max(1, Math.ceil(bytes / average));
}

function boundOf(bytes: Buffer): Document {
  return BSON.deserialize(bytes, { promoteValues: false });
}

/** A `find` of the documents of a range, in an order that is the same on both sides. */
export function findCommand(target: string | Binary, { from, to }: Range, shape: Shape): Document {
  if (shape.order === 'natural') return { find: target, hint: { $natural: 1 }, batchSize: batchSize(shape) };
  const order = { hint: { _id: 1 }, sort: { _id: 1 } };
  if (from?.equals(LAST)) return { find: target, filter: boundOf(LAST), ...order, batchSize: batchSize(shape) };
  return {
    find: target,
    ...order,
    ...(from ? { min: boundOf(from) } : {}),
    ...(to ? { max: boundOf(to) } : {}),
    batchSize: batchSize(shape),
  };
}

/** Asks the head how large documents are, and whether ranges of this collection can be read. */
export async function shapeOf(head: OpenHead, collection: HeadCollection): Promise<Shape> {
  const { socket } = head;
  const stats = await socket.command(collection.db, { collStats: collection.name });
  const { size, count } = stats.ok ? (replyValues(stats) as { size?: number; count?: number }) : {};
  const average = Number(size) / Number(count);
  const probe = {
    find: collection.name,
    hint: { _id: 1 },
    sort: { _id: 1 },
    min: { _id: new BSON.MinKey() },
    projection: { _id: 1 },
    limit: 1,
    singleBatch: true,
  };
  const reply = await socket.command(collection.db, probe);
  if (!reply.ok) head.refuseTrouble(reply);
  // After a head was killed its counts may be anything.
  return { order: reply.ok ? 'id' : 'natural', average: Number.isFinite(average) && average >= 1 ? average : 1_024 };
}

/** Bytes of all documents of a head, about: for a progress, not for a decision. */
export async function documentBytes(head: OpenHead): Promise<number> {
  const databases = new Set([...head.catalog.collections].map(({ db }) => db));
  let sum = 0;
  for (const db of databases) {
    const reply = await head.socket.command(db, { dbStats: 1 });
    if (reply.ok) sum += Number(replyValues(reply)['dataSize']);
  }
  return sum;
}

/** How large a range may be, about. */
export interface RangeSize {
  readonly documents?: number | undefined;
  readonly bytes?: number | undefined;
}

/** Where the range that begins at `from` is best ended; null for no end at all. */
export async function nextCut(
  head: OpenHead,
  collection: HeadCollection,
  from: Buffer | null,
  shape: Shape,
  { documents: mostDocuments = RANGE_DOCUMENTS, bytes: mostBytes = RANGE_BYTES }: RangeSize = {},
): Promise<Buffer | null> {
  if (shape.order === 'natural' || from?.equals(LAST)) return null;
  const wanted = Math.max(1, Math.min(mostDocuments, Math.ceil(Math.min(mostBytes, RANGE_BYTES) / shape.average)));
  for (let skip = wanted; ; skip += CANDIDATES) {
    const command = {
      ...findCommand(collection.name, { from, to: null }, shape),
      projection: { _id: 1 },
      skip,
      limit: CANDIDATES,
      batchSize: CANDIDATES,
    };
    await using cursor = await HeadCursor.open(
      { head, socket: head.socket },
      collection.db,
      command,
      `looking into the _ids of ${namespaceOf(collection)}`,
    );
    const { bytes, documents } = await cursor.next();
    for (let at = 0; at < bytes.length; at += documentLength(bytes, at)) {
      const cut = idDocument(bytes, at);
      if (cut && cut.length <= MOST_CUT_BYTES && comesBack(cut)) return cut;
    }
    if (documents < CANDIDATES && cursor.ended) return from === null ? null : LAST;
  }
}

/** A range that holds the document of that `_id` (raw `{_id}`), and few others where such a range can be read. */
export async function rangeAround(
  head: OpenHead,
  collection: HeadCollection,
  id: Buffer,
  shape: Shape,
): Promise<Range> {
  if (shape.order === 'natural' || id.length > MOST_CUT_BYTES || !comesBack(id)) return { from: null, to: null };
  return { from: id, to: await nextCut(head, collection, id, shape, { documents: 1 }) };
}

function comesBack(bound: Buffer): boolean {
  try {
    return Buffer.from(BSON.serialize(boundOf(bound))).equals(bound);
  } catch {
    return false;
  }
}
