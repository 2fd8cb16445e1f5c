/** A mongod 4.4 reads the past in transactions only (research/mongodb-internals.md §7): what holds a lock there has to end. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { MongoClient } from 'mongodb';
import { toTimestamp } from '../src/mongo/positions.ts';
import { RawCursor } from '../src/source/raw-cursor.ts';
import { newestEntry } from './support/head.ts';
import { mongodOf } from './support/mongods.ts';
import { startReplicaSet, until } from './support/replica-set.ts';

const found = await mongodOf('4.4');

test(
  'a read of the past that is cut before the source has begun it leaves no transaction open',
  { skip: 'missing' in found && found.missing },
  async () => {
    assert.ok('path' in found);
    await using set = await startReplicaSet({ binary: found.path, setParameters: { enableTestCommands: true } });
    const { client, members } = set;
    await client.db('app').collection('notes').insertOne({ text: 'one' });
    const past = toTimestamp((await newestEntry(client)).ts);
    const failPoint = { configureFailPoint: 'failCommand' };
    // The server has the command in hand, and no transaction yet, while an abortTransaction could go by.
    const data = { failCommands: ['find'], blockConnection: true, blockTimeMS: 400, appName: 'reader' };
    const held = await client.db('admin').command({ ...failPoint, mode: 'alwaysOn', data });
    const reader = await MongoClient.connect(members[0]?.uri ?? '', { appName: 'reader' });
    try {
      const cut = new AbortController();
      const reading = RawCursor.open(reader.db('app'), { find: 'notes' }, cut.signal, { transactionAt: past });
      const timesEntered = Number(held['count']) + 1;
      await client.db('admin').command({ waitForFailPoint: 'failCommand', timesEntered, maxTimeMS: 60_000 });
      cut.abort(new Error('cut'));
      await assert.rejects(reading, /^Error: cut$/);
      await client.db('admin').command({ ...failPoint, mode: 'off' });
      const isReading = { 'clientMetadata.application.name': 'reader' };
      const ofReader = async (match: object): Promise<number> => {
        const everything = { $currentOp: { allUsers: true, idleSessions: true } };
        const its = client.db('admin').aggregate([everything, { $match: { ...isReading, ...match } }]);
        return (await its.toArray()).length;
      };
      await until(async () => (await ofReader({ active: true, 'command.find': 'notes' })) === 0, 'the read has ended');
      assert.equal(await ofReader({ transaction: { $exists: true } }), 0);
    } finally {
      await reader.close();
    }
  },
);
