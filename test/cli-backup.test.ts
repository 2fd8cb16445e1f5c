/** The commands that do work, run for real: a Temporal server, a source, a store and a worker. */
import assert from 'node:assert/strict';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Timestamp } from 'mongodb';
import { fromTimestamp } from '../src/mongo/positions.ts';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import type {
  BackupStatus,
  PurgePlan,
  PurgeResult,
  RestorableRange,
  RestorePreview,
  RestoreSummary,
  SnapshotSummary,
  VerifyResult,
} from '../src/shared/messages.ts';
import { compareOptimes, formatOptime, type Optime } from '../src/shared/optime.ts';
import type { DaemonStatus } from '../src/status/daemons.ts';
import { cliFolder, type CliFolder, type CliOptions, type Document } from './support/cli.ts';
import { recordHistory } from './support/histories.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { freePort, until } from './support/replica-set.ts';
import { withMongod } from './support/with-mongod.ts';
import { headPath } from './support/worker.ts';

let lifeboat: TestLifeboat;
let folder: CliFolder;
let snapshot: SnapshotSummary;

interface Answer {
  readonly code: number | null;
  readonly document: Document;
}

function options(more: CliOptions = {}): CliOptions {
  return { ...more, env: { TEMPORAL_ADDRESS: lifeboat.temporalAddress, ...more.env } };
}

function run(words: string, more: CliOptions = {}): Promise<Answer> {
  return folder.json(['--config', lifeboat.setting.configFile, ...words.split(' ')], options(more));
}

async function done<T>(words: string): Promise<T & Document> {
  const { code, document } = await run(words);
  assert.equal(code, 0, JSON.stringify(document));
  return document as T & Document;
}

async function fails(words: string, kind: ErrorName, code = 1, more: CliOptions = {}): Promise<Document> {
  const { code: actual, document } = await run(words, more);
  assert.equal(document.error?.code, errorKind(kind).code, JSON.stringify(document));
  assert.equal(actual, code);
  return document;
}

