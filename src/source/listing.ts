/** Listing what a source holds: collections with their options and indexes, and views, as raw bytes. */
import { Binary, MongoServerError, type Db, type MongoClient } from 'mongodb';
import { BsonType, documentsIn, elements, elementName, findElement, stringValue, valueBytes } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import type { NamespaceFilter } from './filter.ts';
import { leftOutOf } from './left-out.ts';
import { namespaceRule, type NamespaceRule } from './namespaces.ts';
import { confirmPosition, lastWrite } from './positions.ts';
import { RawCursor } from './raw-cursor.ts';

/** A collection with its raw options and the raw specs of its finished indexes. */
export interface ListedCollection {
  readonly db: string;
  readonly name: string;
  readonly uuid: Binary;
  readonly options: Binary;
  readonly indexes: readonly Binary[];
  readonly rule: Exclude<NamespaceRule, 'skip'>;
}

/** A view, or a time-series collection: that is a view of its `system.buckets` collection, which is listed by itself. */
export interface ListedView {
  readonly db: string;
  readonly name: string;
  readonly type: 'view' | 'timeseries';
  readonly options: Binary;
}

export interface Listing {
  readonly collections: readonly ListedCollection[];
  readonly views: readonly ListedView[];
}

const NAMESPACE_NOT_FOUND = 26;
const EMPTY_DOCUMENT = Buffer.from([5, 0, 0, 0, 0]);

/** How many `listIndexes` are under way at a time. */
const LIST_CONCURRENCY = 8;

/**
 * Lists everything that belongs to a backup. What was dropped meanwhile is left out. A plain read: what it saw may
 * still be rolled back, unless the caller makes sure of the contrary.
 * @param client of one member
 * @throws the driver's errors
 */
export async function listSource(client: MongoClient, filter: NamespaceFilter, signal: AbortSignal): Promise<Listing> {
  const found: FoundCollection[] = [];
  const views: ListedView[] = [];
  for (const name of await databaseNames(client, signal)) {
    const db = client.db(name);
    for (const entry of await rawDocuments(db, { listCollections: 1 }, signal)) {
      const listed = readEntry(name, entry, filter);
      if (listed && 'uuid' in listed) found.push(listed);
      else if (listed) views.push(listed);
    }
  }
  const collections = await withIndexes(client, found, signal);
  // Views stand in a collection of their database: with that gone meanwhile, so are they.
  const withViews = new Set(collections.filter(({ name }) => name === 'system.views').map(({ db }) => db));
  return { collections, views: views.filter(({ db }) => withViews.has(db)) };
}

/**
 * One collection as it is called now; undefined when it is gone, or no part of the backup. A plain read, as listSource.
 * @throws the driver's errors
 */
export async function listCollection(
  client: MongoClient,
  db: string,
  uuid: Binary,
  filter: NamespaceFilter,
  signal: AbortSignal,
): Promise<ListedCollection | undefined> {
  const [entry] = await rawDocuments(client.db(db), { listCollections: 1, filter: { 'info.uuid': uuid } }, signal);
  const listed = entry && readEntry(db, entry, filter);
  if (!listed || !('uuid' in listed)) return undefined;
  const [collection] = await withIndexes(client, [listed], signal);
  return collection;
}

/** How often a listing is made anew because a rollback came between. */
const LISTING_ATTEMPTS = 5;

/**
 * A listing that no rollback can make untrue: the newest entry at its end, `seen`, came to be on a majority.
 * @param client of the member that `list` asks
 * @throws LifeboatError `SourceNotReady` (retryable); what `list` throws, and the driver's errors
 */
export async function listDurably<T>(
  client: MongoClient,
  list: () => Promise<T>,
  signal: AbortSignal,
): Promise<{ readonly listed: T; readonly seen: Position }> {
  for (let attempt = 0; attempt < LISTING_ATTEMPTS; attempt += 1) {
    const listed = await list();
    const { last: seen } = await lastWrite(client, signal);
    if (await confirmPosition(client, seen, signal)) return { listed, seen };
  }
  throw new LifeboatError('SourceNotReady', 'the source rolled back again and again while it was listed');
}

type FoundCollection = Omit<ListedCollection, 'indexes'>;

async function databaseNames(client: MongoClient, signal: AbortSignal): Promise<string[]> {
  const { databases } = await client.db('admin').command({ listDatabases: 1, nameOnly: true }, { signal });
  return (databases as { name: string }[]).map(({ name }) => name).filter((name) => name !== 'local');
}

