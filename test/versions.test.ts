/**
 * The life of a backup on servers of other versions than the one that all other tests run: initial sync and routine under
 * writers, a snapshot, its restore, and the restored directory held against the source as it was.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { type MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { mongodOn } from '../src/mongod/process.ts';
import { proveEqual, type EqualityReport } from '../src/proof/equality.ts';
import { errorKind, isLifeboatError } from '../src/shared/errors.ts';
import type { RestoreSummary, SnapshotSummary } from '../src/shared/messages.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import { formatOptime, type Optime } from '../src/shared/optime.ts';
import { openSource } from '../src/source/connect.ts';
import { DataPath } from './support/data-path.ts';
import { testFolder } from './support/folders.ts';
import {
  applyAll,
  beginAt,
  headDbpath,
  headIdentity,
  headPid,
  oldestEntry,
  openHead,
  proveHead,
  rawEntries,
} from './support/head.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { mongodOf, OTHER_VERSIONS, type OtherMongod, type OtherVersion } from './support/mongods.ts';
import { Random, testSeed } from './support/random.ts';
import { freePort, startReplicaSet, until } from './support/replica-set.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';
import { withMongod } from './support/with-mongod.ts';

type Mongod = Exclude<OtherMongod, { missing: string }>;

/** A source that is written to goes on losing documents of this one, and then cannot say what it held. */
const FORGOTTEN = new Set(['base.capped']);

for (const name of OTHER_VERSIONS) {
  const skip = await missing(name);
  test(`what is restored from a backup of a mongod ${name} equals it, byte for byte`, { skip }, async (t) => {
    const found = await mongodOf(name);
    assert.ok('path' in found);
    t.diagnostic(`mongod ${found.version}`);
    await backUpAndRestore(t, found);
  });
}

for (const [name, older] of [
  ['4.4', '4.2'],
  ['5.0', '4.4'],
  ['6.0.27', '5.0'],
] as const) {
  const skip = await missing(name);
  test(`a backup of a mongod ${name} whose features become those of ${older} needs a resync`, { skip }, async () => {
    const found = await mongodOf(name);
    assert.ok('path' in found);
    await using lifeboat = await startLifeboat({ mongod: found });
    await lifeboat.startBackup('shop');
    await lifeboat.untilPhase('shop', 'routine', 180_000);
    await lifeboat.source.client.db('admin').command({ setFeatureCompatibilityVersion: older });
    const { problem } = await lifeboat.untilPhase('shop', 'resync-needed');
    assert.equal(problem?.code, errorKind('FeatureVersionChanged').code);
  });
}

for (const [name, older] of [
  ['5.0', '4.4'],
  ['6.0.27', '5.0'],
] as const) {
  const skip = await missing(name);
  test(`a mongod ${name} whose features are those of ${older} has a head of the same`, { skip }, async (t) => {
    const found = await mongodOf(name);
    assert.ok('path' in found);
    await followOlder(t, found.path, older);
  });
}

/** Half of an upgrade: the server is the newer one, what it writes is of the older one. */
async function followOlder(t: TestContext, binary: string, older: string): Promise<void> {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  await using source = await startReplicaSet({ binary });
  await source.client.db('admin').command({ setFeatureCompatibilityVersion: older });
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  await using path = await DataPath.open({ source: source.uri, mongod: binary });
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, writers: 2 });
  try {
    await writers.takeSteps(50);
    await path.initialSync();
    await writers.takeSteps(150);
  } finally {
    await writers.stop();
  }
  assertEqual(await path.prove(), new Set());
}

for (const name of [...OTHER_VERSIONS, null]) {
  const skip = name !== null && (await missing(name));
  const what = name ?? 'that other tests run';
  test(`a head that was killed trims its capped collections as its source does: mongod ${what}`, { skip }, async () => {
    const found = name === null ? { path: await findBinary('mongod') } : await mongodOf(name);
    assert.ok('path' in found);
    await killAndTrim(found.path);
  });
}

/** Large documents take the place of many small ones, so that the head's last checkpoint has far more than there are. */
async function killAndTrim(binary: string): Promise<void> {
  await using folder = await testFolder();
  await using source = await startReplicaSet({ binary });
  const ring = source.client.db('d').collection<{ _id: number; text: string }>('ring');
  const begin = await oldestEntry(source.client);
  await source.client.db('d').createCollection('ring', { capped: true, size: 64 * 1024, max: 100 });
  let next = 0;
  const insert = async (count: number, bytes: number): Promise<void> => {
    const documents = Array.from({ length: count }, () => ({ _id: next++, text: 'x'.repeat(bytes) }));
    await ring.insertMany(documents, { writeConcern: { w: 'majority' } });
  };
  const identity = headIdentity();
  let head = await openHead(folder.path, identity, { binary });
  const follow = async (): Promise<void> => {
    const at = head.state().position?.appliedThrough ?? begin;
    await applyAll(head, await rawEntries(source.client, at));
  };
  try {
    await beginAt(head, begin);
    await insert(150, 100);
    await follow();
    await head.close();
    head = await openHead(folder.path, identity, { binary });
    await insert(20, 4_000);
    await follow();
    // Durable, so that the kill takes none of it.
    await head.attempt('apply').turn((open) => open.save(open.record, { journaled: true }));
    const pid = await headPid(folder.path, identity);
    process.kill(pid, 'SIGKILL');
    await until(async () => (await mongodOn(headDbpath(folder.path, identity))) === undefined, 'it has ended');
    await insert(3, 100);
    await until(
      () =>
        follow().then(
          () => true,
          (error: unknown) => !(isLifeboatError(error) && error.retryable) && Promise.reject(error as Error),
        ),
      'the head is opened anew',
    );
    const { differences, notCompared } = await proveHead(source.client, folder.path, head, identity);
    assert.deepEqual([differences, notCompared], [[], []]);
    assert.ok((await ring.countDocuments()) < 50);
  } finally {
    await head.close();
  }
}

