/** An oplog that shrinks under a backup: refused at the start, warned of in time, and told plainly when it was too late. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { errorKind } from '../src/shared/errors.ts';
import type { BackupStatus } from '../src/shared/messages.ts';
import { time } from '../src/shared/phrases.ts';
import type { LifecycleStatus } from '../src/workflows/messages.ts';
import type { backup } from '../src/workflows/index.ts';
import { cliFolder } from './support/cli.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';

const OPLOG_MB = 64;
const TOO_SHORT = errorKind('OplogWindowTooShort').code;
const RUNNING_OUT = errorKind('OplogRunningOut').code;
const GAP = errorKind('OplogGap').code;

let lifeboat: TestLifeboat;
let handle: WorkflowHandle<typeof backup>;

before(async () => {
  // Entries behind the last checkpoint are never cut off, and there is one a minute by default.
  lifeboat = await startLifeboat({ sourceArgs: ['--oplogSize', String(OPLOG_MB), '--syncdelay', '1'] });
  await lifeboat.source.client.db('shop').collection('orders').insertOne({ n: 1 });
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

/** Writes about two megabytes. */
async function write(): Promise<void> {
  const documents = Array.from({ length: 8 }, () => ({ bytes: randomBytes(250_000) }));
  const flood = lifeboat.source.client.db('flood').collection('things');
  await flood.insertMany(documents, { writeConcern: { w: 'majority', j: true } });
}

async function oplogBytes(): Promise<number> {
  const { size } = await lifeboat.source.client.db('local').command({ collStats: 'oplog.rs' });
  return Number(size);
}

/** Slowly enough for the backup to keep up, fast enough for the oplog to hold some seconds only. */
async function writeUntil(check: () => Promise<boolean>, what: string): Promise<void> {
  await until(
    async () => {
      await write();
      await delay(200);
      return check();
    },
    what,
    120_000,
  );
}

async function configure(minOplogWindow: string): Promise<void> {
  await lifeboat.configure({ shop: { uri: lifeboat.source.uri, minOplogWindow } });
}

