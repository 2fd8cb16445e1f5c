/**
 * No secret and no document leaves its place: planted ones are looked for in everything that a lifecycle with failures
 * writes: logs at their finest, what the command line prints, Temporal's histories, the records of the stores.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MongoClient } from 'mongodb';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { cliFolder } from './support/cli.ts';
import { until } from './support/replica-set.ts';
import { PASSWORD, startSecuredSet } from './support/secured-set.ts';
import { headUri, workerLog } from './support/worker.ts';

const NEW_PASSWORD = 'ro+tated=%40/pass';
const WRONG_PASSWORD = 'wr@ng:pass';
const IN_QUERY = 'key-file-passphrase';
const DOCUMENT = 'planted-document-value';
const ID = 'planted-id';
const secrets = [PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, IN_QUERY].flatMap((secret) => [
  secret,
  encodeURIComponent(secret),
  JSON.stringify(secret).slice(1, -1),
]);
const planted = [...new Set([...secrets, DOCUMENT, ID])];

/** Every planted text that stands in `text`. */
function foundIn(text: string): string[] {
  return planted.filter((one) => text.includes(one));
}

/** JSON of anything, with the bytes in it as text. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (part instanceof Uint8Array) return Buffer.from(part).toString('latin1');
    const buffer = part as { type?: unknown; data?: unknown } | null;
    if (buffer?.type === 'Buffer' && Array.isArray(buffer.data))
      return Buffer.from(buffer.data as number[]).toString('latin1');
    return typeof part === 'bigint' ? String(part) : part;
  });
}

/** Each of Temporal's texts about each workflow that ever ran, under the name of where it stands. */
async function temporalTexts({ client }: TestLifeboat): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for await (const { workflowId, runId } of client.workflow.list()) {
    const handle = client.workflow.getHandle(workflowId, runId);
    texts.set(`history of ${workflowId}`, textOf(await handle.fetchHistory()));
    texts.set(`description of ${workflowId}`, textOf((await handle.describe()).raw));
    const details = await handle.query('__temporal_workflow_metadata').catch(() => null);
    texts.set(`details of ${workflowId}`, textOf(details));
  }
  return texts;
}

/** Every record of the stores, but for the data that it is there to hold. */
async function storeTexts(client: MongoClient): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const name of ['lifeboat', 'lifeboat_sync', 'lifeboat_oplog']) {
    for (const collection of await client.db(name).collections()) {
      const records = await collection.find({}, { projection: { data: 0, bytes: 0 } }).toArray();
      texts.set(collection.namespace, textOf(records));
    }
  }
  return texts;
}

