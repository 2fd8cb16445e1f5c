/**
 * Secondary indexes of a head, and the list of those that wait for it to be consistent.
 *
 * While entries are applied over data of the future, an index can refuse what is only passing: two documents with one
 * unique key, a shape that its key generator cannot take. So until then indexes are kept as a list, in
 * `local.lifeboat.indexes`, that index operations edit, and are built from it at that point. Specs are raw bytes, as
 * `listIndexes` or an entry gave them.
 */
import { Binary, BSON, Long } from 'mongodb';
import { uuidBinary } from '../mongo/uuid.ts';
import { BsonType, documentLength, elementName, elements, findElement, stringValue, valueBytes } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { document, documentArray, element, elementsWithout, stringElement } from './bytes.ts';
import { namespaceOf, type HeadCatalog, type HeadCollection } from './catalog.ts';
import { overConnections } from './connections.ts';
import { writeLocal } from './local.ts';
import { refuseUnlessOfTheData } from './replies.ts';
import { refuseShadowed } from './shadowed.ts';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';
import { Turns } from './turns.ts';

const INDEXES = 'lifeboat.indexes';

/** Name of an index, from its raw spec. */
export function indexName(spec: Buffer): string {
  const name = findElement(spec, 'name');
  if (!name) throw new LifeboatError('Internal', 'an index has no name');
  return stringValue(spec, name);
}

/** False for what comes with the collection: `_id_`, and the index of a clustered collection. */
export function isSecondary(spec: Buffer): boolean {
  return indexName(spec) !== '_id_' && findElement(spec, 'clustered') === undefined;
}

export function isUnique(spec: Buffer): boolean {
  return ['unique', 'prepareUnique'].some((field) => {
    const found = findElement(spec, field);
    return found !== undefined && spec[found.valueStart] !== 0;
  });
}

interface StoredIndex {
  readonly _id: { readonly uuid: Binary; readonly name: string };
  readonly spec: Binary;
}

/** The indexes that are to be built when the head is consistent. */
export class DeferredIndexes {
  readonly #socket: HeadSocket;
  readonly #byUuid = new Map<string, Map<string, Buffer>>();

  private constructor(socket: HeadSocket) {
    this.#socket = socket;
  }

  static async read(socket: HeadSocket): Promise<DeferredIndexes> {
    const list = new DeferredIndexes(socket);
    const what = 'reading its list of indexes';
    let reply = await socket.command('local', { find: INDEXES, batchSize: 5_000 });
    for (;;) {
      const { cursor } = replyValues(succeeded(reply, what)) as {
        cursor: { id: Long | number; firstBatch?: StoredIndex[]; nextBatch?: StoredIndex[] };
      };
      for (const { _id, spec } of cursor.firstBatch ?? cursor.nextBatch ?? []) {
        list.#of(Buffer.from(_id.uuid.buffer).toString('hex')).set(_id.name, Buffer.from(spec.buffer));
      }
      if (Number(cursor.id) === 0) return list;
      reply = await socket.command('local', { getMore: Long.fromValue(cursor.id), collection: INDEXES });
    }
  }

