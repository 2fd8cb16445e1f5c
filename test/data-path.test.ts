/** Source to head, without Temporal: the head equals the source at an exact optime. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { toTimestamp } from '../src/mongo/positions.ts';
import type { EqualityReport } from '../src/proof/equality.ts';
import { formatOptime, ZERO_OPTIME } from '../src/shared/optime.ts';
import { DataPath } from './support/data-path.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';

/** Everything but the capped collection that is written all the time, of which the source forgets what it held. */
const FORGOTTEN = new Set(['base.capped']);

async function filledSource(random: Random): Promise<TestReplicaSet> {
  const source = await startReplicaSet({ name: 'source' });
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  return source;
}

function seeded(t: TestContext): Random {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  return random;
}

function assertNoDifference(
  { differences, notCompared, comparedDocuments }: EqualityReport,
  allowed = FORGOTTEN,
): void {
  assert.deepEqual(differences, []);
  assert.deepEqual(
    notCompared.filter(({ namespace }) => !allowed.has(namespace)),
    [],
  );
  assert.ok(comparedDocuments > 1_000, `only ${comparedDocuments} documents were compared`);
}

test('the head of a quiet source equals it, byte for byte', async (t) => {
  await using source = await filledSource(seeded(t));
  await using path = await DataPath.open({ source: source.uri });
  await path.initialSync();
  assertNoDifference(await path.prove(), new Set());
});

test('the first snapshot of an idle source has the wall time of the entry that it is at', async () => {
  await using source = await startReplicaSet({ name: 'source' });
  await using path = await DataPath.open({ source: source.uri });
  await path.initialSync();
  const locked = await path.head.lock(ZERO_OPTIME, AbortSignal.timeout(60_000));
  await locked.release();
  const ts = toTimestamp(locked.position.appliedThrough.ts);
  const entry = await source.client.db('local').collection('oplog.rs').findOne({ ts });
  assert.deepEqual(locked.wallTime, entry?.['wall']);
});

test('the head follows each kind of write, one after the other', async (t) => {
  const random = seeded(t);
  await using source = await filledSource(random);
  await using path = await DataPath.open({ source: source.uri });
  await path.initialSync();
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, writers: 1, pauseMs: 0 });
  await writers.takeSteps(600);
  const counts = await writers.stop();
  t.diagnostic(JSON.stringify(Object.fromEntries(counts)));
  assertNoDifference(await path.prove(), new Set());
});

test('the head equals a source that is written to from before the initial sync to after it, at every optime', async (t) => {
  const random = seeded(t);
  await using source = await filledSource(random);
  await using path = await DataPath.open({ source: source.uri, sliceBytes: 100_000 });
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE });
  try {
    await writers.takeSteps(100);
    await path.initialSync();
    for (let round = 0; round < 4; round++) {
      await writers.takeSteps(50 + random.below(200));
      await writers.holdCatalog();
      const at = await path.newest();
      const report = await path.prove(at);
      writers.resumeCatalog();
      t.diagnostic(`${formatOptime(at.ts)}: ${report.comparedDocuments} documents`);
      assertNoDifference(report);
    }
  } finally {
    const counts = await writers.stop();
    t.diagnostic(JSON.stringify(Object.fromEntries(counts)));
  }
  assertNoDifference(await path.prove(), new Set());
});
