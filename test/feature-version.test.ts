/** A change of the source's feature compatibility version is told, and a backup that begins after it is equal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findBinary } from '../src/embedded/binaries.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf } from './support/mongods.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';

const changed = (error: unknown): boolean => isLifeboatError(error, 'FeatureVersionChanged');

async function setVersion({ client }: TestReplicaSet, version: string): Promise<void> {
  await client.db('admin').command({ setFeatureCompatibilityVersion: version });
}

async function assertEqual(path: DataPath): Promise<void> {
  const { differences, notCompared } = await path.prove();
  assert.deepEqual([differences, notCompared], [[], []]);
}

for (const { version, newer, older } of [
  { version: null, newer: '6.0', older: '5.0' },
  { version: '4.4', newer: '4.4', older: '4.2' },
  { version: '5.0', newer: '5.0', older: '4.4' },
  { version: '6.0.27', newer: '6.0', older: '5.0' },
] as const) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const skip = 'missing' in found && found.missing;
  const what = `mongod ${version ?? 'of most tests'}`;
  const start = async (): Promise<TestReplicaSet & { readonly binary: string }> => {
    assert.ok('path' in found);
    const set = await startReplicaSet({ binary: found.path });
    return Object.assign(set, { binary: found.path });
  };

  test(
    `a change of the feature compatibility version stops a backup, in its initial sync too: ${what}`,
    { skip },
    async () => {
      await using source = await start();
      const open = { source: source.uri, mongod: source.binary };
      await source.client.db('shop').collection('orders').insertOne({ n: 1 });
      {
        await using path = await DataPath.open(open);
        await path.initialSync();
        await source.client.db('shop').collection('orders').insertOne({ n: 2 });
        await assertEqual(path);
        await setVersion(source, older);
        await assert.rejects(path.applyUntil(await path.newest()), changed);
        // However often it is tried.
        await assert.rejects(path.applyUntil(await path.newest()), changed);
      }
      {
        await using path = await DataPath.open(open);
        await assert.rejects(
          path.initialSync((moment) => (moment === 'copied' ? setVersion(source, newer) : Promise.resolve())),
          changed,
        );
      }
    },
  );

  test(
    `a version that was changed before the begin of the sync is the one that the head is made under: ${what}`,
    { skip },
    async () => {
      await using source = await start();
      const open = { source: source.uri, mongod: source.binary };
      await source.client.db('shop').collection('orders').insertOne({ n: 1 });
      await using path = await DataPath.open(open);
      // What the claim wrote down is no longer so.
      await setVersion(source, older);
      await path.initialSync();
      await assertEqual(path);
      await using head = await path.connectHead();
      const { featureCompatibilityVersion } = await head
        .db('admin')
        .command({ getParameter: 1, featureCompatibilityVersion: 1 });
      assert.equal(featureCompatibilityVersion.version, older);
    },
  );
}
