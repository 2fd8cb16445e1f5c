/** Starting workflows: what is refused, and with which code. A real Temporal server, source, store and worker. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  ApplicationFailure,
  isGrpcServiceError,
  NamespaceNotFoundError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  type WorkflowHandle,
} from '@temporalio/client';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import { TASK_QUEUE } from '../src/shared/names.ts';
import { findBinary } from '../src/embedded/binaries.ts';
import { startMongod } from '../src/mongod/process.ts';
import { recordHistory } from './support/histories.ts';
import { command, startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { freePort, until } from './support/replica-set.ts';
import { spawnWorker, workerLog } from './support/worker.ts';

let lifeboat: TestLifeboat;

before(async () => {
  lifeboat = await startLifeboat();
});

after(async () => {
  await lifeboat?.[Symbol.asyncDispose]();
});

async function failsWith(kind: ErrorName, result: Promise<unknown>): Promise<ApplicationFailure> {
  let failure: ApplicationFailure | undefined;
  await assert.rejects(result, (error) => {
    assert.ok(error instanceof WorkflowFailedError, String(error));
    assert.ok(error.cause instanceof ApplicationFailure, String(error.cause));
    failure = error.cause;
    assert.equal(failure.type, errorKind(kind).code, failure.message);
    assert.equal(failure.cause, undefined);
    return true;
  });
  assert.ok(failure);
  return failure;
}

let ids = 0;
async function start(type: string, ...args: unknown[]): Promise<WorkflowHandle> {
  ids += 1;
  return lifeboat.client.workflow.start(type, { workflowId: `${type}/test/${ids}`, taskQueue: TASK_QUEUE, args });
}

async function run(type: string, ...args: unknown[]): Promise<unknown> {
  return (await start(type, ...args)).result();
}

/** How long a Temporal that does not answer is silent, in milliseconds. */
const OUTAGE_MS = 5_000;

test('a workflow refuses input that is not the one JSON object it takes, and says why', async () => {
  for (const type of ['backup', 'snapshot', 'restore', 'verifySnapshot', 'doctor', 'applyRetention', 'groom']) {
    await failsWith('BadInput', run(type));
    await failsWith('BadInput', run(type, 'shop'));
    const { message } = await failsWith('BadInput', run(type, { snapshoot: 'x' }));
    assert.match(message, /snapshoot/);
  }
});

test('a workflow type that is not built yet is refused by its code, not left with a failing task', async () => {
  for (const type of ['checkpoint', 'scheduleGrooms']) {
    await failsWith('NotBuiltYet', run(type, {}));
  }
});

test('state that only a run of the workflow hands on is refused from outside', async () => {
  await failsWith('BadInput', run('backup', { deployment: 'shop', lifecycle: {} }));
});

test('a snapshot, restore or verification of what is not there fails with its own code', async () => {
  await failsWith('NoBackup', run('snapshot', { deployment: 'shop' }));
  await failsWith('UnknownSnapshot', run('verifySnapshot', { snapshot: 'none' }));
  const to = `dir:${join(lifeboat.folder, 'restored')}`;
  await failsWith('UnknownSnapshot', run('restore', { deployment: 'shop', snapshot: 'none', to }));
  await failsWith('DaemonUnknown', run('restore', { deployment: 'shop', snapshot: 'none', to, daemon: 'nobody' }));
  await failsWith('UnknownSnapshot', run('restore', { deployment: 'shop', latest: true, to }));
  await failsWith('NotBuiltYet', run('restore', { deployment: 'shop', latest: true, to: 'archive:/x' }));
});

test('a backup of an unknown deployment, a wrong password, a store on the source or a standalone fails at once', async () => {
  const { source, storeSet, folder } = lifeboat;
  const port = await freePort();
  const standalone = await startMongod({
    binary: await findBinary('mongod'),
    dbpath: join(folder, 'standalone'),
    address: { port },
    cacheGiB: 0.25,
    logPath: join(folder, 'standalone.log'),
  });
  try {
    await lifeboat.configure({
      shop: source.uri,
      'wrong-password': source.uri.replace('mongodb://', 'mongodb://reader:no-such-secret@'),
      'on-source': storeSet.uri,
      standalone: `mongodb://127.0.0.1:${port}/`,
    });
    const start = async (deployment: string): Promise<unknown> => (await lifeboat.startBackup(deployment)).result();
    await failsWith('UnknownDeployment', start('nobody'));
    const { message } = await failsWith('AuthFailed', start('wrong-password'));
    assert.doesNotMatch(message, /no-such-secret/);
    await recordHistory(lifeboat.temporalAddress, 'backup/wrong-password', 'backup-failed');
    await failsWith('StoreOnSource', start('on-source'));
    await failsWith('NotAReplicaSet', start('standalone'));
  } finally {
    standalone.kill('SIGKILL');
    await standalone.exited;
  }
  const { phase, problem, members } = await lifeboat.status('wrong-password');
  assert.deepEqual([phase, problem?.code, members], ['failed', errorKind('AuthFailed').code, []]);
  assert.doesNotMatch(await readFile(workerLog(lifeboat.setting.home), 'utf8'), /no-such-secret/);
});

