/**
 * Comparing what there is: names, UUIDs, options, indexes and views of the source and of a head.
 *
 * No server can be asked what its catalog was at an optime. So the head's is read where it stands, the source's a little
 * later, and then the entries between the two: a difference that one of them can have made is none yet.
 */
import { Binary, type Document, type MongoClient, type Timestamp } from 'mongodb';
import { BsonType, elementName, elements, findElement, stringValue, valueBytes } from '../bson/raw.ts';
import type { OpenHead } from '../head/open-head.ts';
import { replyValues, succeeded } from '../head/socket.ts';
import { VERSION_NS } from '../head/load.ts';
import { scratchDatabase } from '../head/scratch.ts';
import { toTimestamp } from '../mongo/positions.ts';
import { uuidBinary } from '../mongo/uuid.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Optime } from '../shared/optime.ts';
import { EVERYTHING } from '../source/filter.ts';
import { namespaceRule } from '../source/namespaces.ts';
import type { Listing } from '../source/listing.ts';
import type { FindingKind } from '../stores/records.ts';
import { headDocuments } from './head-cursor.ts';

type Fields = ReadonlyMap<string, Buffer>;

/** A collection or a view. */
export interface Definition {
  readonly db: string;
  readonly name: string;
  /** Hex; undefined for a view. */
  readonly uuid: string | undefined;
  readonly type: string;
  /** Type and value bytes of each option, by name. */
  readonly options: Fields;
  /** Of each built index, by its name. */
  readonly indexes: ReadonlyMap<string, Fields>;
}

/** What a head and its source do not have alike. */
export interface CatalogDifference {
  /** What is one namespace however it is called: the UUID of a collection, the name of a view. */
  readonly key: string;
  readonly namespace: string;
  /** Everything by which an entry may name what differs: UUIDs, and names with their database. */
  readonly subjects: readonly string[];
  readonly kind: FindingKind;
  /** Options or indexes. */
  readonly names: readonly string[];
}

export function namespaceOf({ db, name }: { readonly db: string; readonly name: string }): string {
  return `${db}.${name}`;
}

/** Type and value bytes of each element, by name. */
function fieldsOf(buffer: Buffer, leaveOut: readonly string[] = []): Fields {
  const fields = new Map<string, Buffer>();
  for (const one of elements(buffer)) {
    const name = elementName(buffer, one);
    if (!leaveOut.includes(name)) fields.set(name, Buffer.concat([Buffer.of(one.type), valueBytes(buffer, one)]));
  }
  return fields;
}

/** A standalone drops temporary collections when it starts: a head has none. */
const NOT_ON_A_HEAD = ['temp'];

/** The catalog of a source. */
export function sourceCatalog({ collections, views }: Listing): Definition[] {
  return [
    ...collections.map(({ db, name, uuid, options, indexes }) => ({
      db,
      name,
      uuid: uuid.toString('hex'),
      type: 'collection',
      options: fieldsOf(Buffer.from(options.buffer), NOT_ON_A_HEAD),
      indexes: indexesOf(indexes.map(({ buffer }) => Buffer.from(buffer))),
    })),
    ...views.map(({ db, name, type, options }) => ({
      db,
      name,
      uuid: undefined,
      type,
      options: fieldsOf(Buffer.from(options.buffer)),
      indexes: new Map<string, Fields>(),
    })),
  ];
}

function indexesOf(specs: readonly Buffer[]): Map<string, Fields> {
  return new Map(
    specs.map((spec) => {
      const name = findElement(spec, 'name');
      if (!name) throw new LifeboatError('Internal', 'an index has no name');
      return [stringValue(spec, name), fieldsOf(spec)];
    }),
  );
}

/** The catalog of a head, all that belongs to a backup; without indexes if none are wanted. */
export async function headCatalog(head: OpenHead, options: { readonly indexes: boolean }): Promise<Definition[]> {
  const what = `listing the head of ${head.label}`;
  const reply = await head.socket.command('admin', { listDatabases: 1, nameOnly: true });
  const { databases } = replyValues(succeeded(reply, what)) as { databases: { name: string }[] };
  const found: Definition[] = [];
  const scratch = scratchDatabase(head);
  for (const { name: db } of databases) {
    if (db === 'local' || db === scratch) continue;
    for (const entry of await headDocuments(head, db, { listCollections: 1 }, what)) {
      const definition = readEntry(db, entry);
      if (definition.uuid === undefined) found.push(definition);
      else if (namespaceRule(db, definition.name, EVERYTHING) !== 'skip') {
        const specs = options.indexes
          ? await headDocuments(
              head,
              db,
              // By the name of a time-series collection, or of what stands beside its buckets, a server lists those.
              { listIndexes: uuidBinary(definition.uuid) },
              `listing indexes of ${namespaceOf(definition)}`,
            )
          : [];
        found.push({ ...definition, indexes: indexesOf(specs) });
      }
    }
  }
  return found;
}

function readEntry(db: string, entry: Buffer): Definition {
  const [name, type, options, info] = ['name', 'type', 'options', 'info'].map((field) => findElement(entry, field));
  if (!name || !type) throw new LifeboatError('Internal', `database ${db} of a head lists a collection without a name`);
  const uuid = info && findElement(entry, 'uuid', info.valueStart);
  return {
    db,
    name: stringValue(entry, name),
    type: stringValue(entry, type),
    options: options ? fieldsOf(valueBytes(entry, options), NOT_ON_A_HEAD) : new Map<string, Buffer>(),
    // A binary value is its length, its subtype and its bytes.
    uuid: uuid?.type === BsonType.binary ? valueBytes(entry, uuid).subarray(5).toString('hex') : undefined,
    indexes: new Map(),
  };
}

