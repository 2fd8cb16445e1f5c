/** Filling a new head: collections as they were listed, and slices of their documents as raw bytes. */
import { isShadowed } from './shadowed.ts';
import { BsonType, documentLength, elements, findElement } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { isCapped, OpBatch, type OpTarget } from './batch.ts';
import {
  booleanElement,
  document,
  documentArray,
  element,
  elementsWithout,
  stringElement,
  uuidElement,
} from './bytes.ts';
import { namespaceOf, type HeadCollection } from './catalog.ts';
import type { HeadConnection } from './connections.ts';
import { documentEntry } from './entry.ts';
import { anew, isRefusedInPlace, isStoredAsGiven } from './exact.ts';
import { exactly } from './exactly.ts';
import { indexName, isSecondary } from './indexes.ts';
import type { OpenHead } from './open-head.ts';
import { succeeded } from './socket.ts';

/** A collection of the source. */
export interface CollectionToMake extends HeadCollection {
  /** `options` of listCollections, raw. */
  readonly options: Buffer;
  /** Specs of listIndexes, raw. */
  readonly indexes: readonly Buffer[];
}

/** Every mongod makes this collection itself, with a UUID of its own. */
export const VERSION_NS = 'admin.system.version';

/** How many collections one command makes. */
const CREATE_BATCH = 100;

/**
 * Makes the collections that are not there yet, with the source's UUIDs; their secondary indexes are put on the list of
 * those that wait.
 */
export async function makeCollections(head: OpenHead, wanted: readonly CollectionToMake[]): Promise<void> {
  const missing = wanted.filter((one) => !head.catalog.get(one.uuid) && namespaceOf(one) !== VERSION_NS);
  for (let at = 0; at < missing.length; at += CREATE_BATCH) {
    const group = missing.slice(at, at + CREATE_BATCH);
    // First: a collection that is there has its indexes on the list.
    for (const { uuid, indexes } of group) {
      await head.deferred.put(uuid, indexes.filter(isSecondary), { journaled: false });
    }
    const command = document(
      element(BsonType.array, 'applyOps', documentArray(group.map(createOperation))),
      booleanElement('allowAtomic', false),
      booleanElement('alwaysUpsert', false),
    );
    succeeded(await head.socket.raw('admin', command), `making collections of ${head.label}`);
  }
  for (const db of new Set(missing.map((one) => one.db))) await head.catalog.readDatabase(head.socket, db);
  const absent = missing.find((one) => head.catalog.get(one.uuid)?.name !== one.name);
  if (absent)
    throw new LifeboatError('Internal', `${namespaceOf(absent)} could not be made on the head of ${head.label}`);
}

function createOperation({ uuid, db, name, options, indexes }: CollectionToMake): Buffer {
  const idIndex = indexes.find((spec) => indexName(spec) === '_id_' && !findElement(spec, 'clustered'));
  const o = document(
    stringElement('create', name),
    // A standalone drops temporary collections when it starts.
    ...elementsWithout(options, ['temp']),
    ...(idIndex ? [element(BsonType.object, 'idIndex', document(...elementsWithout(idIndex, ['ns'])))] : []),
  );
  return document(
    stringElement('op', 'c'),
    stringElement('ns', `${db}.$cmd`),
    uuidElement('ui', Buffer.from(uuid, 'hex')),
    element(BsonType.object, 'o', o),
  );
}

/** Drops a collection and makes it anew: what was loaded belongs to a reading that was given up. */
export async function remakeCollection(head: OpenHead, wanted: CollectionToMake): Promise<void> {
  const known = head.catalog.get(wanted.uuid);
  if (!known) return;
  succeeded(await head.socket.command(known.db, { drop: known.name }), `emptying ${namespaceOf(known)}`);
  head.catalog.delete(wanted.uuid);
  await makeCollections(head, [wanted]);
}

/** What the server takes in one `insert`: documents, and bytes well below the 48 MB of a message. */
const INSERT_DOCUMENTS = 100_000;
const INSERT_BYTES = 40 * 1024 * 1024;

/** Documents for one `insert`, as stretches of the bytes they came in: none is copied, or made an object of. */
class Stretches {
  readonly #documents: Buffer;
  readonly #stretches: { from: number; to: number }[] = [];
  #count = 0;
  #bytes = 0;

  constructor(documents: Buffer) {
    this.#documents = documents;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get buffers(): Buffer[] {
    return this.#stretches.map(({ from, to }) => this.#documents.subarray(from, to));
  }

