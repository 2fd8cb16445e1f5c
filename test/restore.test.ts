import assert from 'node:assert/strict';
import { access, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import type { LockedHead } from '../src/head/types.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import type { SnapshotSummary } from '../src/shared/messages.ts';
import { ZERO_OPTIME, type Optime } from '../src/shared/optime.ts';
import { restoreDirectory, type RestoreParts } from '../src/steps/restore-directory.ts';
import { takeSnapshot } from '../src/steps/take-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type LockableMongod } from './support/snapshots.ts';
import { abilitiesOf } from './support/workload-data.ts';
import { withMongod } from './support/with-mongod.ts';

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
  if ((await abilitiesOf(head.client)).series) {
    await head.client.db('shop').createCollection('weather', { timeseries: { timeField: 'at' } });
  }
  // Older than the rule that they break.
  await head.client
    .db('shop')
    .collection('unruly')
    .insertMany([{ n: -1 }, { n: 'none' }]);
  await head.client.db('shop').command({ collMod: 'unruly', validator: { n: { $gte: 0 } }, validationAction: 'error' });
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
  await withMongod(path, {}, async (client) => {
    assert.deepEqual(await hashesOf(client), hashes);
    assert.equal(await client.db('shop').collection('recent').countDocuments(), 10_000);
    const local = await client.db('local').listCollections().toArray();
    assert.deepEqual(
      local.map(({ name }) => name),
      ['startup_log'],
    );
  });
});

test('checkpoints that a locked head makes while it is read do the snapshot no harm', async () => {
  // What it does every 60 s, it does every other second.
  const busy = await startLockableMongod(['--syncdelay', '2']);
  try {
    const orders = busy.client.db('shop').collection('orders');
    await orders.insertMany(Array.from({ length: 20_000 }, (_, n) => ({ n, text: `document ${n} `.repeat(10) })));
    await orders.createIndex({ text: 1 });
    await orders.updateMany({ n: { $mod: [3, 0] } }, { $set: { changed: true } });
    const expected = await hashesOf(busy.client);
    const turtle = async (): Promise<string> => readFile(join(busy.dbpath, 'WiredTiger.turtle'), 'utf8');
    const pause = new Int32Array(new SharedArrayBuffer(4));
    const member = await claimedMember(stores);
    const before = { text: '' };
    const watched = {
      async lock(minimum: Optime): Promise<LockedHead> {
        const locked = await busy.lock(minimum);
        before.text = await turtle();
        return locked;
      },
    };
    let taken: SnapshotSummary | undefined;
    await until(async () => {
      let pieces = 0;
      // After the metadata, and before nearly all data: this process stands still, the mongod does not.
      const ctx = stepContext(new AbortController().signal, () => {
        pieces += 1;
        if (pieces === 4) Atomics.wait(pause, 0, 0, 4_000);
      });
      try {
        taken = await takeSnapshot(ctx, { ...member, head: watched }, { minimum: ZERO_OPTIME });
      } catch (error) {
        // A checkpoint between the lock and the first read is the one case that needs another try.
        if (!isLifeboatError(error, 'SnapshotLockLost')) throw error;
      }
      return taken !== undefined;
    }, 'a snapshot is taken');
    assert.notEqual(await turtle(), before.text, 'no checkpoint was made while the head was read');

    const path = join(folder.path, 'checkpoints');
    await restoreDirectory(stepContext(), parts, { id: 'checkpoints', snapshot: taken?.id ?? '', path });
    await withMongod(path, {}, async (client) => assert.deepEqual(await hashesOf(client), expected));
  } finally {
    await busy[Symbol.asyncDispose]();
  }
});

test('a restored directory becomes a replica set by rs.initiate()', async () => {
  const path = join(folder.path, 'set');
  await restoreDirectory(stepContext(), parts, { id: 'set', snapshot, path });
  await withMongod(path, { replSet: 'again' }, async (client, { address }) => {
    const host = `127.0.0.1:${'port' in address ? address.port : ''}`;
    const admin = client.db('admin');
    await admin.command({ replSetInitiate: { _id: 'again', members: [{ _id: 0, host }] } });
    await until(async () => (await admin.command({ hello: 1 }))['isWritablePrimary'] === true, 'it is primary');
    assert.deepEqual(await hashesOf(client), hashes);
    await client
      .db('shop')
      .collection('orders')
      .insertOne({ more: true }, { writeConcern: { w: 'majority' } });
  });
});