/** Whether two looks found the same thing to differ. */
export function isSameDifference(a: CatalogDifference, b: CatalogDifference): boolean {
  return a.key === b.key && a.kind === b.kind;
}

/** What is not the same bytes on both sides. */
export function compareCatalogs(source: readonly Definition[], head: readonly Definition[]): CatalogDifference[] {
  const differences: CatalogDifference[] = [];
  const onHead = new Map(head.map((one) => [identityOf(one), one]));
  for (const one of source) {
    const other = onHead.get(identityOf(one));
    onHead.delete(identityOf(one));
    if (other) differences.push(...definitionDifferences(one, other));
    else differences.push(difference('namespace-missing', one));
  }
  for (const one of onHead.values()) differences.push(difference('namespace-extra', one));
  return differences;
}

/** A collection is its UUID, but for the one that every mongod makes itself; a view is its name. */
function identityOf(one: Definition): string {
  return one.uuid === undefined || namespaceOf(one) === VERSION_NS ? namespaceOf(one) : one.uuid;
}

function definitionDifferences(source: Definition, head: Definition): CatalogDifference[] {
  const differences: CatalogDifference[] = [];
  if (namespaceOf(source) !== namespaceOf(head)) differences.push(difference('name', source, head));
  if (source.type !== head.type) differences.push(difference('type', source, head));
  const options = differingNames(source.options, head.options, (a, b) => a.equals(b));
  if (options.length > 0) differences.push({ ...difference('options', source, head), names: options });
  const sameFields = (a: Fields, b: Fields): boolean => differingNames(a, b, (x, y) => x.equals(y)).length === 0;
  const indexes = differingNames(source.indexes, head.indexes, sameFields);
  if (indexes.length > 0) differences.push({ ...difference('indexes', source, head), names: indexes });
  return differences;
}

function differingNames<T>(
  a: ReadonlyMap<string, T>,
  b: ReadonlyMap<string, T>,
  same: (x: T, y: T) => boolean,
): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => {
    const [x, y] = [a.get(name), b.get(name)];
    return x === undefined || y === undefined || !same(x, y);
  });
}

function difference(kind: FindingKind, ...of: readonly [Definition, ...Definition[]]): CatalogDifference {
  const [first] = of;
  const subjects = new Set(
    of.flatMap((one) => [one.db, namespaceOf(one), ...(one.uuid === undefined ? [] : [one.uuid])]),
  );
  return { key: identityOf(first), namespace: namespaceOf(first), subjects: [...subjects], kind, names: [] };
}

/** Commands name what they are about in one of these fields, with or without its database. */
const SUBJECT_FIELDS = [
  'create',
  'drop',
  'renameCollection',
  'to',
  'collMod',
  'createIndexes',
  'dropIndexes',
  'deleteIndexes',
  'commitIndexBuild',
] as const;

const projectedCommand = (prefix: string): Document =>
  Object.fromEntries([...SUBJECT_FIELDS, 'dropDatabase', 'dropTarget'].map((field) => [`${prefix}${field}`, 1]));

interface CommandEntry {
  readonly op: string;
  readonly ns: string;
  readonly ui?: Binary;
  readonly o: Document;
  readonly o2?: Document;
}

/**
 * Everything whose definition an entry after `at` may have changed, in the terms of `CatalogDifference.subjects`.
 * @param client of the member that was listed
 * @throws the driver's errors
 */
export async function changedSince(client: MongoClient, at: Optime, signal: AbortSignal): Promise<Set<string>> {
  const subjects = new Set<string>();
  const after: Timestamp = toTimestamp(at);
  // Only what names a definition is asked for: entries hold documents too.
  const projection = {
    ts: 1,
    op: 1,
    ns: 1,
    ui: 1,
    'o2._id': 1,
    'o._id': 1,
    ...projectedCommand('o.'),
    'o.applyOps.op': 1,
    'o.applyOps.ns': 1,
    'o.applyOps.ui': 1,
    ...projectedCommand('o.applyOps.o.'),
  };
  const filter = { ts: { $gt: after }, $or: [{ op: 'c' }, { ns: /\.system\.views$/ }] };
  const entries = client.db('local').collection('oplog.rs').find(filter, { projection, signal });
  for await (const entry of entries) take(subjects, entry as unknown as CommandEntry);
  return subjects;
}

function take(subjects: Set<string>, { op, ns, ui, o, o2 }: CommandEntry): void {
  const db = ns.slice(0, ns.indexOf('.'));
  if (op !== 'c') {
    // A document of system.views is named as its view is.
    if (ns.endsWith('.system.views')) subjects.add(String(o2?.['_id'] ?? o['_id']));
    return;
  }
  for (const inner of (o['applyOps'] ?? []) as CommandEntry[]) {
    if (inner.op === 'c') take(subjects, inner);
  }
  if (ui) subjects.add(ui.toString('hex'));
  for (const field of SUBJECT_FIELDS) {
    const value: unknown = o[field];
    if (typeof value !== 'string') continue;
    subjects.add(field === 'renameCollection' || field === 'to' ? value : `${db}.${value}`);
  }
  const replaced: unknown = o['dropTarget'];
  if (replaced instanceof Binary) subjects.add(replaced.toString('hex'));
  if ('dropDatabase' in o) subjects.add(db);
}
