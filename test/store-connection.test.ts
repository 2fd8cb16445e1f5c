import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLifeboatError, LifeboatError } from '../src/shared/errors.ts';
import { openStores } from '../src/stores/connect.ts';
import { startReplicaSet } from './support/replica-set.ts';

/** The kind of the error that opening a store ends with. */
async function refusal(blockstore: string): Promise<string> {
  try {
    await (await openStores({ blockstore })).close();
    return 'none';
  } catch (error) {
    assert.ok(error instanceof LifeboatError, String(error));
    assert.doesNotMatch(error.message, /secret/);
    return error.kind;
  }
}

test('a connection string of a store that can never work is named as such, not tried again', async () => {
  for (const uri of [
    'http://localhost',
    'mongodb://a:b:secret@c',
    'mongodb://localhost/?authMechanism=MONGODB-X509&authSource=secret',
    'mongodb://localhost/?authMechanism=SCRAM-SHA-256',
    'mongodb://localhost/?tls=true&tlsCAFile=/nowhere/secret.pem',
  ]) {
    assert.equal(await refusal(uri), 'StoreBadUri', uri);
  }
});

test('the clock of a store that is away is a store that is away', async () => {
  await using set = await startReplicaSet({ name: 'blocks' });
  const stores = await openStores({ blockstore: set.uri });
  try {
    set.members[0]?.kill('SIGKILL');
    await set.members[0]?.exited;
    await assert.rejects(stores.now(), (error) => isLifeboatError(error, 'StoreUnavailable'));
  } finally {
    await stores.close();
  }
});
