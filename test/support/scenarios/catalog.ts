/** What changes the catalog: collections and views that come, go, change and take each other's names. */
import { plain, type Course, type Doc, type Place, type Scenario } from './scenario.ts';

async function abAndIndexes(place: Place): Promise<void> {
  await place.fill(plain(), 'a');
  await place.fill(plain(8), 'b');
  await place.collection('a').createIndex({ n: 1 }, { name: 'of a' });
  await place.collection('b').createIndex({ key: 1 }, { name: 'of b', unique: true });
}

/** Two collections exchange their names. */
async function turnCircle(place: Place): Promise<void> {
  await place.db.renameCollection('a', 'x');
  await place.collection('x').updateOne({ _id: 0 }, { $inc: { turns: 1 } });
  await place.db.renameCollection('b', 'a');
  await place.db.renameCollection('x', 'b');
  await place.collection('a').updateOne({ _id: 1 }, { $inc: { turns: 1 } });
}

async function dropAndMakeAgain(place: Place, version: number): Promise<void> {
  await place.collection().drop();
  if (version % 2) await place.db.createCollection('c', { collation: { locale: 'fr' } });
  await place.collection().insertMany([{ _id: 0, version }, { _id: `of ${version}` }]);
  await place.collection().createIndex(version % 2 ? { version: 1 } : { n: 1 }, { name: 'always called so' });
}

const renamesAcross = (place: Place, from: string, to: string, dropTarget: boolean): Promise<unknown> =>
  place.admin({
    renameCollection: `${place.db.databaseName}.${from}`,
    to: `${place.other.databaseName}.${to}`,
    dropTarget,
  });

/** Each moment turns the circle by one step. */
const circleOverTime: Course = {
  key: 'circle_over_time',
  promise: 'renames in a circle of which each moment of the sync sees one step',
  course: (place) => ({
    before: () => abAndIndexes(place),
    planned: () => place.db.renameCollection('a', 'x'),
    listed: () => place.db.renameCollection('b', 'a'),
    sliced: () => place.db.renameCollection('x', 'b'),
    copied: () => turnCircle(place),
    routine: () => turnCircle(place),
  }),
};

const againAndAgain: Course = {
  key: 'again_and_again',
  promise: 'a collection that is dropped and made again at each moment',
  course: (place) => ({
    before: () => place.fill(),
    planned: () => dropAndMakeAgain(place, 1),
    listed: () => dropAndMakeAgain(place, 2),
    sliced: () => dropAndMakeAgain(place, 3),
    copied: () => dropAndMakeAgain(place, 4),
    routine: () => dropAndMakeAgain(place, 5),
    restarted: () => dropAndMakeAgain(place, 6),
  }),
};

/** A name that is a collection's, then a view's, then a collection's again. */
const nameOfMany: Course = {
  key: 'name_of_many',
  promise: 'a name that collections and views have in turn',
  course: (place) => {
    const asView = async (): Promise<void> => {
      await place.collection('v').drop();
      await place.db.createCollection('v', { viewOn: 'c', pipeline: [{ $match: { n: 1 } }] });
    };
    const asCollection = async (): Promise<void> => {
      await place.collection('v').drop();
      await place.collection('v').insertOne({ _id: 1, is: 'a collection' });
    };
    const asRenamed = async (): Promise<void> => {
      await place.collection('v').drop();
      await place.collection('w').insertOne({ _id: 1, was: 'w' });
      await place.db.renameCollection('w', 'v');
      await place.db.renameCollection('v', 'w');
      await place.db.renameCollection('w', 'v');
    };
    return {
      before: async () => {
        await place.fill();
        await place.collection('v').insertOne({ _id: 1 });
      },
      planned: async () => {
        await asView();
        await asCollection();
        await asView();
      },
      listed: async () => {
        await asCollection();
        await asView();
        await asRenamed();
      },
      sliced: asView,
      copied: async () => {
        await asRenamed();
        await asView();
      },
      routine: async () => {
        await asCollection();
        await asView();
        await asRenamed();
      },
    };
  },
};

