/** Collections of kinds of their own: time series, capped, clustered, collated, with images; and users and roles. */
import type { Document } from 'mongodb';
import { plain, type Course, type Doc, type Place, type Scenario } from './scenario.ts';

const RING = { capped: true, size: 64 * 1024, max: 40 };

async function ringOf(place: Place, count: number): Promise<void> {
  // Its documents are read in one reply where it is not long.
  const max = RING.max + place.padding().length;
  await place.db.createCollection('ring', { ...RING, size: 1024 * 1024, max });
  await place.collection('ring').insertMany([...place.padding(), ...lines(count, 0)]);
}

function lines(count: number, from: number): Doc[] {
  return Array.from({ length: count }, (_, n) => ({ _id: from + n, line: `line ${from + n}` }));
}

const wrapsAllTheTime: Course = {
  key: 'capped_wraps_on',
  promise: 'a capped collection that wraps around while it is copied and after it',
  course: (place) => {
    let next = 0;
    const write = async (count: number): Promise<void> => {
      await place.collection('ring').insertMany(lines(count, next));
      next += count;
    };
    return {
      before: async () => {
        await ringOf(place, 30);
        next = 30;
      },
      planned: () => write(15),
      listed: () => write(300),
      sliced: () => write(700),
      copied: () => write(25),
      routine: () => write(60),
      restarted: () => write(60),
    };
  },
};

const reusesIds: Course = {
  key: 'capped_reuses',
  promise: 'a capped collection that uses the same _ids again, for documents of other sizes',
  course: (place) => {
    const again = async (ids: readonly number[], line: string): Promise<void> => {
      for (const _id of ids) await place.collection('ring').insertOne({ _id, line });
    };
    return {
      before: async () => {
        await place.db.createCollection('ring', { capped: true, size: 4_096, max: 4 });
        await again([1, 2, 3, 4], 'first');
      },
      planned: () => again([5, 1, 2], 'second, and longer'),
      listed: () => again([3, 4, 5, 1], 'third'),
      sliced: () => again([2, 3, 4], 'fourth, and the longest of them all'),
      copied: () => again([5, 1], 'fifth'),
      routine: () => again([2, 3, 4, 5], 'sixth'),
    };
  },
};

const points = (count: number, from = 0): Document[] =>
  Array.from({ length: count }, (_, n) => ({
    at: new Date(1_700_000_000_000 + (from + n) * 60_000),
    of: { sensor: n % 3 },
    value: from + n,
  }));