test('nothing secret and nothing of a document is found in logs, histories, records and what is printed', async () => {
  await using source = await startSecuredSet('rs0', ['backup', 'clusterMonitor'], false);
  await using lifeboat = await startLifeboat({
    env: { LIFEBOAT_LOG_LEVEL: 'trace', SHOP_WRONG: source.uriOf('sha1', { password: WRONG_PASSWORD }) },
  });
  await using cli = await cliFolder();
  const { setting } = lifeboat;
  const uriFile = join(lifeboat.folder, 'secret-uri');
  await writeFile(uriFile, source.uriOf('sha256'));
  const items = source.root.db('shop').collection<{ _id: string; unique: string }>('items');
  await items.createIndex({ unique: 1 }, { unique: true });
  await items.insertMany(Array.from({ length: 500 }, (_, n) => ({ _id: `${ID}-${n}`, unique: `${DOCUMENT}-${n}` })));
  await lifeboat.configure({
    shop: { uriFile },
    'wrong-env': '${SHOP_WRONG}',
    'wrong-text': source.uriOf('sha256', { password: WRONG_PASSWORD }),
    'wrong-query': `${source.set.uri}&tls=true&tlsCertificateKeyFilePassword=${IN_QUERY}`,
    'wrong-command': { uriCommand: ['/bin/sh', '-c', 'echo "$SHOP_WRONG"; echo "$SHOP_WRONG" >&2; exit 3'] },
  });
  const printed: string[] = [];
  const lifeboatCli = async (...words: string[]): Promise<string> => {
    const env = { TEMPORAL_ADDRESS: lifeboat.temporalAddress, LIFEBOAT_DEBUG: '1' };
    const { stdout, stderr } = await cli.run(['--config', setting.configFile, ...words], { env });
    printed.push(stdout, stderr);
    return `${stdout}${stderr}`;
  };
  const untilProblem = async (deployment: string, ...kinds: ErrorName[]): Promise<void> => {
    let last: unknown;
    await until(
      async () => {
        last = await lifeboat.status(deployment).catch(() => undefined);
        const code = (last as { problem?: { code: string } } | undefined)?.problem?.code;
        return kinds.some((kind) => errorKind(kind).code === code);
      },
      `${deployment} has the problem ${kinds.join(' or ')}`,
      120_000,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(last)}`);
    });
  };

  await lifeboat.startBackup('shop');
  for (const wrong of ['wrong-env', 'wrong-text', 'wrong-query', 'wrong-command']) await lifeboat.startBackup(wrong);
  await untilProblem('wrong-env', 'AuthFailed');
  await untilProblem('wrong-text', 'AuthFailed');
  await untilProblem('wrong-query', 'TlsFailed');
  await lifeboat.untilPhase('shop', 'routine', 120_000);
  await lifeboatCli('snapshots', 'create', 'shop', '--wait');

  // A password that is changed while the source goes away: told, and over once the new one is in the file.
  await source.root.db('admin').command({ updateUser: 'sha256', pwd: NEW_PASSWORD, mechanisms: ['SCRAM-SHA-256'] });
  source.set.members[0]?.kill('SIGKILL');
  await source.restart();
  await untilProblem('shop', 'AccessLapsed');
  assert.equal((await lifeboat.status('shop')).phase, 'routine');
  await writeFile(uriFile, source.uriOf('sha256', { password: NEW_PASSWORD }));
  await until(async () => (await lifeboat.status('shop')).problem === null, 'the new password is taken up', 120_000);

  // The head is made to differ: what cannot be applied is a document with a value that is taken.
  await using head = await MongoClient.connect(await headUri(setting.home, 'shop', 'rs0'));
  await head
    .db('shop')
    .collection<{ _id: string }>('items')
    .insertOne({ _id: `${ID}-twin`, unique: `${DOCUMENT}-twin` } as never);
  await items.insertOne({ _id: `${ID}-late`, unique: `${DOCUMENT}-twin` }, { writeConcern: { w: 'majority' } });
  await untilProblem('shop', 'Diverged');

  await mkdir(join(lifeboat.folder, 'taken'));
  await writeFile(join(lifeboat.folder, 'taken', 'x'), '');
  for (const words of [
    ['backup', 'status'],
    ['backup', 'status', 'shop'],
    ['backup', 'status', 'wrong-text', '--json'],
    ['backup', 'resume', 'wrong-text'],
    ['deployments', 'list'],
    ['deployments', 'add', 'more', '--uri', source.uriOf('sha1')],
    ['deployments', 'add', 'more', '--uri', source.uriOf('sha1')],
    ['snapshots', 'list'],
    ['restore', 'shop', '--snapshot', 'none', '--to', `dir:${join(lifeboat.folder, 'taken')}`, '--wait'],
  ]) {
    await lifeboatCli(...words);
  }
  const texts = new Map([
    ['the log of the worker', await readFile(workerLog(setting.home), 'utf8')],
    ['what the command line printed', printed.join('\n')],
    ...(await temporalTexts(lifeboat)),
    ...(await storeTexts(lifeboat.storeSet.client)),
  ]);
  const leaks = [...texts].flatMap(([where, text]) => foundIn(text).map((what) => `${where}: ${what}`));
  assert.deepEqual(leaks, []);
  // The search finds what is there: names that belong in each of the places.
  assert.match(texts.get('history of backup/shop') ?? '', /"shop/);
  assert.match(texts.get('lifeboat.deployments') ?? '', /wrong-env/);
  assert.match(texts.get('the log of the worker') ?? '', /"level":10|"level":20/);
});
