/** Indexes of every kind, made, changed and dropped; and builds that take longer than a moment. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  MongoServerError,
  type Collection,
  type CreateIndexesOptions,
  type Document,
  type IndexSpecification,
} from 'mongodb';
import { plain, type Course, type Doc, type Place, type Scenario } from './scenario.ts';

const DUPLICATE_KEY = 11000;

async function kinds({ major }: Place, c: Collection<Doc>): Promise<void> {
  const make = async (key: IndexSpecification, options: CreateIndexesOptions = {}): Promise<void> =>
    void (await c.createIndex(key, options));
  await make({ n: 1 });
  await make({ n: -1, key: 1, 'nested.a': 1 });
  await make({ key: 1 }, { unique: true });
  await make({ sparse: 1 }, { sparse: true, unique: true });
  await make({ partial: 1 }, { partialFilterExpression: { partial: { $gt: 3 } }, unique: true });
  await make(
    { n: 1, text: 'text', 'nested.a': 'text' },
    { name: 'words', weights: { text: 3 }, default_language: 'german', language_override: 'idioma' },
  );
  await make({ place: '2dsphere', n: 1 });
  await make({ flat: '2d' }, { bits: 20, min: -500, max: 500 });
  await make({ n: 'hashed' });
  await make({ key: 1, text: 'hashed' });
  await make({ '$**': 1 }, { name: 'all', wildcardProjection: { text: 0 } });
  await make({ 'nested.$**': 1 });
  await make({ at: 1 }, { expireAfterSeconds: 1_000_000_000 });
  await make({ text: 1 }, { name: 'collated', collation: { locale: 'fr', strength: 2, backwards: true } });
  await make({ key: -1 }, { hidden: true, background: true });
  await make({ list: 1 }, { storageEngine: { wiredTiger: { configString: 'prefix_compression=false' } } });
  await c.db.command({ createIndexes: c.collectionName, indexes: [{ key: { n: 1, v: 1 }, name: 'old', v: 1 }] });
  if (major < 5) await make({ hay: 'geoHaystack', n: 1 }, { bucketSize: 5 });
}

const placed = plain().map((one) => ({
  ...one,
  at: new Date(1_900_000_000_000),
  place: { type: 'Point', coordinates: [one.n, one.n] },
  flat: [one.n, -one.n],
  partial: one.n,
}));

/** A build hangs at the document that says so; see `hold`. */
const HANGING: Doc = { _id: 'hangs', i: 77 };

/** Of two-phase builds: one that is under way from the moment it is begun until `letGo`. */
class Build {
  #ended: Promise<number | string> = Promise.resolve('not begun');

  /** Begins it and waits until it hangs: an index that is not ready is listed with an id of its build. */
  async begin({ db }: Place, collection: string, name: string, options: CreateIndexesOptions = {}): Promise<void> {
    this.#ended = db
      .collection(collection)
      .createIndex({ n: 1 }, { ...options, name })
      .then(
        () => 'built',
        // Nobody waits for it when something else goes wrong.
        (error: unknown) => (error instanceof MongoServerError ? Number(error.code) : String(error)),
      );
    for (;;) {
      const { cursor } = await db.command({ listIndexes: collection, includeBuildUUIDs: true });
      if ((cursor.firstBatch as object[]).some((one) => 'buildUUID' in one)) return;
    }
  }

  /** `built`, or what it failed with. */
  async ended(): Promise<number | string> {
    return this.#ended;
  }
}

async function hold({ major, client }: Place, isOn: boolean): Promise<void> {
  const configureFailPoint =
    major < 5 ? 'hangBeforeIndexBuildOf' : 'hangIndexBuildDuringCollectionScanPhaseBeforeInsertion';
  const data = major < 5 ? { i: 77 } : { fieldsToMatch: { i: 77 } };
  await client.db('admin').command({ configureFailPoint, ...(isOn ? { mode: 'alwaysOn', data } : { mode: 'off' }) });
}

/** Sends a command that waits for a build which it ends; settles when it has for a while, which no state of it tells. */
async function under({ db, client }: Place, command: Document): Promise<{ readonly ended: Promise<unknown> }> {
  let isEnded = false;
  const ended = db.command(command).finally(() => {
    isEnded = true;
  });
  ended.catch(() => undefined);
  const [[name, value] = ['', '']] = Object.entries(command);
  const isIt = { [`command.${name}`]: value, 'command.$db': db.databaseName, microsecs_running: { $gte: 100_000 } };
  const operations = [{ $currentOp: {} }, { $match: isIt }];
  while (!isEnded && (await client.db('admin').aggregate(operations).toArray()).length === 0) await delay(20);
  return { ended };
}

/** Builds that begin before the sync and end after it; the server goes on with all of them when the first is let go. */
function longBuilds(): { readonly builds: Build[]; readonly of: (n: number) => Build } {
  const builds = Array.from({ length: 6 }, () => new Build());
  return {
    builds,
    of(n) {
      const build = builds[n];
      if (!build) throw new Error('there is no such build');
      return build;
    },
  };
}

async function withHanging(place: Place, name: string): Promise<void> {
  await place.fill([...plain(), HANGING], name);
}

