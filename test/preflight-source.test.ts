/** The checks before a backup against real replica sets: roles, members, oplog and stores that are well and that are not. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { checkStores } from '../src/preflight/blockstore.ts';
import { checkDeployment, withoutSource, type DeploymentWishes } from '../src/preflight/deployment.ts';
import type { Finding } from '../src/preflight/finding.ts';
import { isLifeboatError, type LifeboatError } from '../src/shared/errors.ts';
import type { CheckName } from '../src/shared/messages.ts';
import { openSource, type Source } from '../src/source/connect.ts';
import { missingRoles } from '../src/source/privileges.ts';
import { openStores } from '../src/stores/connect.ts';
import { testFolder } from './support/folders.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';

const never = new AbortController().signal;
const wishes: DeploymentWishes = {
  readFrom: 'secondaryPreferred',
  minOplogWindowMs: 3 * 3_600_000,
  pointInTimeWindowMs: 86_400_000,
  allowUnverifiedVersion: false,
  exclude: [],
};

async function findings(source: Source, begun = false, more: Partial<DeploymentWishes> = {}): Promise<Finding[]> {
  await using folder = await testFolder();
  const machine = { dataDir: folder.path, heads: join(folder.path, 'heads'), mongodFor: () => findBinary('mongod') };
  return await checkDeployment({ source, wishes: { ...wishes, ...more }, machine, begun }, never);
}

function found(all: readonly Finding[], name: CheckName): Finding {
  return all.find((finding) => finding.name === name) ?? assert.fail(`no check ${name}`);
}

async function refusal(uri: string): Promise<LifeboatError> {
  try {
    const source = await openSource({ name: 'shop', uri });
    await source.close();
  } catch (error) {
    if (isLifeboatError(error)) return error;
    throw error;
  }
  return assert.fail('it was opened');
}

test('exactly the roles backup and clusterMonitor pass every check; either one missing is named', async () => {
  await using folder = await testFolder();
  const keyFile = join(folder.path, 'key');
  await writeFile(keyFile, randomBytes(48).toString('base64'), { mode: 0o600 });
  await using set = await startReplicaSet();
  const users = { both: ['backup', 'clusterMonitor'], reader: ['backup'], watcher: ['clusterMonitor'], nobody: [] };
  for (const [user, roles] of Object.entries(users)) {
    await set.client.db('admin').command({ createUser: user, pwd: 'secret', roles });
  }
  await set.client.db('shop').collection('things').insertOne({ a: 1 });
  await set.members[0]?.stop();
  await set.restart(0, ['--keyFile', keyFile]);
  const uriOf = (user: string, password = 'secret'): string =>
    set.uri.replace('mongodb://', `mongodb://${user}:${password}@`);
  await until(
    async () =>
      (await openSource({ name: 'shop', uri: uriOf('both') }).then(
        (s) => s.close(),
        () => 'no',
      )) !== 'no',
    'the set has a primary again',
  );
  const missing = async (user: string): Promise<readonly string[]> => {
    await using client = new MongoClient(uriOf(user));
    return await missingRoles(client);
  };
  assert.deepEqual(await missing('both'), []);
  assert.deepEqual(await missing('reader'), ['clusterMonitor']);
  assert.deepEqual(await missing('watcher'), ['backup']);
  assert.deepEqual(await missing('nobody'), ['backup', 'clusterMonitor']);
  const lacksMonitor = await refusal(uriOf('reader'));
  assert.deepEqual(
    [lacksMonitor.kind, lacksMonitor.message],
    ['NotAuthorized', 'the user of shop lacks the role "clusterMonitor" on the database admin'],
  );
  assert.match((await refusal(uriOf('watcher'))).message, /the role "backup" on/);
  assert.match((await refusal(uriOf('nobody'))).message, /the roles "backup" and "clusterMonitor" on/);
  const login = withoutSource(await refusal(uriOf('both', 'wrong')), wishes, true);
  assert.deepEqual([found(login, 'privileges').level, found(login, 'disk').level], ['failed', 'unknown']);

  const source = await openSource({ name: 'shop', uri: uriOf('both') });
  try {
    const all = await findings(source);
    assert.deepEqual(
      all.filter(({ level }) => level !== 'passed'),
      [],
    );
    assert.deepEqual(all.map(({ name }) => name).toSorted(), [
      'disk',
      'mongod',
      'open-files',
      'oplog-window',
      'point-in-time',
      'privileges',
      'source',
    ]);
  } finally {
    await source.close();
  }
});

test('a recovering member is named and passed over; a set that lost its primary is waited for', async () => {
  await using set = await startReplicaSet({ members: 2 });
  const source = await openSource({ name: 'shop', uri: set.uri });
  try {
    assert.equal(found(await findings(source), 'source').level, 'passed');
    const { host = '', port = 0 } = set.client.options.hosts[1] ?? {};
    await using second = await MongoClient.connect(`mongodb://${host}:${port}/?directConnection=true`);
    await second.db('admin').command({ replSetMaintenance: true });
    let finding: Finding | undefined;
    await until(async () => {
      finding = found(await findings(source), 'source');
      return finding.level === 'warning';
    }, 'the member is seen recovering');
    assert.equal(finding?.error?.kind, 'MemberNotHealthy');
    assert.match(finding?.detail ?? '', new RegExp(`${host}:${port} is RECOVERING; read from`));
    await second.db('admin').command({ replSetMaintenance: false });
    await set.client.close();
    set.members[0]?.kill('SIGKILL');
    await until(async () => {
      finding = found(await findings(source), 'source');
      return finding.level === 'failed';
    }, 'the primary is missed');
    assert.ok(finding?.error?.retryable, finding?.detail);
    assert.equal(found(await findings(source, true), 'source').level, 'warning');
  } finally {
    await source.close();
  }
});

/** Writes until the oplog of 8 MB cuts entries off. */
async function overflow(set: TestReplicaSet): Promise<void> {
  const things = set.client.db('flood').collection('things');
  await until(async () => {
    await things.insertMany(Array.from({ length: 8 }, () => ({ bytes: randomBytes(500_000) })));
    const { size, maxSize } = await set.client.db('local').command({ collStats: 'oplog.rs' });
    return size >= maxSize;
  }, 'the oplog is full');
}

