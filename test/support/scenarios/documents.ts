/** Writes of documents: every form in which an oplog holds one. */
import { Timestamp, type Document } from 'mongodb';
import { plain, type Course, type Place, type Scenario } from './scenario.ts';

/** Moves a unique key on: it is taken from one document and given to the next. */
async function moveKey(place: Place, from: number, to: number): Promise<void> {
  const unique = place.collection();
  await unique.updateOne({ _id: from }, { $set: { key: `gone from ${from} to ${to}` } });
  await unique.updateOne({ _id: to }, { $set: { key: 'the one' } });
}

async function withUniqueKey(place: Place): Promise<void> {
  await place.fill(plain().map((one) => (one._id === 0 ? { ...one, key: 'the one' } : one)));
  await place.collection().createIndex({ key: 1 }, { unique: true });
}

const movesAllTheTime: Course = {
  key: 'unique_moves_on',
  promise: 'a unique key that moves from one document to another at each moment of the sync and after it',
  course: (place) => ({
    before: () => withUniqueKey(place),
    planned: () => moveKey(place, 0, 11),
    listed: () => moveKey(place, 11, 1),
    sliced: () => moveKey(place, 1, 10),
    copied: () => moveKey(place, 10, 2),
    routine: () => moveKey(place, 2, 9),
    restarted: () => moveKey(place, 9, 0),
  }),
};