export const kindScenarios: readonly Scenario[] = [
  {
    key: 'series',
    promise: 'time-series collections: points, granularity, expiry, indexes, drops',
    from: 5,
    before: async (place) => {
      const timeseries = { timeField: 'at', metaField: 'of', granularity: 'seconds' as const };
      for (const name of ['series', 'goes'])
        await place.db.createCollection(name, { timeseries, expireAfterSeconds: 1_000_000_000 });
      await place.db.collection('series').insertMany(points(place.isLong ? 3_000 : 30));
      await place.db.collection('goes').insertMany(points(5));
    },
    change: async ({ db, major }) => {
      const series = db.collection('series');
      await series.insertMany(points(40, 10));
      await db.command({ collMod: 'series', timeseries: { granularity: 'minutes' } });
      await db.command({ collMod: 'series', expireAfterSeconds: 1_100_000_000 });
      await series.createIndex({ 'of.sensor': 1, at: -1 }, { name: 'by sensor' });
      await series.createIndex({ at: 1 });
      if (major >= 6) {
        await series.createIndex({ value: 1 }, { name: 'of values' });
        await series.createIndex({ 'of.sensor': 1, where: '2dsphere' }, { name: 'somewhere' });
      }
      await series.dropIndex('by sensor');
      await series.deleteMany({ 'of.sensor': 2 });
      await series.updateMany({ 'of.sensor': 1 }, { $set: { 'of.moved': true } });
      await db.collection('goes').drop();
      await db.createCollection('comes', { timeseries: { timeField: 'at' } });
      await db.collection('comes').insertMany(points(3));
      await db.createCollection('goes', { timeseries: { timeField: 'at', granularity: 'hours' } });
    },
  },
  {
    key: 'capped',
    promise: 'capped collections that are written over',
    before: (place) => ringOf(place, 40),
    change: async (place) => {
      for (const from of [40, 70, 100]) await place.collection('ring').insertMany(lines(30, from));
      await place.collection('ring').updateOne({ _id: 129 }, { $set: { line: 'LINE 129' } });
    },
  },
  wrapsAllTheTime,
  reusesIds,
  {
    key: 'capped_resized',
    promise: 'a capped collection that is made smaller and larger',
    from: 6,
    before: (place) => ringOf(place, 40),
    change: async (place) => {
      await place.db.command({ collMod: 'ring', cappedMax: 10 });
      await place.collection('ring').insertMany(lines(5, 40));
      await place.db.command({ collMod: 'ring', cappedSize: 8_192, cappedMax: 20 });
      await place.collection('ring').insertMany(lines(20, 45));
    },
  },
  {
    key: 'clustered',
    promise: 'clustered collections',
    from: 6,
    before: async (place) => {
      const clusteredIndex = { key: { _id: 1 }, unique: true };
      await place.db.createCollection('c', { clusteredIndex });
      await place.fill(plain());
      await place.db.createCollection('goes', { clusteredIndex });
    },
    change: async (place) => {
      const c = place.collection();
      await c.insertMany([{ _id: 5.5 }, { _id: -1 }, { _id: 'text' }]);
      await c.updateOne({ _id: 0 }, { $set: { text: 'x'.repeat(3_000) } });
      await c.deleteOne({ _id: 11 });
      await c.createIndex({ n: 1 });
      await place.db.command({ collMod: 'c', expireAfterSeconds: 1_200_000_000 });
      await place.db.command({ collMod: 'c', expireAfterSeconds: 'off' });
      await place.collection('goes').drop();
      await place.db.renameCollection('c', 'd');
      await place.collection('d').insertOne({ _id: 3.5 });
    },
  },
  {
    key: 'collated',
    promise: 'collections with a collation, whose _ids are told apart by it',
    before: async (place) => {
      await place.db.createCollection('c', { collation: { locale: 'fr', strength: 1 } });
      await place.fill(['é', 'a', 'B', 'z', 'ç', 'y'].map((_id) => ({ _id, n: 1 })));
      await place.collection().createIndex({ n: 1, _id: 1 });
      await place.collection().createIndex({ n: 1 }, { collation: { locale: 'simple' }, name: 'simple' });
    },
    change: async (place) => {
      const c = place.collection();
      await c.updateOne({ _id: 'E' }, { $set: { n: 2 } });
      await c.deleteOne({ _id: 'A' });
      await c.insertOne({ _id: 'À', n: 3 });
      await c.replaceOne({ _id: 'C' }, { n: 4 });
      await c.createIndex({ _id: -1, n: 1 });
    },
  },
  {
    key: 'pre_images',
    promise: 'settings of pre-images, made and changed, and writes under them',
    before: async ({ db, major, fill }) => {
      const images = major >= 6 ? { changeStreamPreAndPostImages: { enabled: true } } : { recordPreImages: true };
      await db.command({ create: 'c', ...images });
      await fill();
      await fill(plain(), 'd');
    },
    change: async ({ db, major, collection }) => {
      const images = (on: boolean): Document =>
        major >= 6 ? { changeStreamPreAndPostImages: { enabled: on } } : { recordPreImages: on };
      await collection().updateMany({ n: { $gt: 5 } }, { $inc: { n: 1 } });
      await collection().deleteOne({ _id: 0 });
      await collection().findOneAndUpdate({ _id: 11 }, { $set: { n: 0 } });
      await db.command({ collMod: 'c', ...images(false) });
      await db.command({ collMod: 'd', ...images(true) });
      await collection('d').replaceOne({ _id: 1 }, { n: 'replaced' });
    },
  },
  {
    key: 'users',
    promise: 'users and roles that are made, changed, granted to and dropped',
    before: async ({ db }) => {
      const privileges = [{ resource: { db: db.databaseName, collection: 'c' }, actions: ['find'] }];
      await db.command({ createRole: 'reader', privileges, roles: [] });
      await db.command({ createRole: 'goes', privileges: [], roles: ['reader'] });
      for (const name of ['stays', 'changes', 'goes'])
        await db.command({ createUser: name, pwd: 'not a secret', roles: ['reader', 'goes'] });
    },
    change: async ({ db }) => {
      const privileges = [{ resource: { db: db.databaseName, collection: '' }, actions: ['insert', 'update'] }];
      await db.command({ createRole: 'writer', privileges, roles: ['reader'] });
      await db.command({ grantPrivilegesToRole: 'reader', privileges });
      await db.command({ revokePrivilegesFromRole: 'writer', privileges });
      await db.command({ updateRole: 'writer', privileges, roles: [] });
      await db.command({ grantRolesToRole: 'writer', roles: ['read'] });
      await db.command({ createUser: 'new', pwd: 'not a secret', roles: ['writer'], customData: { '1': 1, '0': 0 } });
      await db.command({ updateUser: 'changes', pwd: 'nor this', customData: { changed: true } });
      await db.command({ grantRolesToUser: 'changes', roles: ['writer', 'dbAdmin'] });
      await db.command({ revokeRolesFromUser: 'changes', roles: ['reader'] });
      await db.command({ dropUser: 'goes' });
      await db.command({ dropRole: 'goes' });
    },
  },
  {
    key: 'users_all',
    promise: 'all users and roles of a database that are dropped at once',
    before: async ({ db }) => {
      await db.command({ createRole: 'role', privileges: [], roles: ['read'] });
      for (const name of ['one', 'other']) await db.command({ createUser: name, pwd: 'not a secret', roles: ['role'] });
    },
    change: async ({ db }) => {
      await db.command({ dropAllUsersFromDatabase: 1 });
      await db.command({ dropAllRolesFromDatabase: 1 });
    },
  },
];