async function untilStatus(check: (status: BackupStatus) => boolean, what: string): Promise<BackupStatus> {
  let last: BackupStatus | undefined;
  await until(
    async () => {
      last = await lifeboat.status('shop');
      return check(last);
    },
    what,
    120_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}; it is ${JSON.stringify(last?.problem)}`);
  });
  return last ?? assert.fail();
}

async function details(): Promise<string> {
  const metadata: { currentDetails?: string } = await handle.query('__temporal_workflow_metadata');
  return metadata.currentDetails ?? '';
}

test('a backup that runs is warned of an oplog that became too small for its writes, and goes on', async () => {
  await configure('1m');
  handle = await lifeboat.startBackup('shop');
  const begun = await lifeboat.untilPhase('shop', 'routine', 120_000);
  assert.equal(begun.problem, null);
  await writeUntil(async () => (await oplogBytes()) >= OPLOG_MB * 2 ** 20, 'the oplog is full');
  const { phase, problem } = await untilStatus(({ problem }) => problem?.code === TOO_SHORT, 'the window is warned of');
  assert.equal(phase, 'routine');
  assert.equal(problem?.warning, true);
  assert.match(problem.message, /less than minOplogWindow 60 s/);
  assert.match(problem.fix, /replSetResizeOplog/);
  await until(async () => (await details()).includes(TOO_SHORT), 'the details tell it');
  const { warnings } = await handle.query<LifecycleStatus>('status');
  assert.deepEqual(
    warnings.map(({ code }) => code),
    [TOO_SHORT],
  );
  const member = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  assert.ok(member?.oplog && member.oplog.windowSeconds < 60 && member.oplog.host !== '');
});

test('a backup whose source has such an oplog does not begin: nothing is stored, and it is told at once', async () => {
  const uri = lifeboat.source.uri;
  await lifeboat.configure({ shop: { uri, minOplogWindow: '1m' }, strict: { uri } });
  const started = await lifeboat.startBackup('strict');
  await assert.rejects(started.result(), (error) => {
    assert.ok(error instanceof WorkflowFailedError);
    assert.equal(error.cause && 'type' in error.cause ? error.cause.type : undefined, TOO_SHORT);
    assert.match(error.cause?.message ?? '', /less than minOplogWindow 3 h/);
    return true;
  });
  assert.equal(await lifeboat.stores.members.countDocuments({ deployment: 'strict' }), 0);
});

test('a warning goes away by itself when what it warned of is over', async () => {
  await configure('5s');
  const { phase } = await untilStatus(({ problem }) => problem === null, 'the warning is over');
  assert.equal(phase, 'routine');
  await until(async () => !(await details()).includes(TOO_SHORT), 'the details no longer tell it');
});

test('a list of what is left out that was changed is warned of, and a resync has it take effect', async () => {
  const changed = errorKind('ExcludeChanged').code;
  await lifeboat.source.client.db('logs').collection('a').insertOne({ n: 1 });
  await lifeboat.configure({ shop: { uri: lifeboat.source.uri, minOplogWindow: '5s', exclude: ['logs.*'] } });
  const { phase, problem } = await untilStatus(({ problem }) => problem?.code === changed, 'the list is warned of');
  assert.deepEqual([phase, problem?.warning], ['routine', true]);
  assert.match(problem?.message ?? '', /leaves out nothing, as its initial sync did; the configuration says logs\.\*/);
  await command(handle, 'resync', { reason: 'another list' });
  await until(
    async () => (await lifeboat.stores.members.findOne({ deployment: 'shop' }))?.sync?.exclude?.[0] === 'logs.*',
    'the new list is in the plan',
  );
  await lifeboat.untilPhase('shop', 'routine', 120_000);
  await untilStatus(({ problem }) => problem === null, 'the warning is over');
  const newest = await lifeboat.stores.validations.findOne({ deployment: 'shop' }, { sort: { startedAt: -1 } });
  assert.equal(newest?.state, 'equal');
});

test('a paused backup is warned before what it has not read is gone, and stays paused', async () => {
  assert.equal(await command(handle, 'pause', { reason: 'holidays' }), 'paused');
  let status: BackupStatus | undefined;
  await writeUntil(async () => {
    status = await lifeboat.status('shop');
    return status.problem?.code === RUNNING_OUT;
  }, 'the pause is warned of');
  assert.deepEqual([status?.phase, status?.problem?.warning], ['paused', true]);
  assert.match(status?.problem?.fix ?? '', /backup resume/);
  await until(async () => (await details()).includes(RUNNING_OUT), 'the details tell it');
  const since = status?.problem?.since;
  await writeUntil(async () => {
    status = await lifeboat.status('shop');
    return /no longer holds what was not read/.test(status.problem?.message ?? '');
  }, 'entries are gone');
  assert.deepEqual([status?.phase, status?.problem?.since], ['paused', since]);
});

test('a pause that lasted too long needs a resync, which says why and since when to whoever looks', async () => {
  await command(handle, 'resume').catch(() => undefined);
  const { problem } = await lifeboat.untilPhase('shop', 'resync-needed');
  assert.deepEqual([problem?.code, problem?.warning], [GAP, undefined]);
  assert.match(problem?.message ?? '', /entries after \d+,\d+ were lost before they were read/);
  assert.match(problem?.fix ?? '', /lifeboat backup resync/);
  const since = problem?.since ?? '';
  assert.ok(Math.abs(Date.now() - Date.parse(since)) < 120_000, since);
  const status = await handle.query<LifecycleStatus>('status');
  assert.deepEqual([status.phase, status.problem?.code, status.problem?.since], ['resync-needed', GAP, since]);
  const shown = await details();
  for (const part of ['resync-needed', GAP, time(since)]) assert.ok(shown.includes(part), shown);
  await using folder = await cliFolder();
  const { stdout } = await folder.run(['--config', lifeboat.setting.configFile, 'backup', 'status', 'shop']);
  assert.match(stdout, /^phase: +resync-needed since /m);
  assert.match(stdout, new RegExp(`^problem: +${GAP} .*were lost before they were read \\(since 2.*\\)$`, 'm'));
  assert.match(stdout, /^what to do: .*lifeboat backup resync/m);
});

test('a resync is held to the same checks, and mends it', async () => {
  await configure('3h');
  await assert.rejects(command(handle, 'resync', { reason: 'too small still' }));
  const { phase, problem } = await lifeboat.status('shop');
  assert.deepEqual([phase, problem?.code], ['failed', TOO_SHORT]);
  await configure('1s');
  assert.equal(await command(handle, 'resume'), 'initial-sync');
  const { problem: after } = await lifeboat.untilPhase('shop', 'routine', 120_000);
  assert.equal(after, null);
});
