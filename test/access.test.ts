/** TLS and every way to log in, against servers that require them; and what is said of each way to get it wrong. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Arrivals } from '../src/stores/arrivals.ts';
import { LifeboatError } from '../src/shared/errors.ts';
import { openSource } from '../src/source/connect.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { openStores } from '../src/stores/connect.ts';
import { certificateAuthority } from './support/certificates.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { PASSWORD, startSecuredSet, type SecuredSet } from './support/secured-set.ts';
import { digest, newFence, sourceDocuments, stepContext, storedDocuments } from './support/sync.ts';

let source: SecuredSet;
let blocks: SecuredSet;
let plain: TestReplicaSet;
before(async () => {
  source = await startSecuredSet('shop', ['backup', 'clusterMonitor']);
  blocks = await startSecuredSet('blocks', ['readWriteAnyDatabase', 'clusterMonitor']);
  plain = await startReplicaSet({ name: 'shop' });
});
after(async () => {
  await source?.[Symbol.asyncDispose]();
  await blocks?.[Symbol.asyncDispose]();
  await plain?.[Symbol.asyncDispose]();
});

/** What opening ends with; no message of it may hold a secret. */
async function refusal(open: () => Promise<{ close(): Promise<void> }>): Promise<string> {
  try {
    await (await open()).close();
    return 'none';
  } catch (error) {
    assert.ok(error instanceof LifeboatError, String(error));
    const told = JSON.stringify([error.message, error.fix]);
    for (const secret of [PASSWORD, encodeURIComponent(PASSWORD), 'wrong-one']) assert.ok(!told.includes(secret), told);
    return `${error.kind}: ${error.message}`;
  }
}

const ofSource = (uri: string): Promise<string> => refusal(() => openSource({ name: 'shop', uri }));
const ofStore = (uri: string): Promise<string> => refusal(() => openStores({ blockstore: uri }));

/** Every refusal at once: each takes as long as the driver looks for a member. */
async function refusedAs(cases: readonly (readonly [refusal: Promise<string>, told: RegExp])[]): Promise<void> {
  await Promise.all(cases.map(async ([refused, told]) => assert.match(await refused, told)));
}

for (const way of ['SCRAM-SHA-1', 'SCRAM-SHA-256', 'x.509'] as const) {
  test(`a source and a store that require TLS and a login are read and written with ${way}`, async () => {
    const uriOf = (set: SecuredSet): string =>
      way === 'x.509'
        ? set.x509Uri
        : set.uriOf(way === 'SCRAM-SHA-1' ? 'sha1' : 'sha256', {
            more: `&authMechanism=${way}&tlsCertificateKeyFile=${source.clientFile}`,
          });
    const things = source.root.db('shop').collection('things');
    await things.insertMany([{ a: 1 }, { a: 2 }], { writeConcern: { w: 'majority' } });
    const storeUri = uriOf(blocks).replace(source.clientFile, blocks.clientFile);
    const stores = await openStores({ blockstore: storeUri });
    const opened = await openSource({ name: 'shop', uri: uriOf(source) });
    try {
      const [host] = await opened.hosts();
      await (await opened.pinned(host)).close();
      const fence = await newFence(stores, opened, `shop-${way}`);
      const deployment = { stores, source: opened, fence, arrivals: new Arrivals() };
      await beginSync(stepContext(), deployment);
      const tail = async (): Promise<boolean> =>
        (await tailOplog(stepContext(), deployment, { maxMs: 300 })).entries > 0;
      await until(tail, 'entries are read');
      assert.ok((await copySource(stepContext(), { ...deployment, slicesInFlight: 2 }, { maxMs: 60_000 })).finished);
      assert.equal(
        digest(await storedDocuments(deployment, 'shop.things')),
        digest(await sourceDocuments(source.root, 'shop.things')),
      );
    } finally {
      await opened.close();
      await stores.close();
    }
  });
}

test('a login that is refused, and TLS that fails, are told by what they fail by, without a secret', async () => {
  const { authority, clientFile, set, x509Uri } = source;
  const uri = source.uriOf('sha256');
  const other = await certificateAuthority(set.folder, 'other-ca');
  const stranger = await authority.issue('stranger', { subject: 'CN=stranger,OU=backups,O=Shop' });
  const foreign = await other.issue('foreign', { subject: 'CN=x' });
  const without = set.uri.replace('mongodb://', `mongodb://sha256:${encodeURIComponent(PASSWORD)}@`);
  const clientRefused = /^TlsFailed: .*refuses the client certificate, or that there is none/;
  await refusedAs([
    [ofSource(source.uriOf('sha256', { password: 'wrong-one' })), /^AuthFailed: .*login was refused/],
    [ofStore(blocks.uriOf('sha1', { password: 'wrong-one' })), /^StoreAuthFailed: .*login was refused/],
    [ofSource(x509Uri.replace(clientFile, stranger)), /^AuthFailed: .*login was refused/],
    [ofSource(without), /^TlsFailed: .*the server wants TLS, and the connection string has none/],
    [ofStore(blocks.set.uri), /^StoreTlsFailed: .*the server wants TLS, and the connection string has none/],
    [
      ofSource(`${plain.uri}&tls=true&tlsCAFile=${authority.caFile}`),
      /^TlsFailed: .*the connection string wants TLS, and the server has none/,
    ],
    [ofSource(uri.replace(authority.caFile, other.caFile)), /^TlsFailed: .*signed by/],
    [ofSource(uri.replace(`&tlsCAFile=${authority.caFile}`, '')), /^TlsFailed: .*signed by/],
    [ofSource(uri.replaceAll('127.0.0.1', 'localhost')), /^TlsFailed: .*for another host name/],
    [ofSource(source.uriOf('sha256', { more: '' })), clientRefused],
    [ofSource(uri.replace(clientFile, foreign)), clientRefused],
    [ofSource(source.uriOf('sha256', { more: '&tlsCertificateKeyFile=/absent.pem' })), /^BadUri: /],
  ]);
});

test('a server whose certificate has expired is told as that', async () => {
  await using set = await startReplicaSet({ name: 'old' });
  const authority = await certificateAuthority(set.folder, 'ca');
  const expires = new Date(Date.now() + 30_000);
  const options = { subject: 'CN=db,O=Hosting', addresses: ['127.0.0.1'], expires };
  const expired = await authority.issue('expired', options);
  await set.members[0]?.stop();
  const files = ['--tlsCAFile', authority.caFile, '--tlsCertificateKeyFile', expired];
  // No mongod starts with one that has expired: it does while it runs.
  await set.restart(0, ['--tlsMode', 'requireTLS', ...files, '--tlsAllowConnectionsWithoutCertificates']);
  await until(() => Date.now() > expires.getTime() + 1_000, 'the certificate has expired');
  assert.match(await ofSource(`${set.uri}&tls=true&tlsCAFile=${authority.caFile}`), /^TlsFailed: .*has expired/);
});