test('an oplog too small for its writes is refused at the beginning and warned of later', async () => {
  await using set = await startReplicaSet({ extraArgs: ['--oplogSize', '8', '--syncdelay', '1'] });
  const source = await openSource({ name: 'shop', uri: set.uri });
  try {
    assert.equal(found(await findings(source), 'oplog-window').level, 'passed');
    await overflow(set);
    const refused = found(await findings(source), 'oplog-window');
    assert.deepEqual([refused.level, refused.error?.kind], ['failed', 'OplogWindowTooShort']);
    assert.match(refused.detail, /less than minOplogWindow 3 h/);
    assert.equal(found(await findings(source, true), 'oplog-window').level, 'warning');
    assert.equal(found(await findings(source, false, { minOplogWindowMs: 0 }), 'oplog-window').level, 'passed');
    await set.client.db('admin').command({ replSetResizeOplog: 1, size: 990, minRetentionHours: 5 });
    assert.equal(found(await findings(source), 'oplog-window').level, 'passed');
  } finally {
    await source.close();
  }
});

test('stores that a majority does not confirm, or that lie on the source, are refused', async () => {
  await using set = await startReplicaSet({ name: 'blocks', members: 2 });
  const stores = await openStores({ blockstore: set.uri });
  const source = await openSource({ name: 'shop', uri: set.uri });
  try {
    assert.equal((await checkStores(stores, undefined, true, never)).level, 'passed');
    const onSource = await checkStores(stores, source, true, never);
    assert.deepEqual([onSource.level, onSource.error?.kind], ['failed', 'StoreOnSource']);
    set.members[1]?.kill('SIGSTOP');
    const from = performance.now();
    const { level, error } = await checkStores(stores, undefined, true, never);
    assert.deepEqual([level, error?.kind], ['failed', 'StoreUnavailable']);
    assert.ok(performance.now() - from < 20_000);
  } finally {
    set.members[1]?.kill('SIGCONT');
    await source.close();
    await stores.close();
  }
});