  /** The waiting indexes of each collection. */
  get entries(): readonly (readonly [uuid: string, specs: readonly Buffer[]])[] {
    return [...this.#byUuid].map(([uuid, specs]) => [uuid, [...specs.values()]] as const);
  }

  /** The waiting indexes of one collection. */
  of(uuid: string): readonly Buffer[] {
    return [...(this.#byUuid.get(uuid)?.values() ?? [])];
  }

  #of(uuid: string): Map<string, Buffer> {
    const known = this.#byUuid.get(uuid) ?? new Map<string, Buffer>();
    this.#byUuid.set(uuid, known);
    return known;
  }

  /** Puts indexes on the list, in place of those of the same name. Durable when this settles if `journaled`. */
  async put(uuid: string, specs: readonly Buffer[], options: { readonly journaled: boolean }): Promise<void> {
    if (specs.length === 0) return;
    const records = specs.map((spec) => ({ _id: idOf(uuid, indexName(spec)), spec: new Binary(spec) }));
    await writeLocal(this.#socket, INDEXES, records, options);
    for (const spec of specs) this.#of(uuid).set(indexName(spec), Buffer.from(spec));
  }

  /** Takes one index off the list. */
  async remove(uuid: string, name: string): Promise<void> {
    if (!this.#byUuid.get(uuid)?.has(name)) return;
    await this.#delete({ q: { _id: idOf(uuid, name) }, limit: 1 });
    this.#byUuid.get(uuid)?.delete(name);
  }

  /** Takes the indexes of a collection off the list. */
  async removeCollection(uuid: string): Promise<void> {
    if (!this.#byUuid.has(uuid)) return;
    await this.#delete({ q: { '_id.uuid': uuidBinary(uuid) }, limit: 0 });
    this.#byUuid.delete(uuid);
  }

  async #delete(deletion: { readonly q: BSON.Document; readonly limit: 0 | 1 }): Promise<void> {
    const reply = await this.#socket.command('local', { delete: INDEXES, deletes: [deletion] });
    succeeded(reply, 'writing its list of indexes');
  }
}

function idOf(uuid: string, name: string): StoredIndex['_id'] {
  return { uuid: uuidBinary(uuid), name };
}

/** Raw specs of the secondary indexes that a collection of the head has. */
export async function readIndexes(socket: HeadSocket, collection: HeadCollection): Promise<Buffer[]> {
  // No collection has more than 64 indexes, and 1000 of them would still fit one reply.
  const reply = await socket.command(collection.db, { listIndexes: collection.name, cursor: { batchSize: 1_000 } });
  const { body } = succeeded(reply, `listing the indexes of ${namespaceOf(collection)}`);
  const cursor = findElement(body, 'cursor');
  const batch = cursor && findElement(body, 'firstBatch', cursor.valueStart);
  if (!batch) throw new LifeboatError('Internal', 'an unexpected answer to listIndexes');
  return [...elements(body, batch.valueStart)].map((one) => valueBytes(body, one)).filter(isSecondary);
}

/**
 * Builds indexes and waits for them. Those that are there already stay.
 * @param signal ends a build that is under way: nothing of it is left
 * @throws LifeboatError `IndexBuildFailed`; `HeadLost`, `DiskFull`, `HeadStrained` (retryable)
 */
export async function buildIndexes(
  socket: HeadSocket,
  collection: HeadCollection,
  specs: readonly Buffer[],
  signal: AbortSignal,
): Promise<void> {
  if (specs.length === 0) return;
  const ns = namespaceOf(collection);
  const command = document(
    stringElement('createIndexes', collection.name),
    element(BsonType.array, 'indexes', documentArray(ns === TRANSACTIONS_NS ? specs : specs.map(buildable))),
  );
  const reply = await socket.interruptible(collection.db, command, signal);
  if (reply.ok) return;
  refuseUnlessOfTheData(reply, `building indexes of ${ns}`);
  const names = specs.map((spec) => `"${indexName(spec)}"`).join(', ');
  throw new LifeboatError('IndexBuildFailed', `${ns}: ${names}: the head answered ${reply.code} ${reply.codeName}`);
}

/** Of its indexes a server makes one only, spelt exactly as its own (create_indexes.cpp, IllegalOperation). */
const TRANSACTIONS_NS = 'config.transactions';

/**
 * A spec as createIndexes takes it. Servers up to 4.2 wrote the namespace into one, which it refuses. A spec without a
 * collation is of the simple one, whatever that of its collection is, and has to say so (index_catalog_impl.cpp leaves it
 * out of what it stores); an index of version 1 has none at all.
 */
export function buildable(spec: Buffer): Buffer {
  const version = findElement(spec, 'v');
  const isFirst = version?.type === BsonType.int32 && spec.readInt32LE(version.valueStart) === 1;
  const isSimple = !isFirst && findElement(spec, 'collation') === undefined;
  return document(...elementsWithout(spec, ['ns']), ...(isSimple ? [SIMPLE_COLLATION] : []));
}

const SIMPLE_COLLATION = element(BsonType.object, 'collation', document(stringElement('locale', 'simple')));

/** Drops an index of the head; one that is not there is left at that. */
export async function dropIndex(socket: HeadSocket, collection: HeadCollection, name: string): Promise<void> {
  const reply = await socket.command(collection.db, { dropIndexes: collection.name, index: name });
  if (reply.code !== INDEX_NOT_FOUND) succeeded(reply, `dropping an index of ${namespaceOf(collection)}`);
}

const INDEX_NOT_FOUND = 27;

/** A head builds an index on one processor; what it may take of memory for a build is 200 MB (mongod's default). */
const BUILDS_AT_ONCE = 2;

/**
 * The indexes of a larger collection are built as if they were of several, in bytes: each build reads all of it, but one
 * large collection would else keep a single processor busy for as long as the others stand idle.
 */
const LARGE_BYTES = 64 * 1024 * 1024;

/** Where indexes wait to be built. */
export interface WaitingIndexes {
  readonly socket: HeadSocket;
  readonly catalog: HeadCatalog;
  readonly deferred: DeferredIndexes;
}

/** Indexes that are built by reading their collection once. */
interface Build {
  readonly uuid: string;
  readonly collection: HeadCollection;
  readonly specs: readonly Buffer[];
  /** Of the collection's documents. */
  readonly bytes: number;
}

/**
 * Builds every index of the list whose collection is there, and empties the list, until `signal` is aborted. A few builds
 * are under way at a time, each over a connection of its own: nothing else happens to the head meanwhile.
 * @throws the signal's reason; LifeboatError as buildIndexes: what was built by then is off the list
 */
export async function buildDeferred(
  { socket, catalog, deferred }: WaitingIndexes,
  built: (indexes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const builds: Build[] = [];
  for (const [uuid, specs] of deferred.entries) {
    signal.throwIfAborted();
    const collection = catalog.get(uuid);
    if (collection && specs.length > 0) refuseShadowed({ catalog }, collection);
    const missing = collection ? await removeOthers(socket, collection, specs) : [];
    built(specs.length - missing.length);
    if (collection && missing.length > 0) builds.push(...(await buildsOf(socket, uuid, collection, missing)));
    else await deferred.removeCollection(uuid);
  }
  builds.sort((a, b) => b.bytes * b.specs.length - a.bytes * a.specs.length);
  const left = new Map<string, number>();
  for (const { uuid } of builds) left.set(uuid, (left.get(uuid) ?? 0) + 1);
  const waiting = builds.values();
  const writing = new Turns();
  await overConnections(socket, Math.min(BUILDS_AT_ONCE, builds.length), signal, async (own, ended) => {
    for (const { uuid, collection, specs } of waiting) {
      ended.throwIfAborted();
      await buildIndexes(own, collection, specs, ended);
      built(specs.length);
      const others = (left.get(uuid) ?? 0) - 1;
      left.set(uuid, others);
      if (others === 0) await writing.run(() => deferred.removeCollection(uuid));
    }
  });
}

/** Of the indexes that a collection is to have, those that it has not; what it has of their names is dropped. */
async function removeOthers(
  socket: HeadSocket,
  collection: HeadCollection,
  specs: readonly Buffer[],
): Promise<readonly Buffer[]> {
  if (specs.length === 0) return [];
  const present = new Map((await readIndexes(socket, collection)).map((spec) => [indexName(spec), spec]));
  const missing = specs.filter((spec) => !present.get(indexName(spec))?.equals(spec));
  for (const spec of missing) {
    if (present.has(indexName(spec))) await dropIndex(socket, collection, indexName(spec));
  }
  return missing;
}

async function buildsOf(
  socket: HeadSocket,
  uuid: string,
  collection: HeadCollection,
  specs: readonly Buffer[],
): Promise<readonly Build[]> {
  const ns = namespaceOf(collection);
  // An estimate reads no documents (dbcommands.cpp, CmdDatasize).
  const reply = await socket.command(collection.db, { dataSize: ns, estimate: true });
  const bytes = Number(replyValues(succeeded(reply, `asking for the size of ${ns}`))['size']);
  const parts = bytes > LARGE_BYTES ? Math.min(BUILDS_AT_ONCE, specs.length) : 1;
  return Array.from({ length: parts }, (_, part) => ({
    uuid,
    collection,
    specs: specs.filter((_spec, index) => index % parts === part),
    bytes,
  }));
}

/** What a `collMod` asks of an index: `{name | keyPattern, …}`; see changedSpec. */
export interface IndexChange {
  readonly matches: (spec: Buffer) => boolean;
  readonly apply: (spec: Buffer) => Buffer;
}

/** Reads the `index` part of a `collMod`, at `offset`. */
export function indexChange(buffer: Buffer, offset: number): IndexChange {
  const part = buffer.subarray(offset, offset + documentLength(buffer, offset));
  const name = findElement(part, 'name');
  const pattern = findElement(part, 'keyPattern');
  return {
    matches(spec) {
      if (name) return indexName(spec) === stringValue(part, name);
      const key = findElement(spec, 'key');
      return pattern !== undefined && key !== undefined && valueBytes(spec, key).equals(valueBytes(part, pattern));
    },
    apply: (spec) => changedSpec(spec, part),
  };
}

/**
 * A spec as the server's catalog holds it after a collMod (coll_mod_index.cpp): a flag that is taken away is left out,
 * and a number of seconds is a 64-bit one.
 */
function changedSpec(spec: Buffer, change: Buffer): Buffer {
  let changed = spec;
  const set = (field: string, value?: Buffer): void => {
    changed = document(...elementsWithout(changed, [field]), ...(value ? [value] : []));
  };
  const flag = (field: string, on: boolean): void =>
    set(field, on ? element(BsonType.boolean, field, Buffer.from([1])) : undefined);
  for (const one of elements(change)) {
    const on = change[one.valueStart] !== 0;
    switch (elementName(change, one)) {
      case 'expireAfterSeconds': {
        const seconds = BSON.deserialize(document(change.subarray(one.start, one.end)))['expireAfterSeconds'] as number;
        const value = Buffer.alloc(8);
        value.writeBigInt64LE(BigInt(Math.trunc(seconds)));
        set('expireAfterSeconds', element(BsonType.int64, 'expireAfterSeconds', value));
        break;
      }
      case 'hidden':
        flag('hidden', on);
        break;
      case 'prepareUnique':
        flag('prepareUnique', on);
        break;
      case 'unique':
        flag('prepareUnique', false);
        flag('unique', on);
        break;
      case 'forceNonUnique':
        flag('unique', !on);
        break;
      default:
    }
  }
  return changed;
}
