/** Transactions: of one entry and of many, committed, aborted, prepared, and open while other things happen. */
import { Binary, type ClientSession } from 'mongodb';
import type { HandTransaction } from '../hand-transaction.ts';
import type { Moment, Place, Scenario } from './scenario.ts';

/** Three of them do not fit one entry. */
const LARGE = 6 * 1024 * 1024;
/** Large ones are not for every moment. */
const FEW: readonly Moment[] = ['listed', 'copied', 'routine'];

async function transact(
  place: Place,
  work: (session: ClientSession) => Promise<unknown>,
  aborts = false,
): Promise<void> {
  await place.client.withSession((session) =>
    session.withTransaction(async () => {
      await work(session);
      if (aborts) await session.abortTransaction();
    }),
  );
}

async function write(place: Place, session: ClientSession): Promise<void> {
  await place.collection().insertOne({ _id: 'in it' }, { session });
  await place.collection().updateOne({ _id: 0 }, { $set: { n: 'in it' } }, { session });
  await place.collection().deleteOne({ _id: 11 }, { session });
  await place.collection('d').replaceOne({ _id: 1 }, { replaced: 1 }, { session });
}

async function twoCollections(place: Place): Promise<void> {
  await place.fill();
  await place.fill(undefined, 'd');
}

async function writeLarge(place: Place, session: ClientSession): Promise<void> {
  for (const n of [1, 2, 3]) {
    await place.collection().insertOne({ _id: `large ${n}`, part: new Binary(Buffer.alloc(LARGE, n)) }, { session });
    await place.collection().updateOne({ _id: n }, { $set: { large: n } }, { session });
  }
}

/** Statements of a transaction that is driven by hand. */
async function statements(place: Place, transaction: HandTransaction, collection = 'c'): Promise<void> {
  const db = place.db.databaseName;
  await transaction.run(db, { insert: collection, documents: [{ _id: 'prepared' }] });
  await transaction.run(db, { update: collection, updates: [{ q: { _id: 0 }, u: { $set: { n: 'prepared' } } }] });
  await transaction.run(db, { delete: collection, deletes: [{ q: { _id: 11 }, limit: 1 }] });
}

async function prepared(place: Place, collection = 'c'): Promise<HandTransaction> {
  return place.prepared((transaction) => statements(place, transaction, collection));
}

async function preparedLarge(place: Place): Promise<HandTransaction> {
  return place.prepared(async (transaction) => {
    for (const n of [1, 2, 3]) {
      const document = { _id: `large ${n}`, part: new Binary(Buffer.alloc(LARGE, n)) };
      await transaction.run(place.db.databaseName, { insert: 'c', documents: [document] });
    }
    await statements(place, transaction);
  });
}

/** A transaction that one moment begins and another decides. */
function kept(): { begun: HandTransaction | undefined; take(): HandTransaction } {
  return {
    begun: undefined,
    take() {
      if (!this.begun) throw new Error('the transaction was not begun');
      return this.begun;
    },
  };
}

export const transactionScenarios: readonly Scenario[] = [
  {
    key: 'txn',
    promise: 'a transaction of one entry over two collections',
    before: twoCollections,
    change: (place) => transact(place, (session) => write(place, session)),
  },
  {
    key: 'txn_many',
    promise: 'a transaction of many entries',
    before: (place) => place.fill(),
    change: (place) => transact(place, (session) => writeLarge(place, session)),
    moments: FEW,
  },
  {
    key: 'txn_abort',
    promise: 'transactions that are aborted, of one entry and of many',
    before: twoCollections,
    change: async (place) => {
      await transact(place, (session) => write(place, session), true);
      await transact(place, (session) => writeLarge(place, session), true);
    },
    moments: FEW,
  },
  {
    key: 'txn_prepared',
    promise: 'a prepared transaction that is committed',
    before: (place) => place.fill(),
    change: async (place) => {
      const transaction = await prepared(place);
      await place.collection().insertOne({ _id: 'between' });
      await transaction.commit();
    },
  },
  {
    key: 'txn_prep_abort',
    promise: 'a prepared transaction that is aborted',
    before: (place) => place.fill(),
    change: async (place) => {
      const transaction = await prepared(place);
      await place.collection().insertOne({ _id: 'between' });
      await transaction.abort();
    },
  },
  {
    key: 'txn_prep_many',
    promise: 'prepared transactions of many entries, committed and aborted',
    before: (place) => place.fill(),
    change: async (place) => {
      await (await preparedLarge(place)).abort();
      await (await preparedLarge(place)).commit();
    },
    moments: FEW,
  },
  {
    key: 'txn_catalog',
    promise: 'a transaction that makes collections and indexes',
    before: (place) => place.fill(),
    change: (place) =>
      transact(place, async (session) => {
        const made = await place.db.createCollection('made', { session, collation: { locale: 'de' } });
        await made.createIndex({ n: 1 }, { session, unique: true });
        await place.collection('made').insertMany(
          [
            { _id: 1, n: 1 },
            { _id: 2, n: 2 },
          ],
          { session },
        );
        await place.collection('implicit').insertOne({ _id: 1 }, { session });
        await place.collection().updateOne({ _id: 0 }, { $set: { made: 1 } }, { session });
      }),
  },
  {
    key: 'txn_open',
    promise: 'a transaction that is open from before the sync until its end',
    course: (place) => {
      const transaction = kept();
      return {
        before: async () => {
          await place.fill();
          transaction.begun = await place.transaction();
          await statements(place, transaction.take());
        },
        listed: () => transaction.take().run(place.db.databaseName, { insert: 'c', documents: [{ _id: 'later' }] }),
        copied: () => transaction.take().commit(),
      };
    },
  },
  {
    key: 'txn_prep_before',
    promise: 'a transaction that is prepared before the sync and committed in it',
    course: (place) => {
      const transaction = kept();
      return {
        before: async () => {
          await place.fill();
          transaction.begun = await prepared(place);
        },
        listed: () => transaction.take().commit(),
      };
    },
  },
  {
    key: 'txn_prep_before_abort',
    promise: 'a transaction that is prepared before the sync and aborted in it',
    course: (place) => {
      const transaction = kept();
      return {
        before: async () => {
          await place.fill();
          transaction.begun = await prepared(place);
        },
        listed: () => transaction.take().abort(),
      };
    },
  },
  {
    key: 'txn_prep_over_stop',
    promise: 'transactions prepared in the sync and decided behind it',
    course: (place) => {
      const [first, second] = [kept(), kept()];
      return {
        before: () => twoCollections(place),
        copied: async () => {
          first.begun = await prepared(place);
          second.begun = await prepared(place, 'd');
        },
        routine: async () => {
          await first.take().commit();
          await second.take().abort();
        },
      };
    },
  },
  {
    key: 'txn_prep_over_restart',
    promise: 'transactions prepared before a restart of the head and decided after it',
    course: (place) => {
      const [first, second] = [kept(), kept()];
      return {
        before: () => twoCollections(place),
        routine: async () => {
          first.begun = await preparedLarge(place);
          second.begun = await prepared(place, 'd');
        },
        restarted: async () => {
          await first.take().commit();
          await second.take().abort();
        },
      };
    },
  },
];