test('a backup under any other workflow id than its own is refused: two of one deployment would fight', async () => {
  const { message } = await failsWith('BadInput', run('backup', { deployment: 'shop' }));
  assert.match(message, /must be backup\/shop/);
});

test('a second backup of a deployment is refused while the first runs', async () => {
  await lifeboat.configure({ shop: 'mongodb://127.0.0.1:1/?replicaSet=rs0' });
  const handle = await lifeboat.startBackup('shop');
  await assert.rejects(lifeboat.startBackup('shop'), WorkflowExecutionAlreadyStartedError);
  await command(handle, 'stop');
  await handle.result();
});

test('a source that does not answer is tried again, shown in the status, and a backup of it can be paused and stopped', async () => {
  await lifeboat.configure({ away: 'mongodb://127.0.0.1:1/?replicaSet=rs0' });
  const handle = await lifeboat.startBackup('away');
  const code = errorKind('SourceUnavailable').code;
  await until(
    async () => (await lifeboat.status('away').catch(() => undefined))?.problem?.code === code,
    'the trouble shows',
  );
  assert.equal(await command(handle, 'pause', { reason: 'the source is moved' }), 'paused');
  const { phase, problem } = await lifeboat.status('away');
  assert.deepEqual([phase, problem], ['paused', null]);
  assert.equal(await command(handle, 'stop'), 'stopped');
  await handle.result();
  assert.equal((await lifeboat.status('away')).phase, 'stopped');
});

test('a worker rides out an outage of its store', async () => {
  const { storeSet } = lifeboat;
  storeSet.members[0]?.kill('SIGKILL');
  const verifying = await lifeboat.client.workflow.start('verifySnapshot', {
    workflowId: 'verifySnapshot/test/outage',
    taskQueue: TASK_QUEUE,
    args: [{ snapshot: 'none' }],
  });
  await until(async () => {
    const { raw } = await verifying.describe();
    return (raw.pendingActivities?.[0]?.attempt ?? 0) > 1;
  }, 'the claim is tried again');
  await storeSet.restart(0);
  await failsWith('UnknownSnapshot', verifying.result());
});

test('a worker rides out a Temporal that does not answer', async () => {
  const { temporalPid } = lifeboat;
  process.kill(temporalPid, 'SIGSTOP');
  try {
    await delay(OUTAGE_MS);
  } finally {
    process.kill(temporalPid, 'SIGCONT');
  }
  let verifying: WorkflowHandle | undefined;
  await until(async () => {
    verifying = await start('verifySnapshot', { snapshot: 'none' }).catch((error: unknown) => {
      // For a moment it has found its clock behind, and its own questions to its store too late: it knows no namespace.
      if (error instanceof NamespaceNotFoundError || isGrpcServiceError(error)) return undefined;
      throw error;
    });
    return verifying !== undefined;
  }, 'Temporal takes a workflow again');
  assert.ok(verifying);
  await failsWith('UnknownSnapshot', verifying.result());
});

async function workerEndsWith(kind: ErrorName, home: string, configFile: string, address?: string): Promise<void> {
  const { env } = lifeboat.setting;
  await mkdir(home);
  const child = spawnWorker({
    configFile,
    home,
    env: address === undefined ? env : { ...env, TEMPORAL_ADDRESS: address },
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  assert.notEqual(code, 0);
  assert.match(await readFile(workerLog(home), 'utf8'), new RegExp(`kind: '${kind}'`));
}

test('a worker refuses a data directory that another one uses', async () => {
  const { setting, folder, storeSet } = lifeboat;
  const configFile = join(folder, 'same-folder.yaml');
  const dataDir = join(setting.home, 'daemon');
  await writeFile(configFile, JSON.stringify({ blockstore: { uri: storeSet.uri }, daemon: { dataDir } }));
  await workerEndsWith('DaemonLocked', join(folder, 'second'), configFile);
});

test('a worker says which Temporal does not answer', async () => {
  await workerEndsWith(
    'TemporalUnavailable',
    join(lifeboat.folder, 'third'),
    lifeboat.setting.configFile,
    '127.0.0.1:1',
  );
});