export const documentScenarios: readonly Scenario[] = [
  {
    key: 'insert',
    promise: 'inserts, of one and of many',
    before: (place) => place.fill(),
    change: async (place) => {
      await place.collection().insertOne({ _id: 'one' });
      await place.collection().insertMany(Array.from({ length: 50 }, (_, n) => ({ _id: `many ${n}`, n })));
      await place.collection('new').insertOne({ _id: 1, makes: 'its collection' });
    },
  },
  {
    key: 'update',
    promise: 'updates by each operator, on fields, in documents and in arrays',
    before: (place) => place.fill(),
    change: async (place) => {
      const c = place.collection();
      const set = async (_id: number, update: Document): Promise<void> => void (await c.updateOne({ _id }, update));
      await set(0, { $set: { text: 'changed', 'nested.10': 'TEN', added: null, 'deep.er': [1] } });
      await set(1, { $unset: { text: 1, 'nested.2': 1 } });
      await set(2, { $inc: { n: 5, 'nested.a': 1 }, $mul: { key: 3 }, $min: { low: 1 }, $max: { high: 9 } });
      await set(3, { $push: { list: { $each: [{ n: 0 }], $position: 1, $slice: 3, $sort: { n: -1 } } } });
      await set(4, { $pull: { list: { n: 2 } }, $rename: { text: 'renamed' } });
      await set(5, { $set: { 'list.1.n': 99, 'list.7': 'beyond the end' } });
      await set(6, { $addToSet: { 'nested.list': 4 }, $currentDate: { at: { $type: 'timestamp' } } });
      await set(7, { $pop: { list: -1 }, $bit: { n: { or: 8 } } });
      await c.updateOne({ _id: 8 }, { $set: { 'list.$[one].n': 7 } }, { arrayFilters: [{ 'one.n': { $gt: 1 } }] });
      await c.updateOne({ _id: 9 }, [{ $set: { twice: { $multiply: ['$n', 2] } } }, { $unset: 'nested' }]);
      await c.updateMany({ n: { $gte: 0 } }, { $inc: { touched: 1 } });
      // Back to what it was: the last of them counts.
      await set(10, { $set: { text: 'there' } });
      await set(10, { $set: { text: 'and back' } });
    },
  },
  {
    key: 'replace',
    promise: 'replacements, by larger and smaller documents and with fields in another order',
    before: (place) => place.fill(),
    change: async (place) => {
      const c = place.collection();
      await c.replaceOne({ _id: 0 }, {});
      await c.replaceOne({ _id: 11 }, { text: 'x'.repeat(10_000), n: 1 });
      await c.replaceOne({ _id: 1 }, { list: [], nested: {}, text: 'order', n: 1 });
      await c.findOneAndReplace({ _id: 10 }, { replaced: 'by findAndModify' });
    },
  },
  {
    key: 'zero_replace',
    promise: 'documents that a pipeline replaces by some with a Timestamp(0,0), which stays one',
    before: async (place) => {
      await place.fill();
      await place.db.createCollection('capped', { capped: true, size: 65_536 });
      const documents = [0, 1, 2].map((_id) => ({ _id, once: new Timestamp({ t: 1, i: 1 }), n: 1, a: true }));
      await place.collection('capped').insertMany(documents);
    },
    change: async (place) => {
      const zero = { $literal: new Timestamp({ t: 0, i: 0 }) };
      const c = place.collection();
      await c.updateOne({ _id: 0 }, [{ $replaceWith: { zero, n: { $literal: 1 }, last: zero, inside: { zero } } }]);
      await c.updateOne({ _id: 11 }, [{ $replaceWith: { n: { $literal: 2 }, zero } }]);
      await c.updateOne({ _id: 'made' }, [{ $replaceWith: { _id: 'made', zero } }], { upsert: true });
      await place
        .collection('capped')
        .updateOne({ _id: 1 }, [{ $replaceWith: { zero, m: { $literal: 1 }, b: { $literal: true } } }]);
      const transaction = await place.transaction();
      await transaction.run(place.db.databaseName, {
        update: 'c',
        updates: [{ q: { _id: 5 }, u: [{ $replaceWith: { zero, within: 'a transaction' } }] }],
      });
      await transaction.commit();
    },
  },
  {
    key: 'delete',
    promise: 'deletes, and an _id that is deleted and inserted again',
    before: (place) => place.fill(),
    change: async (place) => {
      const c = place.collection();
      await c.deleteOne({ _id: 0 });
      await c.deleteMany({ n: { $in: [2, 9] } });
      await c.findOneAndDelete({ _id: 3 });
      for (const _id of [4, 11]) {
        await c.updateOne({ _id }, { $set: { before: 'the delete' } });
        await c.deleteOne({ _id });
        await c.insertOne({ _id, again: true });
        await c.updateOne({ _id }, { $set: { after: 'the insert' } });
      }
    },
  },
  {
    key: 'upsert',
    promise: 'upserts, that insert and that update',
    before: (place) => place.fill(),
    change: async (place) => {
      const c = place.collection();
      const upsert = { upsert: true };
      for (const _id of [0, 'new']) await c.updateOne({ _id }, { $set: { u: 1 }, $setOnInsert: { made: 1 } }, upsert);
      for (const _id of [1, 'newer']) await c.replaceOne({ _id }, { r: 1 }, upsert);
      for (const _id of [2, 'newest']) await c.findOneAndUpdate({ _id }, { $inc: { n: 1 } }, upsert);
      await place.collection('made').updateOne({ _id: 1 }, { $set: { by: 'an upsert' } }, upsert);
    },
  },
  {
    key: 'images',
    promise: 'retryable writes and findAndModify, their images in entries and beside them',
    before: (place) => place.fill(),
    change: async (place) => {
      const c = place.collection();
      const imagesIn = async (collection: boolean): Promise<void> => {
        const wanted = { setParameter: 1, storeFindAndModifyImagesInSideCollection: collection };
        // 4.4.2 knows only one way.
        await place.admin(wanted).catch(() => undefined);
      };
      for (const inCollection of [false, true]) {
        await imagesIn(inCollection);
        const add = inCollection ? 'second' : 'first';
        await c.findOneAndUpdate({ _id: 0 }, { $set: { [add]: 1 } }, { returnDocument: 'before' });
        await c.findOneAndUpdate({ _id: 11 }, { $set: { [add]: 1 } }, { returnDocument: 'after' });
        await c.findOneAndDelete({ _id: inCollection ? 1 : 2 });
      }
      await c.bulkWrite([
        { insertOne: { document: { _id: 'bulk' } } },
        { updateOne: { filter: { _id: 3 }, update: { $set: { bulk: 1 } } } },
        { replaceOne: { filter: { _id: 4 }, replacement: { bulk: 1 } } },
        { deleteOne: { filter: { _id: 5 } } },
      ]);
    },
  },
  {
    key: 'unique_moves',
    promise: 'a unique key that goes from one document to another and further',
    before: withUniqueKey,
    change: async (place) => {
      await moveKey(place, 0, 11);
      await moveKey(place, 11, 5);
      await place.collection().deleteOne({ _id: 5 });
      await place.collection().insertOne({ _id: 'heir', key: 'the one' });
    },
  },
  movesAllTheTime,
  {
    key: 'unindexable',
    promise: 'documents that an index cannot take, before it is made and after it is dropped',
    before: async (place) => {
      const parallel = { a: [1, 2], b: [3, 4] };
      const nowhere = { type: 'Point', coordinates: [500, 500] };
      await place.fill(plain().map((one) => ({ ...one, ...(one.n % 5 === 0 ? { ...parallel, place: nowhere } : {}) })));
      const made = plain().map((one) => ({
        ...one,
        a: one.n,
        b: [one.n],
        place: { type: 'Point', coordinates: [1, 2] },
      }));
      await place.fill(made, 'indexed');
      await place.collection('indexed').createIndexes([{ key: { a: 1, b: 1 } }, { key: { place: '2dsphere' } }]);
    },
    change: async (place) => {
      const [c, indexed] = [place.collection(), place.collection('indexed')];
      await c.updateMany({ a: { $exists: true } }, { $set: { a: 1 }, $unset: { place: 1 } });
      await c.createIndexes([{ key: { a: 1, b: 1 } }, { key: { place: '2dsphere' } }]);
      await c.updateOne({ _id: 0 }, { $set: { place: { type: 'Point', coordinates: [1, 2] } } });
      await indexed.dropIndexes();
      await indexed.updateMany({ n: { $in: [0, 11] } }, { $set: { a: [1, 2], place: 'nowhere' } });
      await indexed.updateMany({ n: { $in: [0, 11] } }, { $set: { a: 1, b: [1, 2] }, $unset: { place: 1 } });
      await indexed.createIndexes([{ key: { a: 1, b: 1 } }, { key: { place: '2dsphere' } }]);
    },
  },
  {
    key: 'many_at_once',
    promise: 'a document that is written many times in one batch',
    before: (place) => place.fill(),
    change: async (place) => {
      const update = (n: number): Document => ({ $set: { n }, $push: { log: n } });
      const operations = Array.from({ length: 200 }, (_, n) => ({
        updateOne: { filter: { _id: n % 2 ? 0 : 11 }, update: update(n) },
      }));
      await place.collection().bulkWrite(operations);
    },
  },
];
