/** `lifeboat doctor`, run for real: with a worker, without one, and where nothing answers. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ObjectId } from 'mongodb';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import { CHECK_NAMES, type Check } from '../src/shared/messages.ts';
import { createMember } from '../src/stores/claims.ts';
import { cliFolder, type CliFolder, type CliRun } from './support/cli.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';

let lifeboat: TestLifeboat;
let folder: CliFolder;
let silent: SilentServer;

/** Takes connections and never says a word. */
class SilentServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => this.#sockets.add(socket.on('error', () => undefined)));
  }

  static async start(): Promise<SilentServer> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new SilentServer(server);
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

before(async () => {
  silent = await SilentServer.start();
  lifeboat = await startLifeboat();
  folder = await cliFolder();
  await lifeboat.configure({
    shop: lifeboat.source.uri,
    silent: `mongodb://${silent.address}/?replicaSet=rs0`,
    // TEST-NET-1: nobody is there (RFC 5737).
    nowhere: 'mongodb://192.0.2.1/?replicaSet=rs0',
    unset: '${LIFEBOAT_TEST_UNSET}',
    shortest: { uri: lifeboat.source.uri, pointInTime: { window: '0' } },
  });
});

after(async () => {
  silent?.close();
  await lifeboat?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

interface Diagnosis extends CliRun {
  readonly checks: readonly Check[];
  readonly error: { readonly code: string; readonly message: string; readonly fix: string } | undefined;
}

async function doctor(words = '', env: Record<string, string> = {}, config?: string): Promise<Diagnosis> {
  const all = ['--json', '--config', config ?? lifeboat.setting.configFile, 'doctor', ...words.split(' ')];
  const run = await folder.run(
    all.filter((word) => word !== ''),
    { env: { TEMPORAL_ADDRESS: lifeboat.temporalAddress, ...env } },
  );
  const { checks, error } = JSON.parse(run.stdout) as Pick<Diagnosis, 'checks' | 'error'>;
  assert.ok(run.tookMs < 60_000, `it took ${run.tookMs} ms`);
  return { ...run, checks, error };
}

function of(checks: readonly Check[], name: Check['name'], deployment: string | null = null): Check {
  const found = checks.find((check) => check.name === name && check.deployment === deployment);
  return found ?? assert.fail(`no check ${name} of ${deployment} in ${JSON.stringify(checks)}`);
}

function isCode(code: string | null | undefined, kind: ErrorName): void {
  assert.equal(code, errorKind(kind).code);
}

// One after the other: the worker ends on the way.
describe('lifeboat doctor', () => {
  test('finds a deployment well that is, with every check, from the machine of the daemon', async () => {
    const { code, checks, error, stdout } = await doctor('shop');
    assert.equal(code, 0, stdout);
    assert.equal(error, undefined);
    assert.deepEqual(checks.map(({ name }) => name).toSorted(), CHECK_NAMES.toSorted());
    for (const { ok, detail, name } of checks) assert.ok(ok && detail !== '', name);
    assert.match(of(checks, 'daemon').detail, /^test-daemon on .* answers$/);
    assert.match(of(checks, 'source', 'shop').detail, /rs0.*read from/);
  });

  test('says for people what is well and what is not, in plain text where colours are not wanted', async () => {
    const words = ['--no-color', '--config', lifeboat.setting.configFile, 'doctor', 'shortest'];
    const { code, stdout } = await folder.run(words, { env: { TEMPORAL_ADDRESS: lifeboat.temporalAddress } });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^✓ configuration /m);
    assert.match(stdout, /^! shortest: point-in-time .*a lost daemon costs a new initial sync$/m);
    assert.match(stdout, /^ +Set deployments\.NAME\.pointInTime\.window/m);
    assert.doesNotMatch(stdout, /\u001b/);
  });

  test('looks at all deployments within a minute, also at those that do not answer', async () => {
    const { code, checks, error } = await doctor();
    assert.equal(code, 1);
    assert.ok(error);
    for (const name of ['silent', 'nowhere']) {
      isCode(of(checks, 'source', name).code, 'SourceUnavailable');
      assert.equal(of(checks, 'disk', name).level, 'unknown');
    }
    isCode(of(checks, 'source', 'unset').code, 'SecretMissing');
    assert.equal(of(checks, 'disk', 'shop').ok, true);
    assert.equal(of(checks, 'source', 'shop').ok, true);
  });

  test('names the daemon that owns the head and does not answer, and looks from here at what can be seen', async () => {
    const source = {
      replicaSetId: new ObjectId(),
      setName: 'rs0',
      version: '6.0.5',
      featureCompatibilityVersion: '6.0',
    };
    await createMember(lifeboat.stores, { deployment: 'shortest', source, daemon: 'gone', phase: 'routine' });
    const { code, checks, error } = await doctor('shortest');
    assert.equal(code, 1);
    isCode(error?.code, 'NoWorker');
    assert.match(of(checks, 'daemon').detail, /daemon gone, which owns the head, does not answer/);
    assert.equal(of(checks, 'source', 'shortest').ok, true);
    assert.equal(of(checks, 'disk', 'shortest').level, 'unknown');
    await lifeboat.stores.members.deleteMany({ deployment: 'shortest' });
  });

  test('refuses a deployment that nobody knows, and finds a mistake in the configuration', async () => {
    const { code, document } = await folder.json(['--config', lifeboat.setting.configFile, 'doctor', 'nobody']);
    assert.equal(code, 2);
    isCode(document.error?.code, 'UnknownDeployment');
    const broken = join(folder.path, 'broken.yaml');
    await writeFile(broken, 'deployments:\n  shop: { url: mongodb://h }\n');
    const found = await doctor('', {}, broken);
    assert.equal(found.code, 1);
    isCode(found.error?.code, 'ConfigInvalid');
    assert.match(of(found.checks, 'configuration').detail, /broken\.yaml:2:/);
    assert.equal(of(found.checks, 'temporal').ok, true);
  });

  test('tells that no worker answers, and what can be seen without one', async () => {
    await lifeboat.worker().end();
    const { code, checks, error } = await doctor('shop');
    assert.equal(code, 1);
    isCode(error?.code, 'NoWorker');
    assert.equal(of(checks, 'daemon').level, 'failed');
    for (const name of ['configuration', 'temporal', 'blockstore'] as const) assert.ok(of(checks, name).ok, name);
    for (const name of ['source', 'privileges', 'oplog-window'] as const) assert.ok(of(checks, name, 'shop').ok, name);
    for (const name of ['mongod', 'disk', 'open-files'] as const) {
      assert.equal(of(checks, name, 'shop').level, 'unknown');
    }
  });

  test('is over within a minute where neither Temporal nor the blockstore nor the source says a word', async () => {
    const config = join(folder.path, 'silent.yaml');
    const uri = `mongodb://${silent.address}/?replicaSet=rs0`;
    await writeFile(config, JSON.stringify({ blockstore: { uri }, deployments: { shop: { uri } } }));
    const { code, checks } = await doctor('shop', { TEMPORAL_ADDRESS: silent.address }, config);
    assert.equal(code, 1);
    isCode(of(checks, 'temporal').code, 'TemporalUnavailable');
    isCode(of(checks, 'blockstore').code, 'StoreUnavailable');
    isCode(of(checks, 'daemon').code, 'NoWorker');
    isCode(of(checks, 'source', 'shop').code, 'SourceUnavailable');
  });
});