before(async () => {
  lifeboat = await startLifeboat();
  folder = await cliFolder();
  const silent = `mongodb://127.0.0.1:${await freePort()}/?replicaSet=none`;
  await lifeboat.configure({ shop: lifeboat.source.uri, unset: '${LIFEBOAT_TEST_UNSET}', silent });
  const collection = lifeboat.source.client.db('shop').collection('orders');
  await collection.insertMany(Array.from({ length: 500 }, (_, n) => ({ n })));
  const { code, document } = await run('backup start shop --wait --timeout 2m');
  assert.equal(code, 0, JSON.stringify(document));
  assert.equal(document['workflowId'], 'backup/shop');
  assert.equal(document['phase'], 'routine');
  snapshot = await done<SnapshotSummary>('snapshots create shop --wait --timeout 2m');
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

// One after the other: they share the one backup.
describe('a backup in routine operation', () => {
  test('is not started twice', async () => {
    await fails('backup start shop', 'BackupExists');
  });

  test('has a status of every promised field, also where no Temporal answers', async () => {
    const env = { TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}` };
    const { code, document } = await run('backup status shop', { env });
    assert.equal(code, 0, JSON.stringify(document));
    const { members, lastSnapshot, restorable, since, ...status } = document as unknown as BackupStatus;
    assert.deepEqual(status, { deployment: 'shop', kind: 'replica-set', phase: 'routine', problem: null });
    assert.deepEqual(Object.keys(members[0] ?? {}), [
      'name',
      'phase',
      'appliedThrough',
      'lagSeconds',
      'daemon',
      'progress',
      'alongside',
    ]);
    assert.ok(Date.parse(since) <= Date.now());
    assert.equal(members[0]?.name, 'rs0');
    assert.ok(lastSnapshot && restorable.length > 0);
    const all = await done<{ deployments: BackupStatus[] }>('backup status');
    assert.ok(all.deployments.some(({ deployment, phase }) => deployment === 'shop' && phase === 'routine'));
  });

  test('is watched as one document in a line each time, or one line, until Ctrl-C', async () => {
    const words = ['backup', 'status', 'shop', '--watch', '--interval', '500ms'];
    const configured = ['--config', lifeboat.setting.configFile, ...words];
    const seenTwice = /\n[^\n]*\n/;
    const json = await folder.run(['--json', ...configured], { interruptAtOutput: seenTwice });
    assert.equal(json.code, 130);
    const documents = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as BackupStatus);
    assert.ok(documents.length >= 2 && documents.every(({ phase }) => phase === 'routine'));
    const plain = await folder.run(configured, { interruptAtOutput: seenTwice });
    assert.equal(plain.code, 130);
    for (const line of plain.stdout.trim().split('\n')) assert.match(line, /Z shop: routine/);
    assert.equal((await folder.run(['backup', 'status', '--interval', '1s'])).code, 2);
  });

  test('its snapshots are created, listed and shown with the same fields', async () => {
    assert.deepEqual(Object.keys(snapshot).sort(), [
      ...[
        'deployment',
        'durationMs',
        'hold',
        'id',
        'logicalBytes',
        'newBlocks',
        'newStoredBytes',
        'optime',
        'reusedBlocks',
      ],
      ...['verification', 'wallTime'],
    ]);
    const { snapshots } = await done<{ snapshots: SnapshotSummary[] }>('snapshots list shop');
    assert.deepEqual(
      snapshots.find(({ id }) => id === snapshot.id),
      snapshot,
    );
    type Shown = SnapshotSummary & { exclude: unknown[]; findings: { different: unknown[] } };
    const { findings, exclude, ...shown } = await done<Shown>(`snapshots show ${snapshot.id}`);
    assert.deepEqual(shown, snapshot);
    assert.deepEqual([exclude, findings.different], [[], []]);
    assert.equal(snapshot.verification.state, 'equal');
    assert.ok(snapshot.verification.documents > 0 && snapshot.verification.definitions);
    await fails('snapshots show nothing', 'UnknownSnapshot');
  });

  test('a snapshot that is not waited for answers where it runs', async () => {
    const { workflowId, runId, id } = await done<Record<string, string>>('snapshots create shop');
    assert.equal(workflowId, `snapshot/shop/${id}`);
    assert.match(String(runId), /^[0-9a-f-]{36}$/);
    // Nor is one that is waited for, longer than was said.
    await fails('snapshots create shop --wait --timeout 1ms', 'TimedOut');
  });

  test('verification reads every block', async () => {
    const { ok, blocksChecked, problems } = await done<VerifyResult>(`snapshots verify ${snapshot.id}`);
    const half = await done<VerifyResult>(`snapshots verify ${snapshot.id} --sample 50%`);
    assert.ok(half.ok && half.blocksChecked < blocksChecked && half.blocksChecked > 0);
    assert.deepEqual([ok, problems], [true, []]);
    assert.ok(blocksChecked > 0);
  });

  test('a restore to a relative path goes beside the caller, and a second one there is refused', async () => {
    const words = `restore shop --snapshot ${snapshot.id} --to dir:restored --wait --timeout 2m`;
    const summary = await done<RestoreSummary>(words);
    assert.equal(summary.destination, `dir:${join(folder.path, 'restored')}`);
    assert.deepEqual([summary.verified, summary.optime], [true, snapshot.optime]);
    await access(join(folder.path, 'restored', 'WiredTiger.wt'));
    const { id } = (await fails(words, 'TargetNotEmpty')) as { id?: string };
    const shown = await done<Record<string, unknown>>(`restores show ${id}`);
    assert.equal(shown['state'], 'failed');
    const { restores } = await done<{ restores: { id: string; state: string }[] }>('restores list');
    assert.deepEqual(
      [summary.id, id].map((each) => restores.find((listed) => listed.id === each)?.state),
      ['done', 'failed'],
    );
    await fails(`restores cancel ${summary.id}`, 'UnknownRestore');
  });

  test('is restored to any moment of the range that its status shows, and to none outside', async () => {
    const { client } = lifeboat.source;
    const orders = client.db('shop').collection<{ _id: string }>('orders');
    const inserted = async (_id: string): Promise<Optime> => {
      const { operationTime } = await client.db('shop').command({ insert: 'orders', documents: [{ _id }] });
      return fromTimestamp(operationTime as Timestamp);
    };
    const wanted = await inserted('wanted');
    const documents = await orders.countDocuments();
    await orders.deleteMany({});
    const last = await inserted('last');
    let range: RestorableRange | undefined;
    await until(async () => {
      const { restorable } = await done<BackupStatus>('backup status shop');
      range = restorable.find(({ to }) => compareOptimes(to, last) >= 0);
      return range !== undefined;
    }, 'the entries are stored');
    assert.ok(range && compareOptimes(range.from, snapshot.optime) <= 0);

    const before = `restore shop --at ${formatOptime(wanted)} --to dir:before --wait --timeout 2m`;
    const summary = await done<RestoreSummary>(before);
    assert.deepEqual([summary.optime, summary.verified], [wanted, true]);
    assert.ok(summary.entriesReplayed > 0);
    await withMongod(join(folder.path, 'before'), {}, async (copy) => {
      assert.equal(await copy.db('shop').collection('orders').countDocuments(), documents);
    });
    const shown = await done<Record<string, unknown>>(`restores show ${summary.id}`);
    assert.deepEqual([shown['until'], shown['entriesReplayed']], [wanted, summary.entriesReplayed]);
    const workflowId = `restore/shop/${summary.id}`;
    await recordHistory(lifeboat.temporalAddress, workflowId, 'restoreToMoment');
    const latest = await done<RestoreSummary>('restore shop --latest --to dir:latest --wait --timeout 2m');
    assert.ok(compareOptimes(latest.optime, last) >= 0);

    const shownFirst = await done<RestorePreview>(`restore shop --at ${formatOptime(wanted)} --to dir:dry --dry-run`);
    const { estimatedMs, freeBytes, neededBytes, blocks, ...told } = shownFirst;
    assert.deepEqual(
      { ...told, bytes: null, entryBytes: null, mongodVersion: null, featureCompatibilityVersion: null },
      {
        deployment: 'shop',
        snapshot: shown['snapshot'],
        optime: wanted,
        destination: `dir:${join(folder.path, 'dry')}`,
        daemon: 'test-daemon',
        bytes: null,
        entriesToReplay: summary.entriesReplayed,
        entryBytes: null,
        mongodVersion: null,
        featureCompatibilityVersion: null,
        problems: [],
      },
    );
    assert.ok(blocks > 0 && estimatedMs !== null && estimatedMs > 0 && neededBytes > told.bytes + told.entryBytes);
    assert.ok(freeBytes !== null && freeBytes > neededBytes);
    await assert.rejects(access(join(folder.path, 'dry')));
    const { problems } = await fails('restore shop --latest --to dir:latest --dry-run', 'TargetNotEmpty');
    assert.equal((problems as unknown[]).length, 1);

    const early = `restore shop --at 2020-01-01T00:00:00Z --to dir:early --wait --timeout 2m`;
    const { error } = await fails(early, 'TimeNotRestorable');
    assert.match(error?.message ?? '', new RegExp(`from ${formatOptime(range.from)} .* on`));
    await fails('restore silent --latest --to dir:/x', 'NoBackup');
  });

  test('a restore of what is not there, of another deployment, or by nobody is refused', async () => {
    await fails('restore shop --snapshot nothing --to dir:/x', 'UnknownSnapshot');
    await fails(`restore silent --snapshot ${snapshot.id} --to dir:/x`, 'UnknownSnapshot');
    await fails(`restore shop --snapshot ${snapshot.id} --to dir:/x --daemon nobody`, 'DaemonUnknown');
  });

  test('a relative path is refused when the daemon runs on another machine', async () => {
    await lifeboat.stores.daemons.insertOne({
      _id: 'far-away',
      host: 'elsewhere.example',
      pid: 1,
      process: 'p',
      version: '0',
      taskQueue: 'lifeboat.daemon.far-away',
      startedAt: new Date(),
      seenAt: new Date(),
      hereSince: new Date(),
    });
    const words = `restore shop --snapshot ${snapshot.id} --to dir:here --daemon far-away`;
    const { error } = await fails(words, 'BadUsage', 2);
    assert.match(error?.message ?? '', /"here" is relative, and daemon far-away runs on elsewhere.example/);
  });

  test('a restore that waits for its daemon is cancelled by its id', async () => {
    const words = `restore shop --snapshot ${snapshot.id} --to dir:${join(folder.path, 'never')} --daemon far-away`;
    const { id, workflowId } = await done<Record<string, string>>(words);
    await done(`restores cancel ${id}`);
    const { events } = await lifeboat.client.workflow.getHandle(String(workflowId)).fetchHistory();
    assert.ok(events?.some((event) => event.workflowExecutionCancelRequestedEventAttributes));
  });

  test('is paused and resumed, and what it needs meanwhile says so', async () => {
    const paused = await done<Record<string, unknown>>('backup pause shop --reason test');
    assert.deepEqual([paused['phase'], paused['deployment'], paused['id']], ['paused', 'shop', 'shop']);
    await fails('snapshots create shop', 'BackupNotRunning');
    const resumed = await done<Record<string, unknown>>('backup resume shop');
    assert.equal(resumed['phase'], 'routine');
  });
});

describe('a backup that cannot begin', () => {
  test('is told at once, with what is wrong and where it ran', async () => {
    const document = await fails('backup start unset', 'SecretMissing');
    assert.equal(document['workflowId'], 'backup/unset');
    assert.match(document.error?.message ?? '', /LIFEBOAT_TEST_UNSET/);
    assert.equal((await fails('backup start unset --wait', 'SecretMissing'))['id'], 'unset');
  });

  test('is left by Ctrl-C with exit code 130, and goes on until it is stopped', async () => {
    const left = await fails('backup start silent --wait', 'Interrupted', 130, {
      interruptAt: /the backup of silent: /,
    });
    assert.equal(left['workflowId'], 'backup/silent');
    await fails('deployments remove silent', 'DeploymentBusy');
    await done('backup stop silent');
    await fails('backup stop silent', 'NoBackup');
    await done('deployments remove silent');
    assert.doesNotMatch(await readFile(lifeboat.setting.configFile, 'utf8'), /"silent"/);
  });

  test('says that it was never started, to whoever asks', async () => {
    await writeFile(join(folder.path, 'never.yaml'), await readFile(lifeboat.setting.configFile));
    await done('--config never.yaml deployments add never --uri-env NEVER');
    await fails('--config never.yaml backup status never', 'NoBackup');
    await fails('backup status nobody', 'UnknownDeployment', 2);
    await fails('backup pause never', 'NoBackup');
  });
});

describe('a deployment that is purged', () => {
  test('must not be running, and is not purged without a yes', async () => {
    await fails('purge shop --wait', 'BadUsage', 2);
    await fails('purge shop --yes --wait', 'DeploymentBusy');
    assert.ok((await done<Record<string, unknown>>(`snapshots show ${snapshot.id}`))['id']);
  });

  test('is shown as a plan first, and then gone with all that was stored of it, the head too', async () => {
    await done('backup stop shop');
    const plan = await done<PurgePlan>('purge shop --dry-run');
    assert.equal(plan.snapshots.count, await lifeboat.stores.manifests.countDocuments());
    assert.deepEqual(plan.heads, [{ daemon: 'test-daemon', member: 'rs0', state: 'here' }]);
    assert.ok(plan.blocks.freed > 0 && plan.blocks.freedBytes > 0 && plan.oplogStore.batches > 0);
    assert.ok((await done<Record<string, unknown>>(`snapshots show ${snapshot.id}`))['id'], 'a plan removes nothing');
    const purged = await done<PurgeResult>('purge shop --yes --wait --timeout 2m');
    assert.deepEqual([purged.deletedBlocks, purged.headsLeftOn], [plan.blocks.freed, []]);
    await fails(`snapshots show ${snapshot.id}`, 'UnknownSnapshot');
    await fails('purge shop --dry-run', 'NothingStored');
    await assert.rejects(access(headPath(lifeboat.setting.home, 'shop', 'rs0')));
    const { stores } = lifeboat;
    const left = await Promise.all(
      [stores.blocks, stores.batches, stores.members].map((found) => found.countDocuments()),
    );
    assert.deepEqual(left, [0, 0, 0]);
  });

  test('is backed up anew under the same name', async () => {
    const started = await done<BackupStatus>('backup start shop --wait --timeout 2m');
    assert.equal(started.phase, 'routine');
  });
});

test('the daemons are listed, with whose backups they run; one that is there is not retired', async () => {
  const { daemons } = await done<{ daemons: DaemonStatus[] }>('daemons list');
  const own = daemons.find(({ id }) => id === 'test-daemon');
  assert.deepEqual([own?.state, own?.deployments], ['here', ['shop']]);
  await fails('daemons retire test-daemon', 'DaemonPresent');
  await fails('daemons retire nobody', 'DaemonUnknown');
});
