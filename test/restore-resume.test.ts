import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Binary } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { mongodOn } from '../src/mongod/process.ts';
import { RestoreTarget } from '../src/restore/target.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { ZERO_OPTIME } from '../src/shared/optime.ts';
import { clearRestore, restoreDirectory, type RestoreParts } from '../src/steps/restore-directory.ts';
import { takeSnapshot } from '../src/steps/take-snapshot.ts';
import { openStores, type Stores } from '../src/stores/connect.ts';
import { crashOf } from './support/crash-child.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { claimedMember, startLockableMongod, stepContext, type TestContext } from './support/snapshots.ts';
import { withMongod } from './support/with-mongod.ts';

const DOCUMENTS = 6_000;

let set: TestReplicaSet;
let stores: Stores;
let folder: TestFolder;
let snapshot: string;
let blocks: number;
let parts: RestoreParts;
before(async () => {
  folder = await testFolder();
  set = await startReplicaSet({ name: 'blocks' });
  stores = await openStores({ blockstore: set.uri });
  parts = { stores, daemon: 'd1', mongodFor: () => findBinary('mongod') };
  const head = await startLockableMongod();
  try {
    // Several groups of blocks, so that a crash falls between them.
    const documents = Array.from({ length: DOCUMENTS }, (_, n) => ({ n, bytes: new Binary(randomBytes(8_000)) }));
    await head.client.db('shop').collection('orders').insertMany(documents);
    const member = await claimedMember(stores);
    const taken = await takeSnapshot(stepContext(), { ...member, head }, { minimum: ZERO_OPTIME });
    snapshot = taken.id;
    blocks = taken.newBlocks + taken.reusedBlocks;
  } finally {
    await head[Symbol.asyncDispose]();
  }
});
after(async () => {
  await stores?.close();
  await set?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

async function countIn(dbpath: string): Promise<number> {
  return withMongod(dbpath, {}, (client) => client.db('shop').collection('orders').countDocuments());
}

async function assertMongodRefuses(path: string): Promise<void> {
  await assert.rejects(countIn(path), (error) => isLifeboatError(error, 'HeadStartFailed'));
}

function fetched({ logs }: TestContext): { readonly fetchedBlocks: number; readonly foundBlocks: number } {
  const line = logs.find(({ msg }) => msg === 'files restored');
  return { fetchedBlocks: Number(line?.['fetchedBlocks']), foundBlocks: Number(line?.['foundBlocks']) };
}

for (const dieAt of ['files', 'proof: hashes', 'proof: validate']) {
  test(`a restore killed in "${dieAt}" is refused by mongod, resumes and fetches little again`, async () => {
    const id = dieAt.replaceAll(/\W+/g, '-');
    const path = join(folder.path, id);
    const signal = await crashOf({ step: 'restore', store: set.uri, request: { id, snapshot, path }, dieAt });
    assert.equal(signal, 'SIGKILL');
    await assertMongodRefuses(path);
    await assert.rejects(restoreDirectory(stepContext(), parts, { id: `not-${id}`, snapshot, path }), (error) =>
      isLifeboatError(error, 'TargetNotEmpty'),
    );

    const ctx = stepContext();
    const summary = await restoreDirectory(ctx, parts, { id, snapshot, path });
    const { fetchedBlocks, foundBlocks } = fetched(ctx);
    assert.equal(fetchedBlocks + foundBlocks, blocks);
    const most = dieAt === 'files' ? blocks * 0.6 : blocks * 0.05;
    assert.ok(fetchedBlocks < most, `${fetchedBlocks} of ${blocks} blocks were fetched again`);
    assert.equal(summary.verified, true);
    assert.deepEqual(
      (await readdir(path)).filter((name) => name.includes('lifeboat')),
      [],
    );
    assert.equal(await countIn(path), DOCUMENTS);
    // Killed children do not leave a mongod behind: the resumed run ended it.
    assert.equal(await mongodOn(join(path, '.lifeboat-restore')), undefined);
  });
}

test('a file that was changed on disk between two runs is put right', async () => {
  const request = { id: 'changed', snapshot, path: join(folder.path, 'changed') };
  await crashOf({ step: 'restore', store: set.uri, request, dieAt: 'proof: hashes' });
  const staging = join(request.path, '.lifeboat-restore');
  const [largest] = (await readdir(staging)).filter((name) => name.startsWith('collection-'));
  await writeFile(join(staging, largest ?? ''), 'garbage', { flag: 'r+' });
  await writeFile(join(staging, 'stray.wt'), 'left by nobody knows whom');
  await restoreDirectory(stepContext(), parts, request);
  assert.equal((await readdir(request.path)).includes('stray.wt'), false);
  assert.equal(await countIn(request.path), DOCUMENTS);
});

test('a restore that was stopped goes on, and asked again when it is done answers the same', async () => {
  const request = { id: 'stopped', snapshot, path: join(folder.path, 'stopped') };
  const stop = new AbortController();
  const stopped = stepContext(stop.signal, ({ stage }) => stage === 'proof: validate' && stop.abort());
  await assert.rejects(restoreDirectory(stopped, parts, request), { name: 'AbortError' });
  assert.equal((await stores.restores.findOne({ _id: 'stopped' }))?.state, 'running');
  assert.equal(await mongodOn(join(request.path, '.lifeboat-restore')), undefined);

  const summary = await restoreDirectory(stepContext(), parts, request);
  assert.deepEqual(await restoreDirectory(stepContext(), parts, request), summary);
  const record = await stores.restores.findOne({ _id: 'stopped' });
  assert.deepEqual([record?.state, record?.stage, record?.problem], ['done', 'done', null]);
});

test('a run that a later one of the same restore overtook stops before the later one begins', async () => {
  const request = { id: 'overtaken', snapshot, path: join(folder.path, 'overtaken') };
  let second: Promise<unknown> | undefined;
  const ctx = stepContext(new AbortController().signal, ({ stage }) => {
    if (stage === 'files') second ??= restoreDirectory(stepContext(), parts, request);
  });
  await assert.rejects(restoreDirectory(ctx, parts, request), (error) => isLifeboatError(error, 'FenceLost'));
  await second;
  assert.equal(await countIn(request.path), DOCUMENTS);
});

test('another restore into the directory of one that runs is refused, and does that one no harm', async () => {
  const request = { id: 'first', snapshot, path: join(folder.path, 'contested') };
  const other = { ...request, id: 'second' };
  let refused: Promise<void> | undefined;
  const ctx = stepContext(new AbortController().signal, ({ stage }) => {
    if (stage !== 'files') return;
    refused ??= (async () => {
      await assert.rejects(restoreDirectory(stepContext(), parts, other), (error) =>
        isLifeboatError(error, 'TargetNotEmpty'),
      );
      await clearRestore(other);
    })();
    refused.catch(() => undefined);
  });
  await restoreDirectory(ctx, parts, request);
  await refused;
  assert.equal(await countIn(request.path), DOCUMENTS);
});

test('a restore that is taken back leaves an empty directory, and none of anybody else', async () => {
  const request = { id: 'taken-back', snapshot, path: join(folder.path, 'taken-back') };
  await crashOf({ step: 'restore', store: set.uri, request, dieAt: 'proof: validate' });
  await clearRestore({ id: 'another', path: request.path });
  await assertMongodRefuses(request.path);
  await clearRestore(request);
  assert.deepEqual(await readdir(request.path), []);

  await writeFile(join(request.path, 'storage.bson'), 'of a database');
  await clearRestore(request);
  assert.deepEqual(await readdir(request.path), ['storage.bson']);
});

test('a hand-over that stopped at any file goes on to the same end', async () => {
  const proven = join(folder.path, 'proven');
  await mkdir(join(proven, 'journal'), { recursive: true });
  const names = ['WiredTiger', 'collection-1.wt', 'journal/WiredTigerLog.1', 'storage.bson'];
  for (const name of names) await writeFile(join(proven, name), `the real ${name}`);
  const order = ['WiredTiger', 'collection-1.wt', 'journal', 'storage.bson'];
  for (let moved = 0; moved <= order.length; moved += 1) {
    const path = join(folder.path, `moved-${moved}`);
    const target = new RestoreTarget(path, 'r');
    await target.take();
    await rm(target.staging, { recursive: true });
    await cp(proven, target.staging, { recursive: true });
    await target.markProven();
    for (const name of order.slice(0, moved)) await rename(join(path, '.lifeboat-proven', name), join(path, name));
    assert.equal(await target.stage(), 'hand-over');
    await new RestoreTarget(path, 'r').handOver();
    assert.deepEqual((await readdir(path)).sort(), order);
    for (const name of names) assert.equal(await readFile(join(path, name), 'utf8'), `the real ${name}`);
    assert.equal(await target.isHandedOver(), true);
  }
});

test('a restore whose end was not recorded is recorded as done, not refused', async () => {
  const request = { id: 'unrecorded', snapshot, path: join(folder.path, 'unrecorded') };
  const summary = await restoreDirectory(stepContext(), parts, request);
  await stores.restores.updateOne(
    { _id: request.id },
    { $set: { state: 'running', stage: 'hand-over', endedAt: null } },
  );
  assert.deepEqual(await restoreDirectory(stepContext(), parts, request), summary);
  assert.equal((await stores.restores.findOne({ _id: request.id }))?.state, 'done');
});

test('a directory that cannot be written to is named, and an id belongs to one restore', async () => {
  const file = join(folder.path, 'a-file');
  await writeFile(file, '');
  for (const path of [file, join(file, 'below'), 'relative']) {
    await assert.rejects(restoreDirectory(stepContext(), parts, { id: `to ${path}`, snapshot, path }), (error) =>
      isLifeboatError(error, 'TargetUnusable'),
    );
  }
  const path = join(folder.path, 'elsewhere');
  await assert.rejects(restoreDirectory(stepContext(), parts, { id: 'unrecorded', snapshot, path }), (error) =>
    isLifeboatError(error, 'BadInput'),
  );
});