const twoPhase: Course = {
  key: 'two_phase',
  promise: 'two-phase index builds that start before the sync or in it and commit after it, or are aborted by a drop',
  course: (place) => {
    const { of, builds } = longBuilds();
    return {
      before: async () => {
        for (const name of ['early', 'late', 'dropped', 'other', 'goes', 'stays']) await withHanging(place, name);
        await place.collection('other').createIndex({ key: 1 });
        await hold(place, true);
        await of(0).begin(place, 'early', 'long');
        await of(1).begin(place, 'dropped', 'long');
        await of(4).begin(place, 'goes', 'long');
        await of(5).begin(place, 'stays', 'long');
      },
      sliced: async () => {
        await of(2).begin(place, 'late', 'long', { unique: true, sparse: true });
        await of(3).begin(place, 'other', 'long', { hidden: true });
        await place.collection('early').insertOne({ _id: 'meanwhile', n: 'meanwhile' });
      },
      routine: async () => {
        await place.collection('early').updateOne({ _id: 0 }, { $set: { n: 'now' } });
        const ends = [
          await under(place, { drop: 'goes' }),
          await under(place, { dropIndexes: 'stays', index: 'long' }),
        ];
        await hold(place, false);
        for (const end of ends) await end.ended;
        for (const [n, build] of builds.entries()) {
          const ended = await build.ended();
          if ((ended === 'built') !== n < 4) throw new Error(`build ${n} ended with ${ended}`);
        }
        await place.collection('dropped').drop();
      },
    };
  },
};

/** The failpoint is that of the other long builds: they let it go. */
const aborted: Course = {
  key: 'two_phase_abort',
  promise: 'an index build that starts before the sync and is aborted after it',
  course: (place) => {
    const build = new Build();
    return {
      before: async () => {
        await place.fill([{ _id: 'a', n: 1 }, { _id: 'b', n: 1 }, HANGING]);
        await build.begin(place, 'c', 'never', { unique: true });
      },
      copied: () => place.collection().insertOne({ _id: 'meanwhile', n: 'meanwhile' }),
      routine: async () => {
        if ((await build.ended()) !== DUPLICATE_KEY) throw new Error('the build did not fail');
      },
    };
  },
};

export const indexScenarios: readonly Scenario[] = [
  {
    key: 'index_kinds',
    promise: 'indexes of every kind, on documents and on none',
    before: async (place) => {
      await place.fill(placed);
      await place.fill(placed, 'd');
      await kinds(place, place.collection('d'));
      await place.db.createCollection('empty');
    },
    change: async (place) => {
      await kinds(place, place.collection());
      await kinds(place, place.collection('empty'));
      await kinds(place, place.collection('implicit'));
      await place.collection('empty').insertMany(placed);
      await place.collection('d').updateMany({ n: { $gt: 2 } }, { $set: { flat: [1, 1], text: 'Wörter' } });
    },
    moments: ['sliced', 'routine'],
  },
  {
    key: 'index_together',
    promise: 'several indexes of one command',
    before: (place) => place.fill(),
    change: (place) =>
      place.collection().createIndexes([{ key: { n: 1 } }, { key: { key: 1 }, unique: true }, { key: { list: 1 } }]),
  },
  {
    key: 'drop_indexes',
    promise: 'dropIndexes by name, by key, several and all of them',
    before: async (place) => {
      for (const name of ['c', 'd', 'e', 'f']) {
        await place.fill(plain(), name);
        await place.collection(name).createIndexes([{ key: { n: 1 } }, { key: { key: 1 } }, { key: { text: 1 } }]);
      }
    },
    change: async ({ db }) => {
      await db.command({ dropIndexes: 'c', index: 'n_1' });
      await db.command({ dropIndexes: 'd', index: { key: 1 } });
      await db.command({ dropIndexes: 'e', index: ['n_1', 'text_1'] });
      await db.command({ dropIndexes: 'f', index: '*' });
    },
  },
  {
    key: 'index_again',
    promise: 'an index that is dropped and made again in another form',
    before: async (place) => {
      await place.fill();
      await place.collection().createIndex({ key: 1 }, { name: 'the index', unique: true });
    },
    change: async (place) => {
      const c = place.collection();
      await c.dropIndex('the index');
      await c.updateMany({ n: { $gt: 5 } }, { $set: { key: 1 } });
      await c.createIndex({ key: 1 }, { name: 'the index' });
      await c.dropIndex('the index');
      await c.createIndex({ n: 1 }, { name: 'the index', sparse: true });
    },
  },
  {
    key: 'index_collmod',
    promise: 'an index that is changed by collMod, dropped and made again',
    before: async (place) => {
      await place.fill();
      await place.collection().createIndex({ at: 1 }, { expireAfterSeconds: 1_000_000_000 });
    },
    change: async (place) => {
      const [c, seconds] = [place.collection(), { keyPattern: { at: 1 }, expireAfterSeconds: 1_500_000_000 }];
      await place.db.command({ collMod: 'c', index: seconds });
      await c.dropIndex('at_1');
      await c.createIndex({ at: 1 }, { expireAfterSeconds: 1_100_000_000 });
      await place.db.command({ collMod: 'c', index: { name: 'at_1', hidden: true } });
      await place.db.renameCollection('c', 'd');
      await place.db.command({ collMod: 'd', index: { name: 'at_1', hidden: false } });
    },
  },
  {
    key: 'index_refused',
    promise: 'an index that its server could not build',
    before: (place) => place.fill(plain().map((one) => ({ ...one, same: 1 }))),
    change: async (place) => {
      const failed = await place
        .collection()
        .createIndex({ same: 1 }, { unique: true })
        .catch(() => 'failed');
      if (failed !== 'failed') throw new Error('the index was built');
      await place.collection().updateMany({}, [{ $set: { same: '$_id' } }]);
      await place.collection().createIndex({ same: 1 }, { unique: true });
    },
  },
  {
    key: 'multikey',
    promise: 'an index that documents with arrays come to',
    before: async (place) => {
      await place.fill();
      await place.collection().createIndex({ n: 1, 'nested.list': 1 });
    },
    change: (place) =>
      place.collection().updateMany({ n: { $in: [1, 10] } }, { $set: { n: 'x', 'nested.list': [5, 6, [7]] } }),
  },
  twoPhase,
  aborted,
];
