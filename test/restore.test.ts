import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { startMongod, type RunningMongod } from '../src/mongod/process.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { restoreDirectory, type RestoreParts } from '../src/steps/restore-directory.ts';
import { takeSnapshot } from '../src/steps/take-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { freePort, startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type LockableMongod } from './support/snapshots.ts';

let set: TestReplicaSet;
let stores: Stores;
let head: LockableMongod;
let folder: TestFolder;
let snapshot: string;
let hashes: Record<string, unknown>;
let parts: RestoreParts;
before(async () => {
  folder = await testFolder();
  [set, head] = await Promise.all([startReplicaSet({ name: 'blocks' }), startLockableMongod()]);
  stores = await openStores({ blockstore: set.uri });
  parts = { stores, daemon: 'd1', mongodFor: () => findBinary('mongod') };
  for (let round = 0; round < 3; round += 1) {
    const documents = Array.from({ length: 10_000 }, (_, n) => ({ round, n, text: `document ${n} `.repeat(20) }));
    await head.client
      .db('shop')
      .collection('orders')
      .insertMany(documents, { writeConcern: { w: 1, j: true } });
    // Each start begins another journal file: a head in use is never at its first.
    await head.restart();
  }
  await head.client.db('shop').collection('orders').createIndex({ n: 1, round: 1 });
  await head.client.db('shop').createCollection('weather', { timeseries: { timeField: 'at' } });
  await head.client.db('shop').createCollection('recent', { viewOn: 'orders', pipeline: [{ $match: { round: 2 } }] });
  await head.client.db('local').collection('lifeboat.position').insertOne({ at: 1 });
  hashes = await hashesOf(head.client);
  const member = await claimedMember(stores);
  snapshot = (await takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME })).id;
});
after(async () => {
  await stores?.close();
  await Promise.all([set?.[Symbol.asyncDispose](), head?.[Symbol.asyncDispose]()]);
  await folder?.[Symbol.asyncDispose]();
});

async function hashesOf(client: MongoClient): Promise<Record<string, unknown>> {
  const { collections } = await client.db('shop').command({ dbHash: 1 });
  return collections as Record<string, unknown>;
}

async function withMongod(
  dbpath: string,
  use: (client: MongoClient, mongod: RunningMongod) => Promise<void>,
  replSet?: string,
): Promise<void> {
  const mongod = await startMongod({
    binary: await findBinary('mongod'),
    dbpath,
    address: { port: await freePort() },
    cacheGiB: 0.25,
    logPath: `${dbpath}.log`,
    ...(replSet === undefined ? {} : { replSet }),
  });
  const client = await MongoClient.connect(mongod.uri);
  try {
    await use(client, mongod);
  } finally {
    await client.close();
    mongod.kill('SIGKILL');
    await mongod.exited;
  }
}

test('a restored directory holds nothing of ours, and a plain mongod serves the same data from it', async () => {
  const path = join(folder.path, 'plain');
  const summary = await restoreDirectory(stepContext(), parts, { id: 'plain', snapshot, path });
  assert.equal(summary.verified, true);
  assert.equal(summary.destination, `dir:${path}`);
  const names = await readdir(path);
  assert.deepEqual(
    names.filter((name) => /lifeboat|mongod\.lock|\.log$|diagnostic|_tmp|\.sock/i.test(name)),
    [],
  );
  await withMongod(path, async (client) => {
    assert.deepEqual(await hashesOf(client), hashes);
    assert.equal(await client.db('shop').collection('recent').countDocuments(), 10_000);
    const local = await client.db('local').listCollections().toArray();
    assert.deepEqual(
      local.map(({ name }) => String(name)),
      ['startup_log'],
    );
  });
});

test('a restored directory becomes a replica set by rs.initiate()', async () => {
  const path = join(folder.path, 'set');
  await restoreDirectory(stepContext(), parts, { id: 'set', snapshot, path });
  await withMongod(
    path,
    async (client, { address }) => {
      const host = `127.0.0.1:${'port' in address ? address.port : ''}`;
      const admin = client.db('admin');
      await admin.command({ replSetInitiate: { _id: 'again', members: [{ _id: 0, host }] } });
      await until(async () => (await admin.command({ hello: 1 }))['isWritablePrimary'] === true, 'it is primary');
      assert.deepEqual(await hashesOf(client), hashes);
      await client
        .db('shop')
        .collection('orders')
        .insertOne({ more: true }, { writeConcern: { w: 'majority' } });
    },
    'again',
  );
});

test('a crash after writes to a restored directory loses none that were acknowledged', async () => {
  const path = join(folder.path, 'crash');
  await restoreDirectory(stepContext(), parts, { id: 'crash', snapshot, path });
  await withMongod(path, async (client) => {
    const more = Array.from({ length: 500 }, (_, n) => ({ more: n }));
    await client
      .db('shop')
      .collection('orders')
      .insertMany(more, { writeConcern: { w: 1, j: true } });
  });
  await withMongod(path, async (client) => {
    assert.equal(
      await client
        .db('shop')
        .collection('orders')
        .countDocuments({ more: { $exists: true } }),
      500,
    );
  });
});

test('a directory that holds anything else is refused and left as it is', async () => {
  const path = join(folder.path, 'full');
  await mkdir(path);
  await writeFile(join(path, 'precious.txt'), 'mine');
  await assert.rejects(restoreDirectory(stepContext(), parts, { id: 'full', snapshot, path }), (error) =>
    isLifeboatError(error, 'TargetNotEmpty'),
  );
  assert.deepEqual(await readdir(path), ['precious.txt']);
  assert.equal(await readFile(join(path, 'precious.txt'), 'utf8'), 'mine');
});
