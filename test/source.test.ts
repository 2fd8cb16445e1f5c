import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { startMongod } from '../src/mongod/process.ts';
import { Arrivals } from '../src/stores/arrivals.ts';
import { LifeboatError } from '../src/shared/errors.ts';
import { openSource, refuseStoreOnSource } from '../src/source/connect.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { openStores } from '../src/stores/connect.ts';
import { testFolder } from './support/folders.ts';
import { freePort, startReplicaSet, until } from './support/replica-set.ts';
import { digest, newFence, sourceDocuments, stepContext, storedDocuments } from './support/sync.ts';

/** The kind of the error that opening a source ends with. */
async function refusal(uri: string): Promise<string> {
  try {
    const source = await openSource({ name: 'shop', uri });
    await source.close();
    return 'none';
  } catch (error) {
    assert.ok(error instanceof LifeboatError, String(error));
    assert.doesNotMatch(error.message, /secret|127\.0\.0\.1:\d+\/\?/);
    return error.kind;
  }
}

test('a connection string that is none is named as such', async () => {
  for (const uri of [
    '',
    'http://localhost',
    'mongodb://',
    'mongodb://a:b:c@d',
    'mongodb://h/?tls=maybe',
    'mongodb://h/?what=1',
  ]) {
    assert.equal(await refusal(uri), 'BadUri', uri);
  }
});

test('a host that does not answer is unavailable, which passes', async () => {
  assert.equal(await refusal(`mongodb://127.0.0.1:${await freePort()}/?replicaSet=rs0`), 'SourceUnavailable');
});

test('a standalone, a set that was never initiated and a config server are refused by their names', async () => {
  await using folder = await testFolder();
  const binary = await findBinary('mongod');
  const kinds = [
    { extraArgs: [], refused: 'NotAReplicaSet' },
    { extraArgs: ['--replSet', 'rs0'], refused: 'NotAReplicaSet' },
  ];
  for (const [n, { extraArgs, refused }] of kinds.entries()) {
    const port = await freePort();
    const dbpath = join(folder.path, String(n));
    const mongod = await startMongod({
      binary,
      dbpath,
      address: { port },
      cacheGiB: 0.25,
      logPath: `${dbpath}.log`,
      extraArgs,
    });
    try {
      assert.equal(await refusal(`mongodb://127.0.0.1:${port}/`), refused);
      assert.equal(await refusal(`mongodb://127.0.0.1:${port}/?replicaSet=rs0`), refused);
    } finally {
      mongod.kill('SIGKILL');
      await mongod.exited;
    }
  }
  for (const role of ['--shardsvr', '--configsvr']) {
    await using set = await startReplicaSet({ extraArgs: [role], configsvr: role === '--configsvr' });
    assert.equal(await refusal(set.uri), 'UnsupportedSource', role);
  }
});

test('a URI that reaches only an arbiter is told from one that reaches nothing', async () => {
  await using folder = await testFolder();
  await using set = await startReplicaSet();
  const port = await freePort();
  const dbpath = join(folder.path, 'arbiter');
  const arbiter = await startMongod({
    binary: await findBinary('mongod'),
    dbpath,
    address: { port },
    cacheGiB: 0.25,
    logPath: `${dbpath}.log`,
    replSet: 'rs0',
  });
  try {
    const admin = set.client.db('admin');
    await admin.command({ setDefaultRWConcern: 1, defaultWriteConcern: { w: 1 } });
    const { config } = await admin.command({ replSetGetConfig: 1 });
    const members = [...config.members, { _id: 9, host: `127.0.0.1:${port}`, arbiterOnly: true }];
    await admin.command({ replSetReconfig: { ...config, version: Number(config.version) + 1, members } });
    await until(async () => {
      await using client = new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`);
      return (await client.db('admin').command({ hello: 1 }))['arbiterOnly'] === true;
    }, 'the arbiter is one');
    assert.equal(await refusal(`mongodb://127.0.0.1:${port}/?directConnection=true`), 'NoDataMember');
    set.members[0]?.kill('SIGKILL');
    await set.members[0]?.exited;
    assert.equal(await refusal(`mongodb://127.0.0.1:${port}/?replicaSet=rs0`), 'NoDataMember');
  } finally {
    arbiter.kill('SIGKILL');
    await arbiter.exited;
  }
});

test('a user with the roles backup and clusterMonitor is enough for all that is read', async () => {
  await using folder = await testFolder();
  const keyFile = join(folder.path, 'key');
  await writeFile(keyFile, randomBytes(48).toString('base64'), { mode: 0o600 });
  await using set = await startReplicaSet();
  await set.client.db('admin').command({ createUser: 'root', pwd: 'secret', roles: ['root'] });
  await set.client.db('admin').command({ createUser: 'lifeboat', pwd: 'secret', roles: ['backup', 'clusterMonitor'] });
  await set.client.db('admin').command({ createUser: 'nobody', pwd: 'secret', roles: [] });
  await set.client
    .db('shop')
    .collection('things')
    .insertMany([{ a: 1 }, { a: 2 }]);
  await set.client.db('shop').createCollection('seen', { viewOn: 'things', pipeline: [] });
  await set.members[0]?.stop();
  await set.restart(0, ['--keyFile', keyFile]);
  const uriOf = (user: string, password = 'secret'): string =>
    set.uri.replace('mongodb://', `mongodb://${user}:${password}@`);
  await until(async () => (await refusal(uriOf('lifeboat'))) === 'none', 'the set has a primary again');
  assert.equal(await refusal(uriOf('lifeboat', 'wrong')), 'AuthFailed');
  assert.equal(await refusal(uriOf('nobody')), 'NotAuthorized');

  await using blocks = await startReplicaSet({ name: 'blocks' });
  const stores = await openStores({ blockstore: blocks.uri });
  const source = await openSource({ name: 'shop', uri: uriOf('lifeboat') });
  try {
    const member = await source.pinned();
    await member.close();
    assert.match(member.copy.lasting, /^[0-9a-f-]{36}$/);
    const deployment = { stores, source, fence: await newFence(stores, source, 'shop'), arrivals: new Arrivals() };
    await beginSync(stepContext(), deployment);
    const { entries } = await tailOplog(stepContext(), deployment, { maxMs: 500 });
    assert.ok(entries > 0);
    assert.ok((await copySource(stepContext(), { ...deployment, slicesInFlight: 2 }, { maxMs: 60_000 })).finished);
    await using root = new MongoClient(uriOf('root'));
    for (const ns of ['shop.things', 'admin.system.users', 'admin.system.version']) {
      assert.equal(digest(await storedDocuments(deployment, ns)), digest(await sourceDocuments(root, ns)), ns);
    }
  } finally {
    await source.close();
    await stores.close();
  }
});

test('a store on the set that is backed up is refused', async () => {
  await using set = await startReplicaSet();
  const stores = await openStores({ blockstore: set.uri });
  const source = await openSource({ name: 'shop', uri: set.uri });
  try {
    assert.throws(() => refuseStoreOnSource(source, stores), { kind: 'StoreOnSource' });
  } finally {
    await source.close();
    await stores.close();
  }
});
