/** The proof while the source goes on: a twin taken in the middle of everything equals the source as it was then. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { proveEqual } from '../src/proof/equality.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet } from './support/replica-set.ts';
import { startTwin } from './support/twin.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';

test('a twin taken under writers equals the source at its optime while they go on', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  await using source = await startReplicaSet({ name: 'busy' });
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE });
  try {
    await writers.takeSteps(500);
    await using twin = await startTwin(source);
    await writers.takeSteps(200);
    const report = await proveEqual({
      source: { client: source.client, at: twin.at },
      copy: { client: twin.client },
      ids: 5,
    });
    assert.deepEqual(report.differences, []);
    assert.ok(report.comparedDocuments > 5_000);
    t.diagnostic(`not compared: ${report.notCompared.map(({ namespace }) => namespace).join(', ')}`);

    await twin.client
      .db('base')
      .collection('items')
      .updateOne({}, { $set: { planted: 1 } });
    const planted = await proveEqual({ source: { client: source.client, at: twin.at }, copy: { client: twin.client } });
    assert.deepEqual(planted.differences, [{ namespace: 'base.items', kind: 'different', count: 1 }]);
  } finally {
    t.diagnostic(JSON.stringify(Object.fromEntries(await writers.stop())));
  }
});
