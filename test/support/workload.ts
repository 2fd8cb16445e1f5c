/**
 * Writers on a replica set, as many as a busy application has, with everything that finds its way into an oplog.
 *
 * The choices come from a seed; how the writers interleave does not. Writers of documents go on all the time; the one
 * that changes the catalog can be held, since no server can tell what its catalog was.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Binary, MongoClient, Timestamp, type ClientSession, type Collection, type Db, type Document } from 'mongodb';
import { inTurn, type InTurn } from './in-turn.ts';
import type { Random } from './random.ts';
import { abilitiesOf, hasCode, item, type Abilities, type BaseSize } from './workload-data.ts';

export interface WritersOptions {
  readonly random: Random;
  readonly base: BaseSize;
  /** Clients that write documents, besides the one that changes the catalog. */
  readonly writers?: number;
  /** Milliseconds between two steps of a writer: with 0 a small machine does nothing else any more. */
  readonly pauseMs?: number;
  /** False leaves the catalog alone. */
  readonly catalog?: boolean;
}

export interface Writers {
  /** Steps taken, by name. */
  readonly counts: ReadonlyMap<string, number>;
  /** Ends what changes the catalog after the step in hand, so that it stands still until `resumeCatalog`. */
  holdCatalog(): Promise<void>;
  resumeCatalog(): void;
  /** Waits until `steps` more steps were taken; fails when a writer has. */
  takeSteps(steps: number): Promise<void>;
  /** Ends all writers; rejects with the first error that one of them met. */
  stop(): Promise<ReadonlyMap<string, number>>;
}

type Numbered = Document & { readonly _id: number };

interface Hand {
  readonly client: MongoClient;
  readonly base: Db;
  readonly items: Collection<Numbered>;
  readonly random: Random;
  readonly ids: number;
  /** An `_id` that nobody else inserts. */
  fresh(): number;
  /**
   * What inserts into a capped collection: which of two inserts at once comes first there is no matter of entries, members of
   * a set differ in it among themselves.
   */
  readonly toCapped: InTurn;
}

type Step = (hand: Hand) => Promise<unknown>;

/** What happens to a writer on a collection that another one drops, renames or builds an index on: it goes on. */
const WAYS_OF_LIFE = new Set([
  26, // NamespaceNotFound
  27, // IndexNotFound
  48, // NamespaceExists
  85, // IndexOptionsConflict
  86, // IndexKeySpecsConflict
  112, // WriteConflict
  117, // ConflictingOperationInProgress
  175, // QueryPlanKilled
  246, // SnapshotUnavailable
  251, // NoSuchTransaction
  276, // IndexBuildAborted
  11000, // DuplicateKey
  12587, // BackgroundOperationInProgressForNamespace
]);

class Rollback extends Error {}

/** Runs `work` in a transaction; a `Rollback` thrown in it aborts the transaction and is no error. */
async function transact({ client }: Hand, work: (session: ClientSession) => Promise<unknown>): Promise<void> {
  const session = client.startSession();
  try {
    await session.withTransaction(() => work(session));
  } catch (error) {
    if (!(error instanceof Rollback)) throw error;
  } finally {
    await session.endSession();
  }
}

/** More than fits one oplog entry. */
const LARGE_PART = 6 * 1024 * 1024;

/** A collection of those that come and go. */
function moving({ client, random }: Hand): Collection {
  return client.db('moving').collection(`c${random.below(4)}`);
}

