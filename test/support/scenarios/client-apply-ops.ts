/**
 * Scenarios by themselves: a client's `applyOps` takes the lock of the whole server and waits for whatever holds any, such as a
 * build of an index that another scenario holds.
 */
import type { Document } from 'mongodb';
import { plain, type Doc, type Scenario } from './scenario.ts';

const operations: Scenario = {
  key: 'client_apply_ops',
  promise: "a client's own applyOps, with collections that it names by name alone, whatever has the name later",
  before: async (place) => {
    await place.fill();
    for (const name of ['gone', 'moved', 'next']) await place.fill(plain(), name);
  },
  change: async (place) => {
    const on = (name: string): string => `${place.db.databaseName}.${name}`;
    const insert = (name: string, _id: string): Document => ({ op: 'i', ns: on(name), o: { _id, text: _id } });
    const remove = (name: string, _id: Doc['_id']): Document => ({ op: 'd', ns: on(name), o: { _id } });
    const replace = (name: string, _id: Doc['_id']): Document => {
      return { op: 'u', ns: on(name), o2: { _id }, o: { _id, replaced: true } };
    };
    await place.admin({ applyOps: [insert('c', 'whole'), replace('c', 3), remove('c', 4), replace('c', 500)] });
    await place.admin({ applyOps: [insert('c', 'apart'), remove('c', 5), remove('c', 5)], allowAtomic: false });
    await place.collection().insertMany([{ _id: 'changed by both' }, { _id: 'removed by the other' }]);
    await place.admin({ applyOps: [replace('c', 'changed by both'), remove('c', 'removed by the other')] });
    // All or nothing a server stores it otherwise than it says.
    const idBehind = (_id: Doc['_id']): Document => ({ op: 'i', ns: on('c'), o: { text: 'behind', _id, n: 1 } });
    await place.admin({ applyOps: [idBehind('new'), idBehind(6), insert('c', 'beside')] });
    await place.admin({ applyOps: [idBehind('apart, behind')], allowAtomic: false });
    await place.admin({ applyOps: [remove('nowhere', 1), insert('gone', 'lost')] });
    await place.collection('gone').drop();
    await place.admin({ applyOps: [insert('moved', 'first'), remove('moved', 7), replace('moved', 8)] });
    await place.collection('moved').rename('away');
    await place.collection('next').rename('moved');
    await place.admin({ applyOps: [insert('moved', 'second'), remove('moved', 9)] });
  },
};

/** No other command makes one that stays until its owner drops it. */
const temporary: Scenario = {
  key: 'temp_stays',
  promise: 'a temporary collection that is there all the time, and one that is made a lasting one',
  course: (place) => {
    const make = async (name: string): Promise<void> => {
      const create = { op: 'c', ns: `${place.db.databaseName}.$cmd`, o: { create: name, temp: true } };
      await place.admin({ applyOps: [create] });
      await place.fill(plain(), name);
    };
    return {
      before: async () => {
        for (const name of ['early', 'renamed']) await make(name);
      },
      sliced: () => make('in the sync'),
      routine: async () => {
        await make('late');
        await place.collection('renamed').rename('lasts');
        for (const name of ['early', 'late']) await place.collection(name).insertOne({ _id: 'since' });
      },
      restarted: () => place.collection('early').insertOne({ _id: 'at the end' }),
    };
  },
};

export const clientApplyOps: readonly Scenario[] = [operations, temporary];