/** A view takes the name of a collection that had several before the listing. */
const movedBehindAView: Course = {
  key: 'behind_a_view',
  promise: 'a collection that had the name of a view before the view was made',
  course: (place) => ({
    before: () => place.fill(plain(), 'w'),
    planned: async () => {
      await place.db.renameCollection('w', 'v');
      await place.collection('v').updateOne({ _id: 0 }, { $set: { as: 'v' } });
      await place.db.renameCollection('v', 'w');
      await place.db.createCollection('v', { viewOn: 'w', pipeline: [] });
      await place.collection('w').updateOne({ _id: 1 }, { $set: { as: 'w' } });
    },
  }),
};

export const catalogScenarios: readonly Scenario[] = [
  {
    key: 'create',
    promise: 'collections that are created with every option',
    change: async (place) => {
      const { db, major } = place;
      await db.createCollection('bare');
      await db.createCollection('validated', {
        validator: { $jsonSchema: { required: ['n'], properties: { n: { bsonType: 'int' } } } },
        validationLevel: 'moderate',
        validationAction: 'warn',
      });
      await db.createCollection('strict', { validator: { n: { $gte: 0 } } });
      await db.createCollection('capped', { capped: true, size: 8_192, max: 10 });
      await db.createCollection('collated', { collation: { locale: 'sv', strength: 2, numericOrdering: true } });
      await db.createCollection('engine', { storageEngine: { wiredTiger: { configString: 'block_compressor=zlib' } } });
      await db.createCollection('defaults', {
        indexOptionDefaults: { storageEngine: { wiredTiger: { configString: 'prefix_compression=false' } } },
      });
      await db.createCollection('a.b c..ü');
      await db.createCollection('view', {
        viewOn: 'bare',
        pipeline: [{ $match: { n: 1 } }],
        collation: { locale: 'de' },
      });
      if (major < 6) await db.command({ create: 'recorded', recordPreImages: true });
      if (major >= 5) {
        const timeseries = { timeField: 'at', metaField: 'of', granularity: 'minutes' as const };
        await db.createCollection('series', { timeseries, expireAfterSeconds: 3_600 });
      }
      if (major >= 6) {
        const clusteredIndex = { key: { _id: 1 }, unique: true, name: 'clustered' };
        await db.createCollection('clustered', { clusteredIndex, expireAfterSeconds: 1_000_000_000 });
        await db.createCollection('images', { changeStreamPreAndPostImages: { enabled: true } });
      }
      for (const name of ['bare', 'validated', 'engine', 'defaults', 'a.b c..ü'])
        await place.collection(name).insertOne({ _id: 1, n: 1 });
    },
  },
  {
    key: 'drop',
    promise: 'collections that are dropped, with documents, without, and right after they were made',
    before: async (place) => {
      await abAndIndexes(place);
      await place.db.createCollection('empty');
      await place.collection('stays').insertOne({ _id: 1 });
    },
    change: async (place) => {
      await place.collection('a').updateOne({ _id: 0 }, { $set: { last: 'word' } });
      for (const name of ['a', 'b', 'empty']) await place.collection(name).drop();
      await place.fill(plain(), 'brief');
      await place.collection('brief').createIndex({ n: 1 });
      await place.collection('brief').drop();
    },
  },
  {
    key: 'drop_create',
    promise: 'a collection that is dropped and made again, more than once',
    before: (place) => place.fill(),
    change: async (place) => {
      for (const version of [1, 2, 3]) await dropAndMakeAgain(place, version);
    },
  },
  againAndAgain,
  {
    key: 'drop_database',
    promise: 'a database that is dropped',
    before: async (place) => {
      await abAndIndexes(place);
      await place.db.createCollection('view', { viewOn: 'a', pipeline: [] });
    },
    change: async (place) => {
      await place.collection('a').insertOne({ _id: 'last' });
      await place.db.dropDatabase();
    },
  },
  {
    key: 'database_again',
    promise: 'a database that is dropped and made again, with other things of the same names',
    before: async (place) => {
      await abAndIndexes(place);
      await place.db.createCollection('view', { viewOn: 'a', pipeline: [] });
    },
    change: async (place) => {
      for (const n of [1, 2]) {
        await place.db.dropDatabase();
        await place.collection('b').insertMany([{ _id: 0, n }, { _id: n }]);
        await place.collection('b').createIndex({ n: 1 }, { name: 'of b' });
        await place.db.createCollection('a', { viewOn: 'b', pipeline: [{ $match: { n } }] });
        await place.collection('view').insertOne({ _id: 1, now: 'a collection' });
      }
    },
  },
  {
    key: 'rename',
    promise: 'renames within a database, to a free name, over another collection and to the name of one that is gone',
    before: abAndIndexes,
    change: async (place) => {
      await place.db.renameCollection('a', 'free');
      await place.collection('free').updateOne({ _id: 0 }, { $set: { as: 'free' } });
      await place.db.renameCollection('free', 'b', { dropTarget: true });
      await place.collection('b').updateOne({ _id: 1 }, { $set: { as: 'b' } });
      await place.collection('a').insertOne({ _id: 'another a' });
      await place.collection('a').drop();
      await place.db.renameCollection('b', 'a');
      await place.collection('b').insertOne({ _id: 'another b' });
    },
  },
  {
    key: 'circle',
    promise: 'renames in a circle',
    before: abAndIndexes,
    change: async (place) => {
      await turnCircle(place);
      await place.collection('a').insertOne({ _id: 'after one turn' });
      await turnCircle(place);
      await turnCircle(place);
    },
  },
  circleOverTime,
  {
    key: 'rename_across',
    promise: 'renames from one database to another, over a collection there and where there is none',
    before: async (place) => {
      await abAndIndexes(place);
      await place.other.collection<Doc>('taken').insertMany(plain(3));
    },
    change: async (place) => {
      await renamesAcross(place, 'a', 'taken', true);
      await place.other.collection<Doc>('taken').updateOne({ _id: 0 }, { $set: { moved: true } });
      await renamesAcross(place, 'b', 'free', false);
      await place.collection('a').insertOne({ _id: 'another a' });
      await renamesAcross(place, 'a', 'taken', true);
    },
  },
  {
    key: 'to_capped',
    promise: 'convertToCapped and cloneCollectionAsCapped',
    before: abAndIndexes,
    change: async (place) => {
      await place.db.command({ convertToCapped: 'a', size: 4_096 });
      await place.collection('a').insertOne({ _id: 'since' });
      await place.db.command({ cloneCollectionAsCapped: 'b', toCollection: 'clone', size: 4_096 });
    },
  },
  {
    key: 'collmod',
    promise: 'collMod of validators, of TTL and of hidden indexes',
    before: async (place) => {
      await place.db.createCollection('c', { validator: { n: { $gte: 0 } } });
      await place.collection().insertMany(plain());
      await place.fill(plain(), 'd');
      await place.collection('d').createIndex({ at: 1 }, { expireAfterSeconds: 1_000_000_000 });
      await place.collection('d').createIndex({ n: 1 }, { name: 'seen' });
      await place.collection('d').createIndex({ key: 1 }, { name: 'unseen', hidden: true });
    },
    change: async ({ db, major }) => {
      await db.command({ collMod: 'c', validator: {}, validationLevel: 'off' });
      await db.command({ collMod: 'c', validator: { text: { $type: 'string' } }, validationAction: 'warn' });
      await db.command({ collMod: 'd', index: { keyPattern: { at: 1 }, expireAfterSeconds: 1_500_000_000 } });
      await db.command({ collMod: 'd', index: { name: 'seen', hidden: true } });
      await db.command({ collMod: 'd', index: { name: 'unseen', hidden: false } });
      if (major >= 6) await db.command({ collMod: 'd', index: { name: 'seen', expireAfterSeconds: 1_234_567_890 } });
      if (major < 6) await db.command({ collMod: 'c', recordPreImages: true });
    },
  },
  {
    key: 'to_unique',
    promise: 'the conversion of an index to a unique one',
    from: 6,
    before: async (place) => {
      for (const name of ['c', 'd']) {
        await place.fill(plain(), name);
        await place.collection(name).createIndex({ key: 1 }, { name: 'key' });
      }
    },
    change: async ({ db }) => {
      await db.command({ collMod: 'c', index: { name: 'key', prepareUnique: true } });
      await db.command({ collMod: 'c', index: { name: 'key', unique: true } });
      await db.command({ collMod: 'd', index: { name: 'key', prepareUnique: true } });
    },
  },
  {
    key: 'unique_over_time',
    promise: 'the conversion of an index to a unique one that goes on over all moments',
    from: 6,
    course: ({ db, fill, collection }) => ({
      before: async () => {
        await fill();
        await collection().createIndex({ key: 1 }, { name: 'key' });
      },
      planned: () => db.command({ collMod: 'c', index: { name: 'key', prepareUnique: true } }),
      sliced: () => db.command({ collMod: 'c', index: { name: 'key', prepareUnique: false } }),
      copied: () => db.command({ collMod: 'c', index: { name: 'key', prepareUnique: true } }),
      routine: () => db.command({ collMod: 'c', index: { name: 'key', unique: true } }),
    }),
  },
  {
    key: 'views',
    promise: 'views and views on views that are made, changed and dropped',
    before: async (place) => {
      await place.fill();
      await place.db.createCollection('old', { viewOn: 'c', pipeline: [] });
      await place.db.createCollection('on old', { viewOn: 'old', pipeline: [{ $limit: 1 }] });
      await place.db.createCollection('goes', { viewOn: 'c', pipeline: [] });
    },
    change: async ({ db, collection }) => {
      await db.createCollection('new', { viewOn: 'on old', pipeline: [{ $project: { '1': 1, '0': 1 } }] });
      await db.command({ collMod: 'old', viewOn: 'c', pipeline: [{ $match: { n: { $gt: 3 } } }] });
      await db.command({ collMod: 'on old', viewOn: 'new', pipeline: [] }).catch(() => undefined);
      await db.command({ collMod: 'on old', viewOn: 'c', pipeline: [{ $sort: { n: 1 } }] });
      await collection('goes').drop();
      await db.createCollection('goes', { viewOn: 'old', pipeline: [] });
      await collection('goes').drop();
    },
  },
  {
    key: 'first_view',
    promise: 'the first view of a database and the last',
    before: (place) => place.fill(),
    change: async ({ db, collection }) => {
      await db.createCollection('only', { viewOn: 'c', pipeline: [] });
      await collection('only').drop();
      await db.createCollection('only', { viewOn: 'c', pipeline: [{ $limit: 3 }] });
    },
  },
  nameOfMany,
  movedBehindAView,
  {
    key: 'temporary',
    promise: 'temporary collections, of $out, $merge and mapReduce',
    before: (place) => place.fill(),
    change: async (place) => {
      await place
        .collection()
        .aggregate([{ $match: { n: { $gt: 2 } } }, { $out: 'out' }])
        .toArray();
      await place.collection('out').createIndex({ n: 1 });
      await place
        .collection()
        .aggregate([{ $match: { n: { $gt: 4 } } }, { $out: 'out' }])
        .toArray();
      await place
        .collection()
        .aggregate([{ $merge: { into: 'merged' } }])
        .toArray();
      await place.db.command({
        mapReduce: 'c',
        map: 'function () { emit(this.n % 3, 1); }',
        reduce: 'function (key, values) { return Array.sum(values); }',
        out: 'reduced',
      });
    },
  },
  {
    key: 'emptycapped',
    promise: 'emptycapped',
    before: async (place) => {
      await place.db.createCollection('ring', { capped: true, size: 4_096 });
      await place.collection('ring').insertMany(plain(5));
    },
    change: async (place) => {
      await place.db.command({ emptycapped: 'ring' });
      await place.collection('ring').insertOne({ _id: 'since' });
    },
  },
];
