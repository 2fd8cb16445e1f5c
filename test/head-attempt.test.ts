import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { Long, UUID, type Document } from 'mongodb';
import { isLifeboatError } from '../src/shared/errors.ts';
import { at, createOf, entry, insertOf, inTransaction } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import { beginAt, headIdentity, headPid, openHead } from './support/head.ts';

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

test('what fails in a turn of another attempt makes the head forget no open transaction', async () => {
  await using folder = await testFolder();
  const head = await openHead(folder.path, headIdentity());
  try {
    await beginAt(head, at(0));
    const [ui, session] = [new UUID(), new UUID()];
    const part = (id: number, extra: Document): Document => ({
      op: 'c',
      ns: 'admin.$cmd',
      ...inTransaction(session, 7),
      o: { applyOps: [insertOf('a.b', ui, { _id: id })], ...extra },
    });
    const apply = head.attempt('apply');
    const run = async (...entries: Buffer[]): Promise<void> => {
      await apply.turn((open) => apply.applier(open).run(Buffer.concat(entries)));
    };
    await run(entry(1, createOf('a.b', ui)), entry(2, part(1, { partialTxn: true })));
    const broken = new Error('the source broke the connection');
    await assert.rejects(
      head.attempt('validate').turn(() => Promise.reject(broken)),
      broken,
    );
    await run(entry(3, insertOf('a.b', ui, { _id: 9 })));
    assert.deepEqual(head.state().position?.oplogFrom, at(2));
    await run(entry(4, part(2, { count: Long.fromNumber(2) })));
    assert.deepEqual(head.state().position?.oplogFrom, at(4));
  } finally {
    await head.close();
  }
});

test('who waits for an optime leaves nothing behind on the signal at each entry that is applied meanwhile', async () => {
  await using folder = await testFolder();
  const head = await openHead(folder.path, headIdentity());
  try {
    await beginAt(head, at(0));
    const ending = new AbortController();
    const waiting = assert.rejects(head.waitApplied(at(5).ts, ending.signal));
    const apply = head.attempt('apply');
    for (let n = 0; n < 50; n += 1) await apply.turn(() => Promise.resolve());
    assert.equal(getEventListeners(ending.signal, 'abort').length, 1);
    ending.abort();
    await waiting;
    assert.equal(getEventListeners(ending.signal, 'abort').length, 0);
  } finally {
    await head.close();
  }
});