const documentSteps: Record<string, { readonly weight: number; readonly step: Step }> = {
  insert: { weight: 10, step: (h) => h.items.insertOne(item(h.random, h.fresh())) },
  insertMany: {
    weight: 4,
    step: (h) => h.items.insertMany(Array.from({ length: 30 }, () => item(h.random, h.fresh()))),
  },
  set: {
    weight: 10,
    step: (h) => h.items.updateOne(any(h), { $set: { stock: h.random.below(100), 'nested.10': h.random.below(9) } }),
  },
  increment: { weight: 8, step: (h) => h.items.updateOne(any(h), { $inc: { stock: 1, 'nested.b': 1, price: 0.1 } }) },
  setZeroTimestamp: {
    weight: 1,
    step: (h) => h.items.updateOne(any(h), { $set: { zero: new Timestamp({ t: 0, i: 0 }) } }),
  },
  unset: { weight: 3, step: (h) => h.items.updateOne(any(h), { $unset: { text: 1, 'nested.2': 1 } }) },
  push: {
    weight: 6,
    step: (h) =>
      h.items.updateOne(any(h), {
        $push: { lines: { $each: [{ n: 1, quantity: 2, note: null }], $position: h.random.below(3), $slice: 20 } },
      } as Document),
  },
  pull: {
    weight: 4,
    step: (h) => h.items.updateOne(any(h), { $pull: { lines: { quantity: h.random.below(10) } } } as Document),
  },
  editArray: {
    weight: 5,
    step: (h) =>
      h.items.updateOne(
        { ...any(h), 'lines.1': { $exists: true } },
        { $set: { 'lines.1.quantity': 99, 'lines.0.note': 'n' } },
      ),
  },
  addToSet: { weight: 3, step: (h) => h.items.updateOne(any(h), { $addToSet: { tags: `tag-${h.random.below(30)}` } }) },
  rename: { weight: 2, step: (h) => h.items.updateOne(any(h), { $rename: { sku: `sku${h.random.below(3)}` } }) },
  pipeline: {
    weight: 2,
    step: (h) =>
      h.items.updateOne(any(h), [
        { $set: { total: { $multiply: ['$price', 2] }, lines: { $reverseArray: { $ifNull: ['$lines', []] } } } },
      ]),
  },
  replace: {
    weight: 5,
    step: (h) => {
      const _id = h.random.below(h.ids);
      return h.items.replaceOne({ _id }, item(h.random, _id));
    },
  },
  upsert: {
    weight: 3,
    step: (h) => h.items.updateOne({ _id: h.fresh() }, { $set: { upserted: true } }, { upsert: true }),
  },
  updateMany: { weight: 1, step: (h) => h.items.updateMany({ stock: h.random.below(100) }, { $inc: { touched: 1 } }) },
  delete: { weight: 6, step: (h) => h.items.deleteOne(any(h)) },
  deleteMany: { weight: 1, step: (h) => h.items.deleteMany({ _id: { $gt: h.ids }, stock: { $lt: 5 } }) },
  deleteAndInsertAgain: {
    weight: 4,
    step: async (h) => {
      const _id = h.random.below(h.ids);
      await h.items.deleteOne({ _id });
      await h.items.updateOne({ _id }, { $set: { again: h.random.next() } }, { upsert: true });
    },
  },
  findAndModify: {
    weight: 4,
    step: (h) => h.items.findOneAndUpdate(any(h), { $inc: { found: 1 } }, { returnDocument: 'after' }),
  },
  findAndRemove: { weight: 1, step: (h) => h.items.findOneAndDelete(any(h)) },
  moveUniqueKey: {
    weight: 6,
    step: async (h) => {
      const unique = h.base.collection<Numbered>('unique');
      const [from, to, key] = [h.random.below(200), h.random.below(200), h.random.below(200)];
      await unique.updateMany({ key }, { $set: { key: -h.fresh() } });
      await unique.updateOne({ _id: h.random.chance(0.5) ? from : to }, { $set: { key } });
    },
  },
  swapUniqueKeys: {
    weight: 2,
    step: (h) =>
      transact(h, async (session) => {
        const unique = h.base.collection<Numbered>('unique');
        const [a, b] = [h.random.below(200), h.random.below(200)];
        const x = await unique.findOneAndUpdate({ _id: a }, { $set: { key: -h.fresh() } }, { session });
        const y = await unique.findOneAndUpdate({ _id: b }, { $set: { key: -h.fresh() } }, { session });
        if (a === b || !x || !y) throw new Rollback();
        await unique.updateOne({ _id: a }, { $set: { key: y['key'] } }, { session });
        await unique.updateOne({ _id: b }, { $set: { key: x['key'] } }, { session });
      }),
  },
  transaction: {
    weight: 6,
    step: (h) =>
      transact(h, async (session) => {
        await h.items.insertOne(item(h.random, h.fresh()), { session });
        await h.items.updateOne(any(h), { $inc: { stock: -1 } }, { session });
        await h.base
          .collection<Numbered>('clustered')
          .updateMany({ n: h.random.below(200) }, { $inc: { v: 1 } }, { session });
        await h.items.deleteOne(any(h), { session });
      }),
  },
  slowTransaction: {
    weight: 1,
    step: (h) =>
      transact(h, async (session) => {
        await h.items.updateOne(any(h), { $set: { slow: 1 } }, { session });
        await delay(200);
        await h.items.insertOne(item(h.random, h.fresh()), { session });
      }),
  },
  abortedTransaction: {
    weight: 3,
    step: (h) =>
      transact(h, async (session) => {
        await h.items.insertOne(item(h.random, h.fresh()), { session });
        throw new Rollback();
      }),
  },
  largeTransaction: {
    weight: 0.15,
    step: (h) =>
      transact(h, async (session) => {
        const parts = h.base.collection<Numbered>('parts');
        const first = h.fresh();
        for (const n of [0, 1, 2]) {
          const part = new Binary(h.random.bytes(LARGE_PART));
          await parts.replaceOne({ _id: n }, { first, part }, { session, upsert: true });
        }
        if (h.random.chance(0.3)) throw new Rollback();
      }),
  },
  capped: {
    weight: 4,
    step: (h) =>
      h.toCapped(() =>
        h.base.collection<Numbered>('capped').insertOne({ _id: h.fresh(), text: `line ${h.random.below(1_000)}` }),
      ),
  },
  series: {
    weight: 4,
    step: (h) =>
      h.base.collection('series').insertMany(
        Array.from({ length: 5 }, () => ({
          at: new Date(1.7e12 + h.random.below(1e9)),
          sensor: h.random.below(5),
          value: h.random.below(100),
        })),
      ),
  },
  clustered: {
    weight: 3,
    step: (h) =>
      h.base
        .collection<{ _id: string }>('clustered')
        .updateOne({ _id: `k${h.random.below(300)}` }, { $inc: { n: 1 } }, { upsert: true }),
  },
  collated: {
    weight: 2,
    step: (h) =>
      h.base
        .collection<{ _id: string }>('collated')
        .updateOne({ _id: `CLÉ-${h.random.below(100)}` }, { $inc: { n: 1 } }),
  },
  images: {
    weight: 1,
    step: (h) => h.base.collection<Numbered>('images').updateOne({ _id: h.random.below(20) }, { $inc: { n: 1 } }),
  },
  tiny: {
    weight: 3,
    step: (h) => h.base.collection<Numbered>('tiny').updateOne({ _id: h.random.below(5_000) }, { $inc: { n: 1 } }),
  },
  movingTarget: {
    weight: 6,
    step: (h) => moving(h).insertOne({ n: h.random.below(100), at: new Date() }),
  },
  movingTargetUpdate: {
    weight: 3,
    step: (h) => moving(h).updateMany({ n: h.random.below(100) }, { $inc: { n: 1 } }),
  },
};

