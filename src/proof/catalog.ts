/** What namespaces a server has: options, UUIDs and indexes, as raw bytes. */
import { Binary, type MongoClient } from 'mongodb';
import { elementsByName, embedded } from './elements.ts';
import { RawCursor } from './raw-cursor.ts';

export interface Namespace {
  readonly db: string;
  readonly name: string;
  /** `db.name` */
  readonly full: string;
  readonly type: string;
  /** Type and value bytes of each option. */
  readonly options: ReadonlyMap<string, Buffer>;
  /** Hex; undefined for a view. */
  readonly uuid: string | undefined;
}

/** Names to the elements of the index's spec; only indexes that are built. */
export type Indexes = ReadonlyMap<string, ReadonlyMap<string, Buffer>>;

/** What is no part of a copy; the list of the invariant, and nothing else. */
function isNoPart(db: string, name: string): boolean {
  if (name === 'system.profile') return true;
  if (db === 'admin') return name === 'system.keys';
  return db === 'config' && (EXCLUDED_FROM_CONFIG.has(name) || name.startsWith('cache.'));
}
const EXCLUDED_FROM_CONFIG = new Set(['transactions', 'system.sessions', 'image_collection', 'system.indexBuilds']);

/** Collections whose documents are no part of a copy, or (system.views) may not be read and are compared as views. */
export function holdsComparedDocuments({ db, name }: Namespace): boolean {
  return name !== 'system.views' && !(db === 'config' && name === 'system.preimages');
}

/** What a server calls a collection until it gets its name. */
const PASSING = /^tmp(\.agg_out|\.mr|\w{5})\./;

/**
 * Whether a copy was to be without a namespace: `exclude` of its deployment, `DATABASE.COLLECTION` with `*` for anything. A
 * collection of buckets goes as the time-series collection of that name does; the views' own as all of its database.
 */
function isLeftOut(exclude: readonly string[], { db, name }: Namespace): boolean {
  if (db === 'admin' || db === 'config') return false;
  const shown = name.replace(/^system\.buckets\./, '');
  return exclude.some((pattern) => {
    const whole = pattern.endsWith('.*') && pattern.indexOf('.') === pattern.length - 2;
    if ((shown.startsWith('system.') || PASSING.test(shown)) && !whole) return false;
    // No name of a database has a dot, so the first one of a pattern is the first one of a namespace.
    const [ofDb, ofName] = splitAt(pattern, pattern.indexOf('.'));
    return matches(ofDb, db) && matches(ofName, shown);
  });
}

function splitAt(text: string, at: number): readonly [string, string] {
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Whether the parts between asterisks stand in a text, in their order, the first and the last at its ends. */
function matches(pattern: string, text: string): boolean {
  const [first = '', ...others] = pattern.split('*');
  const last = others.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first) || !text.endsWith(last)) return false;
  let at = first.length;
  for (const part of others) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= text.length - last.length;
}

/** Every namespace of a server that belongs into a copy, by full name. */
export async function listNamespaces(
  client: MongoClient,
  exclude: readonly string[] = [],
): Promise<Map<string, Namespace>> {
  const { databases } = await client.db('admin').command({ listDatabases: 1, nameOnly: true });
  const found = new Map<string, Namespace>();
  for (const { name: db } of databases as { name: string }[]) {
    if (db === 'local') continue;
    await using cursor = new RawCursor(client.db(db), { listCollections: 1 });
    for (const entry of await cursor.rest()) {
      const namespace = readEntry(db, entry);
      if (!isNoPart(db, namespace.name) && !isLeftOut(exclude, namespace)) found.set(namespace.full, namespace);
    }
  }
  return found;
}

function readEntry(db: string, entry: Buffer): Namespace {
  const fields = elementsByName(entry);
  const name = text(fields.get('name'));
  const options = elementsByName(embedded(fields.get('options')));
  // A flag of the server's own that a standalone takes as the order to drop the collection.
  options.delete('temp');
  // Behind the type byte of binary data: four bytes of length, one of subtype.
  const uuid = elementsByName(embedded(fields.get('info')))
    .get('uuid')
    ?.subarray(6)
    .toString('hex');
  return { db, name, full: `${db}.${name}`, type: text(fields.get('type')), options, uuid };
}

/** The text of a string element: behind its type byte and four bytes of length, without its NUL. */
function text(element: Buffer | undefined): string {
  return element?.toString('utf8', 5, element.length - 1) ?? '';
}

/** A UUID as commands take it. */
export function uuidBinary(hex: string): Binary {
  return new Binary(Buffer.from(hex, 'hex'), Binary.SUBTYPE_UUID);
}

/** The built indexes of a collection. Fails with the server's 26 when it is gone. */
export async function listIndexes(client: MongoClient, namespace: Namespace): Promise<Indexes> {
  const target = namespace.uuid === undefined ? namespace.name : uuidBinary(namespace.uuid);
  await using cursor = new RawCursor(client.db(namespace.db), { listIndexes: target, includeBuildUUIDs: true });
  const specs = (await cursor.rest()).map(elementsByName);
  // With includeBuildUUIDs an index under construction stands in an envelope of its own, without a name.
  return new Map(specs.filter((spec) => !spec.has('buildUUID')).map((spec) => [text(spec.get('name')), spec]));
}

/** The names whose values are not the same bytes on both sides. */
export function differingNames(a: ReadonlyMap<string, Buffer>, b: ReadonlyMap<string, Buffer>): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => {
    const [x, y] = [a.get(name), b.get(name)];
    return !x || !y || !x.equals(y);
  });
}

/** The names of the indexes that are on one side only or differ in any element of their specs. */
export function differingIndexes(a: Indexes, b: Indexes): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => {
    const [x, y] = [a.get(name), b.get(name)];
    return !x || !y || differingNames(x, y).length > 0;
  });
}