/** Bytes of all documents that belong to a backup, about: for a progress, not for a decision. */
export async function sourceBytes(client: MongoClient, filter: NamespaceFilter, signal: AbortSignal): Promise<number> {
  const names = await databaseNames(client, signal);
  const sizes = await Promise.all(names.map((name) => databaseBytes(client.db(name), filter, signal)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

async function databaseBytes(db: Db, filter: NamespaceFilter, signal: AbortSignal): Promise<number> {
  const [{ dataSize }, { dataBytes }] = await Promise.all([
    db.command({ dbStats: 1 }, { signal }),
    leftOutOf(db, filter, { signal }),
  ]);
  return Math.max(0, Number(dataSize) - dataBytes);
}

/** Copies of all documents that a cursor-returning command answers with. */
async function rawDocuments(db: Db, command: Record<string, unknown>, signal: AbortSignal): Promise<Buffer[]> {
  const documents: Buffer[] = [];
  await using cursor = await RawCursor.open(db, command, signal);
  while (!cursor.ended) {
    const { bytes } = await cursor.next();
    for (const one of documentsIn(bytes)) documents.push(Buffer.from(one));
  }
  return documents;
}

/** One entry of `listCollections`: `{name, type, options, info: {readOnly, uuid}, idIndex}`. */
function readEntry(db: string, entry: Buffer, filter: NamespaceFilter): FoundCollection | ListedView | undefined {
  const parts = new Map([...elements(entry)].map((element) => [elementName(entry, element), element]));
  const [name, type, options, info] = ['name', 'type', 'options', 'info'].map((part) => parts.get(part));
  if (!name || !type) throw new LifeboatError('Internal', `database ${db} lists a collection without a name`);
  const listed = {
    db,
    name: stringValue(entry, name),
    options: new Binary(options ? valueBytes(entry, options) : EMPTY_DOCUMENT),
  };
  const kind = stringValue(entry, type);
  if (kind === 'view' || kind === 'timeseries') {
    return filter.leavesOut(db, listed.name) ? undefined : { ...listed, type: kind };
  }
  if (kind !== 'collection') {
    throw new LifeboatError('UnsupportedSource', `${db}.${listed.name} is a ${kind}, which this version does not know`);
  }
  const rule = namespaceRule(db, listed.name, filter);
  if (rule === 'skip') return undefined;
  const uuid = info && findElement(entry, 'uuid', info.valueStart);
  if (uuid?.type !== BsonType.binary) throw new LifeboatError('Internal', `${db}.${listed.name} has no UUID`);
  // A binary value is its length, its subtype and its bytes.
  return { ...listed, rule, uuid: new Binary(valueBytes(entry, uuid).subarray(5), Binary.SUBTYPE_UUID) };
}

async function withIndexes(
  client: MongoClient,
  found: readonly FoundCollection[],
  signal: AbortSignal,
): Promise<ListedCollection[]> {
  const collections: (ListedCollection | undefined)[] = [];
  const queue = found.entries();
  const work = async (): Promise<void> => {
    for (const [index, collection] of queue) {
      const indexes = await indexesOf(client.db(collection.db), collection, signal);
      collections[index] = indexes && { ...collection, indexes };
    }
  };
  await Promise.all(Array.from({ length: LIST_CONCURRENCY }, work));
  return collections.filter((collection) => collection !== undefined);
}

/**
 * A server that cannot say what it builds: 6.0.5 of a 2dsphere index on a time-series collection, whose kind of key its
 * reply does not know while the spec stands in an envelope (list_indexes.cpp).
 */
const UNTELLABLE_BUILD = 5_254_501;

/**
 * Raw specs of the finished indexes, or undefined when the collection is no more.
 * @throws LifeboatError `SourceNotReady` (retryable) while the server cannot list them
 */
async function indexesOf(db: Db, { uuid, name }: FoundCollection, signal: AbortSignal): Promise<Binary[] | undefined> {
  try {
    const specs = await rawDocuments(db, { listIndexes: uuid, includeBuildUUIDs: true }, signal);
    // One that is still being built comes as {spec, buildUUID}: its commit is in the oplog, or there never is one.
    return specs.filter((spec) => !findElement(spec, 'buildUUID')).map((spec) => new Binary(spec));
  } catch (error) {
    if (!(error instanceof MongoServerError)) throw error;
    if (error.code === NAMESPACE_NOT_FOUND) return undefined;
    if (error.code !== UNTELLABLE_BUILD) throw error;
    const message = `${db.databaseName}.${name}: the server cannot list its indexes while one is being built`;
    throw new LifeboatError('SourceNotReady', message, { cause: error });
  }
}