function any({ random, ids }: Hand): { _id: number } {
  return { _id: random.below(ids) };
}

const catalogSteps: Record<string, { readonly weight: number; readonly step: Step }> = {
  create: { weight: 2, step: (h) => h.client.db('moving').createCollection(`made${h.random.below(6)}`) },
  createWithOptions: {
    weight: 1,
    step: (h) =>
      h.client
        .db('moving')
        .createCollection(`c${h.random.below(4)}`, { collation: { locale: h.random.pick(['de', 'fr', 'en']) } }),
  },
  drop: { weight: 2, step: (h) => moving(h).drop() },
  dropMade: { weight: 1, step: (h) => h.client.db('moving').dropCollection(`made${h.random.below(6)}`) },
  dropAndCreateAgain: {
    weight: 2,
    step: async (h) => {
      const name = `c${h.random.below(4)}`;
      await h.client.db('moving').dropCollection(name);
      await h.client
        .db('moving')
        .collection(name)
        .insertMany([{ n: 1 }, { n: 2 }]);
    },
  },
  renameCollection: {
    weight: 2,
    step: (h) => {
      const from = h.random.below(4);
      const to = (from + 1 + h.random.below(7)) % 8;
      return h.client.db('moving').renameCollection(`c${from}`, `c${to}`, { dropTarget: h.random.chance(0.5) });
    },
  },
  renameAcross: {
    weight: 0.5,
    step: (h) =>
      h.client.db('admin').command({
        renameCollection: `moving.c${h.random.below(8)}`,
        to: `elsewhere.c${h.random.below(3)}`,
        dropTarget: true,
      }),
  },
  index: {
    weight: 3,
    step: (h) => moving(h).createIndex({ n: h.random.pick([1, -1]), [h.random.pick(['at', 'x'])]: 1 }),
  },
  uniqueIndex: { weight: 1, step: (h) => moving(h).createIndex({ at: 1, _id: 1 }, { unique: true, name: 'unique' }) },
  indexOnItems: {
    weight: 1,
    step: (h) => h.items.createIndex({ [h.random.pick(['stock', 'price', 'found'])]: 1 }, { name: 'comes and goes' }),
  },
  dropIndexOfItems: { weight: 1, step: (h) => h.items.dropIndex('comes and goes') },
  dropIndexes: { weight: 1, step: (h) => moving(h).dropIndexes() },
  collModTtl: {
    weight: 1,
    step: (h) =>
      h.base.command({
        collMod: 'mortal',
        index: { name: 'at_1', expireAfterSeconds: 86_400 * (300 + h.random.below(60)) },
      }),
  },
  collModHidden: {
    weight: 1,
    step: (h) => h.base.command({ collMod: 'items', index: { name: 'tags_1', hidden: h.random.chance(0.5) } }),
  },
  collModValidator: {
    weight: 1,
    step: (h) => h.base.command({ collMod: 'validated', validator: { n: { $gte: h.random.below(5) } } }),
  },
  view: {
    weight: 1,
    step: async (h) => {
      await h.client.db('moving').dropCollection('view');
      await h.client
        .db('moving')
        .createCollection('view', { viewOn: 'c1', pipeline: [{ $match: { n: h.random.below(100) } }] });
    },
  },
  convertToCapped: {
    weight: 0.5,
    step: (h) => h.client.db('moving').command({ convertToCapped: `made${h.random.below(6)}`, size: 4_096 }),
  },
  createSeries: {
    weight: 0.5,
    step: async (h) => {
      await h.client.db('moving').dropCollection('series');
      await h.client.db('moving').createCollection('series', { timeseries: { timeField: 'at' } });
      await h.client.db('moving').collection('series').insertOne({ at: new Date(), v: 1 });
    },
  },
  dropDatabase: { weight: 0.5, step: (h) => h.client.db('elsewhere').dropDatabase() },
  createInTransaction: {
    weight: 1,
    step: (h) =>
      transact(h, async (session) => {
        const made = `made${h.random.below(6)}`;
        await h.client.db('moving').createCollection(made, { session });
        await h.client.db('moving').collection(made).createIndex({ n: 1 }, { session });
        await h.client.db('moving').collection(made).insertOne({ n: 1 }, { session });
      }),
  },
  user: {
    weight: 1,
    step: async (h) => {
      const name = `user${h.random.below(3)}`;
      const { users } = await h.base.command({ usersInfo: name });
      if (users.length > 0) await h.base.command({ dropUser: name });
      else
        await h.base.command({
          createUser: name,
          pwd: 'nothing secret',
          roles: ['read'],
          mechanisms: ['SCRAM-SHA-256'],
        });
    },
  },
};

