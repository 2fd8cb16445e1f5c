/** A change of the source's feature compatibility version is told, and a backup that begins after it is equal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLifeboatError } from '../src/shared/errors.ts';
import { DataPath } from './support/data-path.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';

const changed = (error: unknown): boolean => isLifeboatError(error, 'FeatureVersionChanged');

async function setVersion({ client }: TestReplicaSet, version: string): Promise<void> {
  await client.db('admin').command({ setFeatureCompatibilityVersion: version });
}

async function assertEqual(path: DataPath): Promise<void> {
  const { differences, notCompared } = await path.prove();
  assert.deepEqual([differences, notCompared], [[], []]);
}

test('a change of the feature compatibility version stops a backup, and the next initial sync is equal', async () => {
  await using source = await startReplicaSet();
  await source.client.db('shop').collection('orders').insertOne({ n: 1 });
  {
    await using path = await DataPath.open({ source: source.uri });
    await path.initialSync();
    await source.client.db('shop').collection('orders').insertOne({ n: 2 });
    await assertEqual(path);
    await setVersion(source, '5.0');
    await assert.rejects(path.applyUntil(await path.newest()), changed);
    // However often it is tried.
    await assert.rejects(path.applyUntil(await path.newest()), changed);
  }
  {
    await using path = await DataPath.open({ source: source.uri });
    await assert.rejects(
      path.initialSync((moment) => (moment === 'copied' ? setVersion(source, '6.0') : Promise.resolve())),
      changed,
    );
  }
});

test('a version that was changed before the begin of the sync is the one that the head is made under', async () => {
  await using source = await startReplicaSet();
  await source.client.db('shop').collection('orders').insertOne({ n: 1 });
  await using path = await DataPath.open({ source: source.uri });
  // What the claim wrote down is no longer so.
  await setVersion(source, '5.0');
  await path.initialSync();
  await assertEqual(path);
  await using head = await path.connectHead();
  const { featureCompatibilityVersion } = await head
    .db('admin')
    .command({ getParameter: 1, featureCompatibilityVersion: 1 });
  assert.equal(featureCompatibilityVersion.version, '5.0');
});
