/** What Prometheus is shown: the figures of a real worker whose backup runs, and the documents about them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { usablePort } from '../src/embedded/ports.ts';
import { METRICS, metricNames } from '../src/metrics/table.ts';
import { errorKind } from '../src/shared/errors.ts';
import type { SnapshotSummary } from '../src/shared/messages.ts';
import { TASK_QUEUE, workflowIdOf } from '../src/shared/names.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';
import { spawnWorker, workerLog } from './support/worker.ts';

const SECRET = 'a-value-that-stands-in-a-document';

let lifeboat: TestLifeboat;
let port: number;

before(async () => {
  port = await usablePort(undefined);
  lifeboat = await startLifeboat({ daemon: { metrics: { listen: `127.0.0.1:${port}` } } });
  await lifeboat.source.client
    .db('shop')
    .collection('items')
    .insertMany([{ secret: SECRET }, { n: 2 }]);
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function scrape(): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  return response.text();
}

/** The value of the one sample that begins so; undefined when it is absent. */
function sample(text: string, start: string): number | undefined {
  const line = text.split('\n').find((one) => one.startsWith(`${start} `));
  return line === undefined ? undefined : Number(line.split(' ')[1]);
}

const SHOP = '{deployment="shop",member="rs0"}';

test('a worker shows its figures and those of the Temporal SDK at one address before any backup runs', async () => {
  const text = await scrape();
  assert.equal(sample(text, 'lifeboat_daemon_info{daemon="test-daemon"}'), 1);
  assert.equal(sample(text, 'lifeboat_store_up'), 1);
  assert.match(text, /^temporal_\w+_total\{/m);
  assert.match(text, /^temporal_\w+_seconds_bucket\{/m);
  assert.doesNotMatch(text, /^lifeboat_(lag|phase|head)/m);
  const other = await fetch(`http://127.0.0.1:${port}/`);
  assert.equal(other.status, 404);
});

test('the figures move with a running backup, and hold no value of a document and no credential', async () => {
  const handle = await lifeboat.startBackup('shop');
  await lifeboat.untilPhase('shop', 'routine');
  const first = await scrape();
  assert.equal(sample(first, 'lifeboat_phase{deployment="shop",phase="routine"}'), 1);
  assert.equal(sample(first, 'lifeboat_phase{deployment="shop",phase="paused"}'), 0);
  assert.equal(sample(first, `lifeboat_head_up${SHOP}`), 1);
  assert.equal(sample(first, 'lifeboat_snapshots{deployment="shop"}'), 1);
  assert.equal(sample(first, `lifeboat_snapshots_taken_total${SHOP}`), 1);
  assert.ok(sample(first, `lifeboat_slices_stored_total${SHOP}`)! >= 1);
  assert.ok(sample(first, 'lifeboat_source_bytes_read_total{deployment="shop",member="rs0",kind="documents"}')! > 50);
  assert.ok(sample(first, 'lifeboat_snapshot_blocks_total{deployment="shop",member="rs0",kind="new"}')! > 0);
  assert.ok(sample(first, `lifeboat_snapshot_stored_bytes_total${SHOP}`)! > 0);
  assert.ok(sample(first, 'lifeboat_newest_snapshot_bytes{deployment="shop"}')! > 0);
  const { t } = (await lifeboat.status('shop')).lastSnapshot!.optime;
  assert.equal(sample(first, 'lifeboat_newest_snapshot_timestamp_seconds{deployment="shop"}'), t);

  const applied = sample(first, `lifeboat_oplog_entries_applied_total${SHOP}`) ?? 0;
  const batch = Array.from({ length: 500 }, (_, n) => ({ n, secret: SECRET }));
  await lifeboat.source.client.db('shop').collection('items').insertMany(batch);
  const moved = async (): Promise<boolean> => {
    const now = sample(await scrape(), `lifeboat_oplog_entries_applied_total${SHOP}`) ?? 0;
    return now > applied;
  };
  await until(moved, 'entries are applied and counted', 30_000);
  const low = async (): Promise<boolean> => (sample(await scrape(), `lifeboat_lag_seconds${SHOP}`) ?? 99) < 30;
  await until(low, 'the lag is told', 30_000);

  const id = workflowIdOf('snapshot', 'shop', 'second');
  await lifeboat.client.workflow.execute<(input: object) => Promise<SnapshotSummary>>('snapshot', {
    workflowId: id,
    taskQueue: TASK_QUEUE,
    args: [{ deployment: 'shop' }],
  });
  const second = await scrape();
  assert.equal(sample(second, 'lifeboat_snapshots{deployment="shop"}'), 2);
  assert.ok(sample(second, 'lifeboat_snapshot_blocks_total{deployment="shop",member="rs0",kind="reused"}')! > 0);
  assert.doesNotMatch(second, new RegExp(`${SECRET}|mongodb://|items`));

  await command(handle, 'pause');
  const paused = await scrape();
  assert.equal(sample(paused, 'lifeboat_phase{deployment="shop",phase="paused"}'), 1);
  assert.equal(sample(paused, 'lifeboat_phase{deployment="shop",phase="routine"}'), 0);
  await command(handle, 'stop');
  assert.equal(
    sample(await scrape(), `lifeboat_head_up${SHOP}`),
    undefined,
    'a head that is let go is no longer shown',
  );
});

test('an error is counted by its code and its activity', async () => {
  const failing = lifeboat.client.workflow.execute('verifySnapshot', {
    workflowId: workflowIdOf('verifySnapshot', 'shop', 'none'),
    taskQueue: TASK_QUEUE,
    args: [{ snapshot: 'shop-20260101T000000Z-000000' }],
  });
  await assert.rejects(failing);
  const { code } = errorKind('UnknownSnapshot');
  const labels = `{deployment="",activity="verifySnapshot",code="${code}"}`;
  assert.equal(sample(await scrape(), `lifeboat_errors_total${labels}`), 1);
});

test('a worker whose metrics have no place to be shown ends at its start and says so by name', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  try {
    await once(taken, 'listening');
    const { port: used } = taken.address() as AddressInfo;
    const home = join(lifeboat.folder, 'second');
    await mkdir(home);
    const configFile = join(home, 'lifeboat.yaml');
    const daemon = { id: 'second', metrics: { listen: `127.0.0.1:${used}` } };
    await writeFile(configFile, JSON.stringify({ daemon, blockstore: { uri: lifeboat.storeSet.uri } }));
    const child = spawnWorker({ ...lifeboat.setting, configFile, home });
    const [exit] = (await once(child, 'exit')) as [number];
    assert.notEqual(exit, 0);
    const log = await readFile(workerLog(home), 'utf8');
    assert.match(log, new RegExp(`metrics cannot be shown at 127.0.0.1:${used}: another process listens there`));
  } finally {
    taken.close();
  }
});

test('docs/metrics.md has the table of the metrics there are', async () => {
  const text = await readFile(new URL('../docs/metrics.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| `(lifeboat_\w+)` +\| (\w+) +\| (.*?) +\| (.*?) +\|$/gm)];
  const documented = rows.map(([, name, type, labels, help]) => ({ name, type, labels, help }));
  const expected = metricNames().map((name) => {
    const { type, labels, help } = METRICS[name];
    return { name, type, labels: labels.map((label) => `\`${label}\``).join(', '), help };
  });
  assert.deepEqual(documented, expected);
});

test('names and units are as Prometheus wants them', () => {
  for (const name of metricNames()) {
    assert.match(name, /^lifeboat_[a-z]+(_[a-z]+)*$/);
    assert.equal(METRICS[name].type === 'counter', name.endsWith('_total'), name);
    assert.doesNotMatch(name, /_(ms|milliseconds|minutes|kb|mb)(_|$)/);
  }
});

test('the example rules name only metrics and labels that there are', async () => {
  const rules = await readFile(new URL('../temporal/prometheus/alerts.yml', import.meta.url), 'utf8');
  const { groups } = parse(rules) as { groups: { rules: { alert: string; expr: string; annotations: object }[] }[] };
  const all = groups.flatMap((group) => group.rules);
  assert.ok(all.length >= 6);
  const known = new Set<string>(metricNames());
  for (const { alert, expr, annotations } of all) {
    for (const [name] of expr.matchAll(/\blifeboat_\w+/g)) assert.ok(known.has(name), `${alert}: ${name}`);
    for (const [, name = '', labels = ''] of expr.matchAll(/\b(lifeboat_\w+)\{([^}]*)\}/g)) {
      const its = METRICS[name as keyof typeof METRICS].labels;
      for (const [, label = ''] of labels.matchAll(/(\w+)(?:=|!=|=~|!~)"/g))
        assert.ok(its.includes(label), `${alert}: ${label}`);
    }
    assert.ok('summary' in annotations && 'description' in annotations, alert);
  }
});