type Steps = typeof documentSteps;

const OF_SERIES = ['series', 'createSeries'];
const OF_HIDDEN = ['collModHidden', 'createInTransaction'];

/** The steps that a server can take. */
function within(steps: Steps, can: Abilities): Steps {
  const cannot = [...(can.series ? [] : OF_SERIES), ...(can.hidden ? [] : OF_HIDDEN)];
  return Object.fromEntries(Object.entries(steps).filter(([name]) => !cannot.includes(name)));
}

function choose(steps: Steps, random: Random): [string, Step] {
  const total = Object.values(steps).reduce((sum, { weight }) => sum + weight, 0);
  let at = (random.next() / 0x1_0000_0000) * total;
  for (const [name, { weight, step }] of Object.entries(steps)) {
    at -= weight;
    if (at < 0) return [name, step];
  }
  throw new Error('the weights do not add up');
}

/** Starts writers on the data of `fillBase`; they write until they are stopped. */
export async function startWriters(uri: string, options: WritersOptions): Promise<Writers> {
  const { random, base, writers = 3, pauseMs = 5, catalog = true } = options;
  // A 4.4 answers by itself to what asks for nothing: a snapshot at the set's optime need not hold the last of it.
  const client = await MongoClient.connect(uri, { retryWrites: true, w: 'majority' });
  const can = await abilitiesOf(client);
  const [ofDocuments, ofCatalog] = [within(documentSteps, can), within(catalogSteps, can)];
  const counts = new Map<string, number>();
  const abort = new AbortController();
  let nextId = base.items;
  let taken = 0;
  let held = Promise.resolve();
  let letGo = (): void => undefined;
  let catalogAtRest: Promise<unknown> = Promise.resolve();
  let failure: unknown;
  const toCapped = inTurn();

  const hand = (): Hand => ({
    client,
    base: client.db('base'),
    items: client.db('base').collection<Numbered>('items'),
    random: random.fork(),
    ids: base.items,
    fresh: () => nextId++,
    toCapped,
  });
  const takeOne = async (own: Hand, steps: Steps): Promise<void> => {
    const [name, step] = choose(steps, own.random);
    try {
      await step(own);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    } catch (error) {
      if (!hasCode(error, WAYS_OF_LIFE)) throw new Error(`the writer failed at "${name}"`, { cause: error });
    }
    taken++;
  };
  const writeDocuments = async (): Promise<void> => {
    const own = hand();
    while (!abort.signal.aborted) {
      await takeOne(own, ofDocuments);
      await delay(pauseMs);
    }
  };
  const changeCatalog = async (): Promise<void> => {
    const own = hand();
    while (!abort.signal.aborted) {
      await held;
      const step = takeOne(own, ofCatalog);
      catalogAtRest = step.catch(() => undefined);
      await step;
      await delay(pauseMs * 8);
    }
  };
  const note = (error: unknown): void => {
    failure ??= error;
    abort.abort();
  };
  const loops = [
    ...Array.from({ length: writers }, () => writeDocuments().catch(note)),
    ...(catalog ? [changeCatalog().catch(note)] : []),
  ];
  return {
    counts,
    async holdCatalog() {
      held = new Promise((settle) => (letGo = settle));
      await catalogAtRest;
    },
    resumeCatalog: () => letGo(),
    async takeSteps(steps) {
      const goal = taken + steps;
      while (taken < goal && failure === undefined) await delay(10);
      if (failure !== undefined) throw failure;
    },
    async stop() {
      abort.abort();
      letGo();
      await Promise.all(loops);
      await client.close();
      if (failure !== undefined) throw failure;
      return counts;
    },
  };
}