test('a crash after writes to a restored directory loses none that were acknowledged', async () => {
  const path = join(folder.path, 'crash');
  await restoreDirectory(stepContext(), parts, { id: 'crash', snapshot, path });
  await withMongod(path, {}, async (client) => {
    const more = Array.from({ length: 500 }, (_, n) => ({ more: n }));
    await client
      .db('shop')
      .collection('orders')
      .insertMany(more, { writeConcern: { w: 1, j: true } });
  });
  await withMongod(path, {}, async (client) => {
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

test('a destination in the data of Lifeboat or in the dbpath of a mongod is refused by name', async () => {
  const own = join(folder.path, 'own');
  await mkdir(join(own, 'daemon'), { recursive: true });
  await symlink(own, join(folder.path, 'alias'));
  const refused = async (id: string, path: string, named: string): Promise<void> => {
    const restoring = restoreDirectory(stepContext(), { ...parts, ownFolders: [own] }, { id, snapshot, path });
    await assert.rejects(
      restoring,
      (error) => isLifeboatError(error, 'TargetUnusable') && error.message.includes(named) && !error.retryable,
    );
    await assert.rejects(access(join(path, 'storage.bson')));
  };
  await refused('in-own', join(own, 'daemon', 'new'), own);
  await refused('is-own', own, own);
  await refused('in-alias', join(folder.path, 'alias', 'new'), own);
  await refused('in-head', join(head.dbpath, 'restored'), head.dbpath);
  await refused('deep-in-head', join(head.dbpath, 'journal', 'a', 'b'), head.dbpath);
});

test('a destination that can never be made is refused at once', async () => {
  await symlink(join(folder.path, 'nowhere', 'at', 'all'), join(folder.path, 'dangling'));
  const paths = [join(folder.path, 'dangling'), ...(process.platform === 'linux' ? ['/proc/restored'] : [])];
  for (const [n, path] of paths.entries()) {
    const restoring = restoreDirectory(stepContext(), parts, { id: `never-${n}`, snapshot, path });
    await assert.rejects(restoring, (error) => isLifeboatError(error, 'TargetUnusable'));
    const record = await stores.restores.findOne({ _id: `never-${n}` });
    assert.deepEqual([record?.state, record?.problem?.code], ['failed', 'LB6002']);
  }
});

/** A mongod that is killed the first time: at its start, or when it is asked to shut down. */
async function killedOnce(name: string, when: 'start' | 'shutdown'): Promise<string> {
  const [script, mark] = [join(folder.path, `${name}.sh`), join(folder.path, `${name}.mark`)];
  const die =
    when === 'start' ? 'kill -9 $$' : `"${await findBinary('mongod')}" "$@" & trap "kill -9 $!; kill -9 $$" TERM; wait`;
  const lines = ['#!/bin/sh', `if [ ! -e "${mark}" ]; then touch "${mark}"; ${die}; fi`];
  await writeFile(script, `${lines.join('\n')}\nexec "${await findBinary('mongod')}" "$@"\n`, { mode: 0o755 });
  return script;
}

for (const when of ['start', 'shutdown'] as const) {
  test(`a prover that is killed at its ${when} has judged nothing, and the next run of the restore succeeds`, async () => {
    const id = `killed-at-${when}`;
    const binary = await killedOnce(id, when);
    const request = { id, snapshot, path: join(folder.path, id) };
    const restoring = (): Promise<unknown> =>
      restoreDirectory(stepContext(), { ...parts, mongodFor: () => Promise.resolve(binary) }, request);
    await assert.rejects(restoring(), (error) => isLifeboatError(error, 'ProofInterrupted'));
    const record = await stores.restores.findOne({ _id: id });
    assert.deepEqual([record?.state, record?.problem?.code], ['running', 'LB6006']);
    await restoring();
    const done = await stores.restores.findOne({ _id: id });
    assert.deepEqual([done?.state, done?.problem], ['done', null]);
  });
}

test('a restore that fails again and again shows what ails it, also by an error that nobody foresaw', async () => {
  const request = { id: 'ailing', snapshot, path: join(folder.path, 'ailing') };
  const failing = { ...parts, mongodFor: () => Promise.reject(new Error('a secret')) };
  await assert.rejects(restoreDirectory(stepContext(), failing, request), { message: 'a secret' });
  const first = await stores.restores.findOne({ _id: 'ailing' });
  assert.deepEqual([first?.state, first?.problem?.code], ['running', 'LB9001']);
  assert.equal(first?.problem?.message.includes('secret'), false);
  await assert.rejects(restoreDirectory(stepContext(), failing, request), { message: 'a secret' });
  const second = await stores.restores.findOne({ _id: 'ailing' });
  assert.deepEqual(second?.problem?.since, first?.problem?.since);
});
