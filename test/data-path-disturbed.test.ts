/** Source to head while every step is cut short, run twice at once, or loses its mongod: the head is equal nevertheless. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DataPath } from './support/data-path.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet } from './support/replica-set.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';

for (const [name, disturbance, wanted] of [
  ['steps are cut short at random moments', { withinMs: 1_500, twins: 0 }, 'cut'],
  ['steps run beside twins of themselves', { withinMs: 1_500, twins: 0.4 }, 'twins'],
  ['the mongod of the head is killed at random moments', { withinMs: 2_000, twins: 0, killHead: true }, 'kills'],
] as const) {
  test(`the head equals the source though ${name}`, async (t) => {
    const random = new Random(testSeed());
    t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
    await using source = await startReplicaSet({ name: 'source' });
    await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
    const disturb = { random: random.fork(), ...disturbance };
    await using path = await DataPath.open({ source: source.uri, sliceBytes: 20_000, disturb });
    const writers = await startWriters(source.uri, { random, base: SMALL_BASE });
    try {
      await path.initialSync();
      await writers.takeSteps(300);
      await path.applyUntil(await path.newest());
      await writers.takeSteps(100);
    } finally {
      await writers.stop();
    }
    const { differences, notCompared } = await path.prove();
    t.diagnostic(JSON.stringify(path.disturbed));
    assert.deepEqual(differences, []);
    assert.deepEqual(notCompared, []);
    assert.ok(path.disturbed[wanted] > 0, 'nothing was disturbed');
  });
}
