/** Doing the operations of a workload on a replica set. What a server refuses is no failure: it is what the seed asked for. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  MongoBulkWriteError,
  MongoServerError,
  WriteConcern,
  type AnyBulkWriteOperation,
  type ClientSession,
  type Collection,
  type Document,
  type MongoClient,
} from 'mongodb';
import type { MongodAddress } from '../../src/mongod/process.ts';
import { HandTransaction } from '../support/hand-transaction.ts';
import type { InTurn } from '../support/in-turn.ts';
import { oddShapes } from '../support/odd-documents.ts';
import { Random } from '../support/random.ts';
import { int32, RawWire, rawDocument, RefusedByServer } from '../support/raw-wire.ts';
import type {
  DocumentOperation,
  Grouped,
  HeldIndex,
  Namespace,
  Operation,
  Prepared,
  Transaction,
} from './operations.ts';
import { changeOf, contentOf, filterOf, idOf, INDEXES, modificationOf, optionsOf } from './values.ts';

/** Where operations are done. */
export interface Target {
  readonly client: MongoClient;
  /** Address of the primary, for what the driver would not send. */
  readonly primary: MongodAddress;
  /**
   * Whether nothing is pushed out of a capped collection. An insert that a 4.4 refuses pushes out nevertheless, and no
   * entry tells of it (tried on 4.4.2; 6.0.5 does not): there such a source cannot be followed, not by its own members either.
   */
  readonly isRoomy: boolean;
  /**
   * Renames from one database to another go one after the other: two in opposite directions wait for each other for ever
   * (seen on 6.0.5: each holds the database of its source and wants the other's whole; rename_collection.cpp).
   */
  readonly acrossDatabases: InTurn;
}

/** Done, or the name of the server's reason to refuse it. */
export type Outcome = 'done' | { readonly refused: string };

type Doc = Document & { _id: unknown };

/** @throws whatever is not the server's own refusal */
export async function perform(target: Target, operation: Operation): Promise<Outcome> {
  try {
    await doIt(target, operation);
    return 'done';
  } catch (error) {
    if (error instanceof RefusedByServer) return { refused: String(error.code) };
    if (error instanceof MongoBulkWriteError) return { refused: String(error.code) };
    if (error instanceof MongoServerError) return { refused: error.codeName ?? String(error.code) };
    throw error;
  }
}

const ROOMY = { capped: true, size: 256 << 20 };

function split(ns: Namespace): { readonly db: string; readonly name: string } {
  const at = ns.indexOf('.');
  return { db: ns.slice(0, at), name: ns.slice(at + 1) };
}

function collectionOf({ client }: Target, ns: Namespace): Collection<Doc> {
  const { db, name } = split(ns);
  return client.db(db).collection<Doc>(name);
}

async function doIt(target: Target, operation: Operation): Promise<unknown> {
  const { client } = target;
  switch (operation.kind) {
    case 'insert':
    case 'update':
    case 'replace':
    case 'delete':
    case 'findAndModify':
    case 'moveKey':
      return onDocuments(target, operation);
    case 'insertExactly':
      return insertExactly(target, operation);
    case 'transaction':
      return transact(target, operation);
    case 'prepared':
      return prepare(target, operation);
    case 'series':
      return collectionOf(target, operation.ns).insertMany(
        Array.from({ length: operation.count }, (_, n) => seriesDocument(operation.salt + n)) as Doc[],
      );
    case 'modifySeries': {
      const { ns, meta, to } = operation;
      const series = collectionOf(target, ns);
      return to === null ? series.deleteMany({ meta }) : series.updateMany({ meta }, { $set: { meta: to } });
    }
    case 'grouped':
      return group(target, operation);
    case 'create': {
      const { db, name } = split(operation.ns);
      const options = optionsOf(operation.as, operation.salt);
      return client.db(db).createCollection(name, target.isRoomy && options['capped'] === true ? ROOMY : options);
    }
    case 'drop':
      return collectionOf(target, operation.ns).drop();
    case 'dropDatabase':
      return client.db(operation.db).dropDatabase();
    case 'rename': {
      const { from, to, dropTarget } = operation;
      const rename = (): Promise<unknown> => client.db('admin').command({ renameCollection: from, to, dropTarget });
      return split(from).db === split(to).db ? rename() : target.acrossDatabases(rename);
    }
    case 'renameInCircle':
      return renameInCircle(target, operation.db, operation.collections);
    case 'convertToCapped': {
      const { db, name } = split(operation.ns);
      const size = target.isRoomy ? ROOMY.size : operation.bytes;
      return client.db(db).command({ convertToCapped: name, size });
    }
    case 'collMod': {
      const { db, name } = split(operation.ns);
      return client.db(db).command({ collMod: name, ...modificationOf(operation.change, operation.salt) });
    }
    case 'createIndex': {
      const index = INDEXES[operation.index];
      return index && collectionOf(target, operation.ns).createIndex(index.key, index.options);
    }
    case 'heldIndex':
      return buildSlowly(target, operation);
    case 'dropIndex': {
      const index = operation.index === null ? '*' : (INDEXES[operation.index]?.options.name ?? '');
      return collectionOf(target, operation.ns).dropIndex(index);
    }
    case 'createInTransaction':
      return createInTransaction(target, operation.ns, operation.end);
    case 'user':
      return changeUser(target, operation.db, `user${operation.name}`, operation.action);
    case 'role':
      return changeRole(target, operation.db, `role${operation.name}`, operation.action);
  }
}

