/** Snapshots held, deleted and kept by tiers, and their space freed: the commands, run for real. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Binary } from 'mongodb';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import type {
  GroomResult,
  RetentionResult,
  RetentionView,
  SnapshotSummary,
  VerifyResult,
} from '../src/shared/messages.ts';
import { cliFolder, type CliFolder, type Document } from './support/cli.ts';
import { recordHistory } from './support/histories.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';

let lifeboat: TestLifeboat;
let folder: CliFolder;
/** Oldest first. */
const taken: string[] = [];

async function run(words: string): Promise<{ readonly code: number | null; readonly document: Document }> {
  const env = { TEMPORAL_ADDRESS: lifeboat.temporalAddress };
  return folder.json(['--config', lifeboat.setting.configFile, ...words.split(' ')], { env });
}

async function done<T>(words: string): Promise<T & Document> {
  const { code, document } = await run(words);
  assert.equal(code, 0, JSON.stringify(document));
  return document as T & Document;
}

async function fails(words: string, kind: ErrorName, exitCode = 1): Promise<string> {
  const { code, document } = await run(words);
  assert.deepEqual([code, document.error?.code], [exitCode, errorKind(kind).code], JSON.stringify(document));
  return document.error?.message ?? '';
}

async function idsOf(): Promise<string[]> {
  const { snapshots } = await done<{ snapshots: readonly SnapshotSummary[] }>('snapshots list shop');
  return snapshots.map(({ id }) => id);
}

/** With `snapshots.keep` of the deployment, and no window. */
async function keeping(keep: object): Promise<void> {
  await lifeboat.configure({ shop: { uri: lifeboat.source.uri, pointInTime: { window: 0 }, snapshots: { keep } } });
}

async function newestHistory(type: string, name: string): Promise<void> {
  const found = await lifeboat.client.workflow
    .list({ query: `WorkflowType = "${type}"` })
    [Symbol.asyncIterator]()
    .next();
  assert.ok(!found.done, `no ${type} was run`);
  await recordHistory(lifeboat.temporalAddress, found.value.workflowId, name, found.value.runId);
}

before(async () => {
  lifeboat = await startLifeboat();
  folder = await cliFolder();
  await keeping({ latest: 2 });
  const orders = lifeboat.source.client.db('shop').collection('orders');
  await orders.insertOne({ n: 0 });
  await done('backup start shop --wait --timeout 2m');
  for (let n = 0; n < 4; n += 1) {
    await orders.insertMany(Array.from({ length: 500 }, () => ({ bytes: new Binary(randomBytes(4_000)) })));
    taken.push((await done<SnapshotSummary>('snapshots create shop --wait --timeout 2m')).id);
  }
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

// One after the other: they share the one backup, whose first snapshot ended its initial sync.
describe('the snapshots of a backup', () => {
  test('are held, and not deleted until they are released', async () => {
    const [first = ''] = taken;
    const held = await done<SnapshotSummary>(`snapshots hold ${first} --reason audit`);
    assert.equal(held.hold?.reason, 'audit');
    assert.match(await fails(`snapshots delete ${first}`, 'SnapshotPinned'), /held/);
    const shown = await done<SnapshotSummary>(`snapshots show ${first}`);
    assert.deepEqual(shown.hold, held.hold);
    const released = await done<SnapshotSummary>(`snapshots release ${first}`);
    assert.equal(released.hold, null);
    assert.deepEqual(await done<object>(`snapshots delete ${first}`), { id: first });
    assert.ok(!(await idsOf()).includes(first));
    await fails(`snapshots show ${first}`, 'UnknownSnapshot');
    await fails(`snapshots delete ${first}`, 'UnknownSnapshot');
    await fails(`snapshots hold ${first}`, 'UnknownSnapshot');
    await newestHistory('deleteSnapshot', 'deleteSnapshot');
    await newestHistory('holdSnapshot', 'holdSnapshot');
    await newestHistory('releaseSnapshot', 'releaseSnapshot');
  });

  test('that are the last good ones stay', async () => {
    assert.match(await fails(`snapshots delete ${taken.at(-1)}`, 'SnapshotPinned'), /last good/);
  });

  test('are kept as the tiers say, after a plan that deletes nothing', async () => {
    const all = await idsOf();
    const plan = await done<RetentionView>('retention show shop');
    assert.deepEqual(plan.keep, { latest: 2 });
    const going = plan.snapshots.filter(({ keptFor }) => keptFor.length === 0).map(({ id }) => id);
    assert.deepEqual(going, all.slice(0, -2).toReversed());
    assert.deepEqual(await idsOf(), all);
    await done(`snapshots hold ${going.at(-1)}`);
    const result = await done<RetentionResult>('retention apply shop --wait --timeout 1m');
    assert.deepEqual([result.deletedIds, result.skipped], [going.slice(0, -1).toReversed(), []]);
    assert.deepEqual(await idsOf(), [going.at(-1), ...all.slice(-2)]);
    await done(`snapshots release ${going.at(-1)}`);
    await newestHistory('applyRetention', 'applyRetention');
  });

  test('that are deleted give their space back in a groom, and the others verify', async () => {
    const plan = await done<GroomResult>('groom --dry-run');
    assert.equal(plan.dryRun, true);
    assert.deepEqual([plan.deletedBlocks, plan.reusableBytes], [0, null]);
    assert.ok(plan.deadBlocks > 0 && plan.liveBlocks > 0, JSON.stringify(plan));
    await done('retention apply shop --wait --timeout 1m');
    const result = await done<GroomResult>('groom --wait --timeout 1m');
    assert.ok(result.deletedBlocks >= plan.deadBlocks && result.reclaimedBytes > 0, JSON.stringify(result));
    assert.equal((await done<GroomResult>('groom --dry-run')).deadBlocks, 0);
    const left = await idsOf();
    assert.equal(left.length, 2);
    for (const id of left) assert.equal((await done<VerifyResult>(`snapshots verify ${id}`)).ok, true);
    await newestHistory('groom', 'groom');
  });

  test('are all kept where the configuration says nothing', async () => {
    await lifeboat.configure({ shop: lifeboat.source.uri });
    const all = await idsOf();
    await until(async () => (await done<RetentionView>('retention show shop')).keep === null, 'the edit is followed');
    assert.deepEqual((await done<RetentionResult>('retention apply shop --wait --timeout 1m')).deleted, 0);
    assert.deepEqual(await idsOf(), all);
  });

  test('are not kept by tiers of an unknown deployment', async () => {
    await fails('retention show nobody', 'UnknownDeployment', 2);
    await fails('retention apply nobody --wait', 'UnknownDeployment');
  });
});