test('a 4.4 that cannot be read at majority is refused', { skip: await missing('4.4') }, async () => {
  const found = await mongodOf('4.4');
  assert.ok('path' in found);
  await using source = await startReplicaSet({
    binary: found.path,
    extraArgs: ['--enableMajorityReadConcern', 'false'],
  });
  await assert.rejects(openSource({ name: 'shop', uri: source.uri }), (error) =>
    isLifeboatError(error, 'UnsupportedSource'),
  );
});

async function missing(name: OtherVersion): Promise<string | false> {
  const found = await mongodOf(name);
  return 'missing' in found ? found.missing : false;
}

async function backUpAndRestore(t: TestContext, mongod: Mongod): Promise<void> {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  await using lifeboat = await startLifeboat({ mongod });
  const { source } = lifeboat;
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, writers: 2 });
  try {
    await writers.takeSteps(50);
    await lifeboat.startBackup('shop');
    await lifeboat.untilPhase('shop', 'routine', 180_000);
    await writers.takeSteps(200);
    // No server can tell what its catalog was.
    await writers.holdCatalog();
    await restoreSnapshot(lifeboat, t, mongod, { name: 'written-to', allowed: FORGOTTEN });
    writers.resumeCatalog();
    await writers.takeSteps(100);
  } finally {
    const counts = await writers.stop();
    t.diagnostic(JSON.stringify(Object.fromEntries(counts)));
  }
  const path = await restoreSnapshot(lifeboat, t, mongod, { name: 'quiet', allowed: new Set() });
  await assertBecomesReplicaSet(mongod, path);
}

/** Takes a snapshot, restores it to a directory, and proves a mongod on that against the source. */
async function restoreSnapshot(
  lifeboat: TestLifeboat,
  t: TestContext,
  mongod: Mongod,
  { name, allowed }: { readonly name: string; readonly allowed: ReadonlySet<string> },
): Promise<string> {
  const run = async <T>(type: string, input: object): Promise<T> =>
    lifeboat.client.workflow.execute(type, {
      workflowId: `${type}/shop/${name}`,
      taskQueue: TASK_QUEUE,
      args: [input],
    }) as Promise<T>;
  const { id, optime } = await run<SnapshotSummary>('snapshot', { deployment: 'shop' });
  const path = join(lifeboat.folder, name);
  const { verified } = await run<RestoreSummary>('restore', { deployment: 'shop', snapshot: id, to: `dir:${path}` });
  assert.equal(verified, true);
  await withMongod(path, { binary: mongod.path }, async (client) => {
    const report = await prove(lifeboat, client, optime);
    t.diagnostic(`${formatOptime(optime)}: ${report.comparedDocuments} documents`);
    assertEqual(report, allowed);
  });
  return path;
}

async function prove({ source }: TestLifeboat, copy: MongoClient, at: Optime): Promise<EqualityReport> {
  return proveEqual({ source: { client: source.client, at }, copy: { client: copy }, ids: 5 });
}

function assertEqual(
  { differences, notCompared, comparedDocuments }: EqualityReport,
  allowed: ReadonlySet<string>,
): void {
  assert.deepEqual(differences, []);
  assert.deepEqual(
    notCompared.filter(({ namespace }) => !allowed.has(namespace)),
    [],
  );
  assert.ok(comparedDocuments > 5_000, `only ${comparedDocuments} documents were compared`);
}

/** What was acknowledged by the set is there after it was killed. */
async function assertBecomesReplicaSet(mongod: Mongod, path: string): Promise<void> {
  const port = await freePort();
  const options = { binary: mongod.path, replSet: 'again', port };
  const collection = (client: MongoClient) => client.db('base').collection<{ _id: string }>('written since');
  await withMongod(path, options, async (client) => {
    const admin = client.db('admin');
    await admin.command({ replSetInitiate: { _id: 'again', members: [{ _id: 0, host: `127.0.0.1:${port}` }] } });
    await until(async () => (await admin.command({ hello: 1 }))['isWritablePrimary'] === true, 'it is primary');
    // A 4.4 that is killed right after it has said that it is primary has no configuration any more (tried on 4.4.2).
    await admin.command({ fsync: 1 });
    await collection(client).insertOne({ _id: 'here' }, { writeConcern: { w: 'majority', j: true } });
  });
  await withMongod(path, options, async (client) => {
    await until(async () => (await client.db('admin').command({ hello: 1 }))['isWritablePrimary'] === true, 'it is');
    assert.equal(await collection(client).countDocuments(), 1);
  });
}