async function onDocuments(target: Target, operation: DocumentOperation, session?: ClientSession): Promise<unknown> {
  const collection = collectionOf(target, operation.ns);
  // What comes back need not be text that anybody can read.
  const options = { enableUtf8Validation: false, bsonRegExp: true, ...(session ? { session } : {}) };
  switch (operation.kind) {
    case 'insert': {
      const { ids, shape, salt, ordered } = operation;
      const documents = ids.map((id) => ({ _id: idOf(id), ...contentOf(shape, id, salt) }));
      return collection.insertMany(documents, { ...options, ordered: session ? true : ordered });
    }
    case 'update': {
      const { which, change, salt, many, upsert } = operation;
      const [filter, by] = [filterOf(which), changeOf(change, salt)];
      const given = { ...options, upsert };
      return many ? collection.updateMany(filter, by, given) : collection.updateOne(filter, by, given);
    }
    case 'replace': {
      const { which, shape, salt, upsert } = operation;
      const id = 'id' in which ? which.id : which.n;
      return collection.replaceOne(filterOf(which), contentOf(shape, id, salt), { ...options, upsert });
    }
    case 'delete': {
      const filter = filterOf(operation.which);
      return operation.many ? collection.deleteMany(filter, options) : collection.deleteOne(filter, options);
    }
    case 'findAndModify': {
      const filter = filterOf(operation.which);
      if (operation.as === 'remove') return collection.findOneAndDelete(filter, options);
      const by = changeOf(operation.change, operation.salt);
      return collection.findOneAndUpdate(filter, by, { ...options, returnDocument: operation.as });
    }
    case 'moveKey': {
      const filter = filterOf({ id: operation.from });
      const found = await collection.findOneAndUpdate(filter, { $unset: { key: 1 } }, options);
      const key: unknown = found?.['key'];
      if (key === undefined) return undefined;
      const moves: AnyBulkWriteOperation<Doc>[] = [
        { updateOne: { filter: filterOf({ id: operation.to }), update: { $set: { key } } } },
      ];
      return collection.bulkWrite(moves, options);
    }
  }
}

async function insertExactly(
  { primary }: Target,
  { ns, ids, salt }: { readonly ns: Namespace; readonly ids: readonly number[]; readonly salt: number },
): Promise<void> {
  const shapes = [...oddShapes().values()];
  const documents = ids.map((id) =>
    rawDocument([
      ...(salt % 3 ? [] : [[0x10, 'before', int32(salt)] as const]),
      [0x10, '_id', int32(id)],
      ...(shapes[(salt + id) % shapes.length] ?? []),
    ]),
  );
  await using wire = await RawWire.open(primary);
  await wire.insertExactly(ns, documents);
}

async function group({ client }: Target, { ns, operations, allowAtomic }: Grouped): Promise<Document> {
  const applyOps = operations.map(({ op, id, salt }) => {
    const o = op === 'd' ? { _id: idOf(id) } : { _id: idOf(id), ...contentOf('keyed', id, salt) };
    return { op, ns, ...(op === 'u' ? { o2: { _id: idOf(id) } } : {}), o };
  });
  return client.db('admin').command({ applyOps, allowAtomic });
}

/** Until it is `off` again a server holds every build of an index, and does not end while there is one. */
export async function holdBuilds(client: MongoClient, mode: 'alwaysOn' | 'off'): Promise<void> {
  await client.db('admin').command({ configureFailPoint: 'hangAfterStartingIndexBuild', mode });
}

