import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLifeboatError } from '../src/shared/errors.ts';
import { testFolder } from './support/folders.ts';
import { headIdentity, headPid, openHead } from './support/head.ts';

test('an attempt ends with the mongod it began on, whose last writes may be lost; a new one goes on', async () => {
  await using folder = await testFolder();
  const identity = headIdentity();
  const head = await openHead(folder.path, identity);
  try {
    const attempt = head.attempt('build');
    const mongodOf = (): Promise<number> => headPid(folder.path, identity);
    const before = await attempt.turn(mongodOf);
    process.kill(before, 'SIGKILL');
    // Between two turns: another attempt has the head opened anew, and this one could take it for its own.
    let after = before;
    while (after === before) {
      after = await head
        .attempt('apply')
        .turn(mongodOf)
        .catch(() => before);
    }
    await assert.rejects(attempt.turn(mongodOf), (error) => isLifeboatError(error, 'HeadLost') && error.retryable);
    assert.equal(await head.attempt('build').turn(mongodOf), after);
  } finally {
    await head.close();
  }
});
