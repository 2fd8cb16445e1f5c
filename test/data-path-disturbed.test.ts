/** Source to head while every step is cut short, run twice at once, or loses its mongod: the head is equal nevertheless. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DataPath } from './support/data-path.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet } from './support/replica-set.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';

const BASE = { ...SMALL_BASE, items: 6_000, tiny: 30_000 };

for (const [name, disturbance, wanted] of [
  ['steps are cut short at random moments', { withinMs: 500, twins: 0 }, 'cut'],
  ['steps run beside twins of themselves', { withinMs: 500, twins: 0.5 }, 'twins'],
  [
    'the mongod of the head is killed at random moments',
    { withinMs: 5_000, twins: 0, killHeadWithinMs: 5_000 },
    'kills',
  ],
] as const) {
  test(`the head equals the source though ${name}`, async (t) => {
    const random = new Random(testSeed());
    t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
    await using source = await startReplicaSet({ name: 'source' });
    await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random, BASE);
    const disturb = { random: random.fork(), ...disturbance };
    await using path = await DataPath.open({ source: source.uri, sliceBytes: 20_000, disturb });
    // Slow enough for a head that is always in the way of something.
    const writers = await startWriters(source.uri, { random, base: BASE, pauseMs: 30 });
    try {
      await path.initialSync();
      for (let round = 0; round < 3; round++) {
        await writers.takeSteps(100);
        await path.applyUntil(await path.newest());
      }
    } finally {
      await writers.stop();
    }
    t.diagnostic(JSON.stringify(path.disturbed));
    const { differences, notCompared } = await path.prove();
    assert.deepEqual(differences, []);
    assert.deepEqual(notCompared, []);
    assert.ok(path.disturbed[wanted] > 0, 'nothing was disturbed');
  });
}

test('what a head that died was trying out does not stand in the way of the next', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  const db = source.client.db('shop');
  await db.collection<{ _id: number }>('items').insertOne({ _id: 1 });
  for (const views of [false, true]) {
    // A head with time-series collections tries out again, one without does not.
    if (views) await db.createCollection('series', { timeseries: { timeField: 'at' } });
    await using path = await DataPath.open({ source: source.uri });
    await path.initialSync(async (moment) => {
      if (moment !== 'copied') return;
      const client = await path.connectHead();
      const scratch = client.db(`lifeboat_${path.fence.incarnation.toHexString()}`);
      await scratch.createCollection('series', { timeseries: { timeField: 'at' } });
      await client.close();
      await path.restartHead();
    });
    const { differences } = await path.prove();
    assert.deepEqual(differences, []);
    const client = await path.connectHead();
    const { databases } = await client.db('admin').admin().listDatabases({ nameOnly: true });
    await client.close();
    assert.deepEqual(
      databases.filter(({ name }) => name.startsWith('lifeboat_')),
      [],
    );
  }
});