/** The server holds all builds meanwhile, with what they hold: who wants to drop their collection waits. */
async function buildSlowly(target: Target, { ns, index: at, heldMs }: HeldIndex): Promise<void> {
  const index = INDEXES[at];
  if (!index) throw new Error(`there is no index ${at}`);
  await holdBuilds(target.client, 'alwaysOn');
  const building = collectionOf(target, ns).createIndex(index.key, index.options);
  try {
    await Promise.race([Promise.allSettled([building]), delay(heldMs)]);
  } finally {
    await holdBuilds(target.client, 'off');
  }
  await building;
}

/** More of it than fits one entry. */
const PART_BYTES = 6 * 1024 * 1024;

/** Does `work` in a transaction that ends in that way, or is aborted when the work fails. */
async function inTransaction(
  client: MongoClient,
  end: Transaction['end'],
  work: (session: ClientSession) => Promise<unknown>,
): Promise<void> {
  const session = client.startSession();
  try {
    session.startTransaction({ writeConcern: new WriteConcern('majority') });
    await work(session);
    if (end === 'commit') await session.commitTransaction();
    else await session.abortTransaction();
  } catch (error) {
    if (session.inTransaction()) await session.abortTransaction();
    throw error;
  } finally {
    await session.endSession();
  }
}

async function transact(target: Target, { operations, end, largeParts, openMs }: Transaction): Promise<void> {
  const { client } = target;
  await inTransaction(client, end, async (session) => {
    for (const operation of operations) await onDocuments(target, operation, session);
    const parts = client.db('alpha').collection<{ _id: number }>('parts');
    for (let n = 0; n < largeParts; n += 1) {
      const part = new Random(n + openMs).bytes(PART_BYTES);
      await parts.replaceOne({ _id: n }, { part }, { session, upsert: true });
    }
    await delay(openMs);
  });
}

async function prepare({ primary }: Target, { ns, id, salt, end, openMs }: Prepared): Promise<void> {
  await using transaction = await HandTransaction.open(primary);
  let isBegun = false;
  try {
    for (const one of ns) {
      const { db, name } = split(one);
      const [q, u] = [{ _id: idOf(id) }, { $set: { prepared: salt, n: salt % 3 } }];
      await transaction.run(db, { update: name, updates: [{ q, u, upsert: true }] });
      isBegun = true;
    }
    await transaction.prepare();
  } catch (error) {
    // The server has ended it by itself, unless nothing failed in it.
    if (isBegun) await transaction.abort().catch(() => undefined);
    throw error;
  }
  await delay(openMs);
  await (end === 'commit' ? transaction.commit() : transaction.abort());
}

function seriesDocument(salt: number): Document {
  const random = new Random(salt);
  return { at: new Date(1.7e12 + random.below(1e8)), meta: random.below(3), value: random.below(1_000), n: salt % 5 };
}

async function renameInCircle({ client }: Target, name: string, collections: readonly string[]): Promise<void> {
  const db = client.db(name);
  const [first = '', ...others] = collections;
  await db.renameCollection(first, 'x');
  let free = first;
  for (const other of others) {
    // One that is not there leaves a gap in the circle; the others go round.
    await db.renameCollection(other, free).catch(refusal);
    free = other;
  }
  await db.renameCollection('x', free).catch(refusal);
}

function refusal(error: unknown): void {
  if (!(error instanceof MongoServerError)) throw error;
}

async function createInTransaction({ client }: Target, ns: Namespace, end: Transaction['end']): Promise<void> {
  const { db: of, name } = split(ns);
  const db = client.db(of);
  await inTransaction(client, end, async (session) => {
    await db.createCollection(name, { session });
    await db.collection(name).createIndex({ n: 1 }, { session, name: 'n_1' });
    await db.collection<Doc>(name).insertOne({ _id: 1, n: 1 }, { session });
  });
}

const SCRAM = ['SCRAM-SHA-256'];

async function changeUser({ client }: Target, db: string, name: string, action: string): Promise<unknown> {
  const of = client.db(db);
  if (action === 'drop') return of.command({ dropUser: name });
  if (action === 'update') return of.command({ updateUser: name, roles: ['readWrite'], customData: { updated: true } });
  return of.command({ createUser: name, pwd: 'nothing secret', roles: ['read'], mechanisms: SCRAM });
}

async function changeRole({ client }: Target, db: string, name: string, action: string): Promise<unknown> {
  const of = client.db(db);
  if (action === 'drop') return of.command({ dropRole: name });
  const actions = action === 'update' ? ['find', 'insert'] : ['find'];
  const privileges = [{ resource: { db, collection: 'a' }, actions }];
  return of.command({ [action === 'update' ? 'updateRole' : 'createRole']: name, privileges, roles: [] });
}