  hasRoomFor(bytes: number): boolean {
    return this.isEmpty || (this.#count < INSERT_DOCUMENTS && this.#bytes + bytes <= INSERT_BYTES);
  }

  add(from: number, to: number): void {
    const last = this.#stretches.at(-1);
    if (last?.to === from) last.to = to;
    else this.#stretches.push({ from, to });
    this.#count += 1;
    this.#bytes += to - from;
  }

  /** Each document by itself, in order. */
  documents(): Buffer[] {
    const found: Buffer[] = [];
    for (const { from, to } of this.#stretches) {
      for (let at = from; at < to;) {
        const end = at + documentLength(this.#documents, at);
        found.push(this.#documents.subarray(at, end));
        at = end;
      }
    }
    return found;
  }
}

/**
 * Loads documents (raw, concatenated); one whose `_id` is there already takes its place. Most go by `insert`, which is
 * several times faster than `applyOps`. But it moves `_id` to the front, sets the time of day for a Timestamp(0,0) and
 * refuses what a client may not write: those go by `applyOps`, which stores the bytes it is given. A capped collection
 * gets its documents in their order, which tells what it loses next.
 */
export async function loadDocuments(on: HeadConnection, target: OpTarget, documents: Buffer): Promise<void> {
  const inOrder = isCapped(target);
  let inserts = new Stretches(documents);
  let exact: Buffer[] = [];
  const apply = async (): Promise<void> => {
    await applyDocuments(on, target, exact);
    exact = [];
  };
  const insert = async (): Promise<void> => {
    exact.push(...(await insertDocuments(on, target, inserts)));
    inserts = new Stretches(documents);
    if (inOrder) await apply();
  };
  for (let at = 0; at < documents.length;) {
    const end = at + documentLength(documents, at);
    if (!('db' in target) || !isStoredAsGiven(documents, at)) {
      if (inOrder && !inserts.isEmpty) await insert();
      exact.push(documents.subarray(at, end));
    } else {
      if (inOrder) await apply();
      if (!inserts.hasRoomFor(end - at)) await insert();
      inserts.add(at, end);
    }
    at = end;
  }
  await insert();
  await apply();
}

const INVALID_NAMESPACE = 73;

/**
 * Gives the documents that were refused: there already, or not allowed to a client. Of a capped collection also all behind
 * the first of them, which were not tried.
 */
async function insertDocuments(
  { head, socket }: HeadConnection,
  target: OpTarget,
  inserts: Stretches,
): Promise<Buffer[]> {
  if (inserts.isEmpty || !('db' in target)) return [];
  // By its name they would become measurements of the time series.
  if (isShadowed(head, target)) return inserts.documents();
  const ordered = isCapped(target);
  const command = document(
    stringElement('insert', target.name),
    booleanElement('ordered', ordered),
    booleanElement('bypassDocumentValidation', true),
  );
  const reply = await socket.raw(target.db, command, { field: 'documents', documents: inserts.buffers });
  if (reply.code === INVALID_NAMESPACE) return inserts.documents();
  head.refuseTrouble(reply);
  const { body } = succeeded(reply, `loading ${namespaceOf(target)}`);
  const errors = findElement(body, 'writeErrors');
  if (!errors) return [];
  const documents = inserts.documents();
  const refused: Buffer[] = [];
  for (const one of elements(body, errors.valueStart)) {
    const index = findElement(body, 'index', one.valueStart);
    const at = index && body.readInt32LE(index.valueStart);
    if (ordered) return documents.slice(at);
    const found = at === undefined ? undefined : documents[at];
    if (found) refused.push(found);
  }
  return refused;
}

/** More than an operation takes besides its document, and the one that takes another away before it. */
const ROOM = 4_096;

async function applyDocuments(
  on: HeadConnection,
  target: OpTarget,
  documents: readonly Buffer[],
  inPlace = true,
): Promise<void> {
  if (documents.length === 0) return;
  const batch = new OpBatch();
  const send = async (): Promise<void> => {
    const reply = await on.socket.send(batch.message({ atomic: false }));
    if (isRefusedInPlace(reply.code) && inPlace) {
      const again = batch.ops.filter(({ entry }) => entry.op === 'i').map(({ entry }) => entry.buffer);
      batch.clear();
      return applyDocuments(on, target, again, false);
    }
    on.head.refuseTrouble(reply);
    succeeded(reply, `loading ${'db' in target ? namespaceOf(target) : target.ns}`);
    batch.clear();
  };
  for (const one of documents) {
    if (!batch.isEmpty && !batch.fits(2, one.length + ROOM)) await send();
    const insert = documentEntry('i', one);
    const operations = inPlace ? await exactly(on, target, insert) : anew(insert);
    for (const entry of operations) batch.add({ entry, at: entry, target });
  }
  await send();
}
