/** A transaction that is larger than memory: it waits on disk until it is decided, and nothing is left of it after that. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { Binary, BSON, Long, UUID, type Document } from 'mongodb';
import { at, createOf, entry, insertOf, inTransaction } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import { applyAll, beginAt, connectHead, headDbpath, headIdentity, openHead } from './support/head.ts';

const NS = 'shop.orders';
const COLLECTION = new UUID();
const MB = 1024 * 1024;
const PARTS = 40;
const DOCUMENTS_IN_A_PART = 12;
/** Much less than the transaction; what makes the entries leaves more behind than what applies them. */
const MEMORY = 220 * MB;

/** One entry of a transaction of about 480 MB. */
function part(session: UUID, n: number, last: Document): Buffer {
  const applyOps = Array.from({ length: DOCUMENTS_IN_A_PART }, (_, index) =>
    insertOf(NS, COLLECTION, { _id: n * DOCUMENTS_IN_A_PART + index, data: new Binary(Buffer.alloc(MB, n)) }),
  );
  return entry(10 + n, { op: 'c', ns: 'admin.$cmd', o: { applyOps, ...last }, ...inTransaction(session, 1) });
}

function lastPart(decision: Document): Document {
  return { count: Long.fromNumber(PARTS * DOCUMENTS_IN_A_PART), ...decision };
}

function decided(session: UUID, command: Document): Buffer {
  return entry(100, { op: 'c', ns: 'admin.$cmd', o: command, ...inTransaction(session, 1) });
}

const COMMIT = { commitTransaction: 1, commitTimestamp: new BSON.Timestamp({ t: 1, i: 1 }) };

for (const { what, last, command, documents } of [
  { what: 'that is its own commit', last: {}, command: undefined, documents: PARTS * DOCUMENTS_IN_A_PART },
  { what: 'that was prepared', last: { prepare: true }, command: COMMIT, documents: PARTS * DOCUMENTS_IN_A_PART },
  { what: 'that is aborted', last: { prepare: true }, command: { abortTransaction: 1 }, documents: 0 },
]) {
  test(`a transaction of 480 MB ${what} takes no more memory than a small one`, async (t) => {
    await using folder = await testFolder();
    const identity = headIdentity();
    const head = await openHead(folder.path, identity);
    try {
      await beginAt(head, at(0));
      await applyAll(head, entry(1, createOf(NS, COLLECTION)));
      const session = new UUID();
      const attempt = head.attempt('apply');
      const before = process.memoryUsage().rss;
      let most = 0;
      const look = (): void => void (most = Math.max(most, process.memoryUsage().rss - before));
      const looking = setInterval(look, 5);
      try {
        for (let n = 0; n < PARTS; n++) {
          await applyAll(head, part(session, n, n < PARTS - 1 ? { partialTxn: true } : lastPart(last)), attempt);
          if (n === PARTS - 2) assert.deepEqual(head.state().position?.oplogFrom, at(10));
        }
        if (command) await applyAll(head, decided(session, command), attempt);
      } finally {
        clearInterval(looking);
      }
      look();
      t.diagnostic(`${Math.round(most / MB)} MB`);
      assert.ok(most < MEMORY, `it took ${Math.round(most / MB)} MB`);
      const client = await connectHead(folder.path, identity);
      try {
        assert.equal(await client.db('shop').collection('orders').countDocuments(), documents);
      } finally {
        await client.close();
      }
      const left = await readdir(dirname(headDbpath(folder.path, identity)));
      assert.deepEqual(
        left.filter((name) => name.startsWith('spill')),
        [],
      );
    } finally {
      await head.close();
    }
  });
}

test('a transaction that waits on disk is read again after a restart', async () => {
  await using folder = await testFolder();
  const identity = headIdentity();
  let head = await openHead(folder.path, identity);
  try {
    await beginAt(head, at(0));
    const session = new UUID();
    const parts = Array.from({ length: PARTS }, (_, n) =>
      part(session, n, n < PARTS - 1 ? { partialTxn: true } : lastPart({ prepare: true })),
    );
    await applyAll(head, entry(1, createOf(NS, COLLECTION)));
    const attempt = head.attempt('apply');
    for (const one of parts) await applyAll(head, one, attempt);
    await head.close();
    head = await openHead(folder.path, identity, { epoch: 2 });
    await assert.rejects(applyAll(head, decided(session, COMMIT)), /not all entries are stored/);
    const again = head.attempt('apply');
    for (const one of parts) await applyAll(head, one, again);
    await applyAll(head, decided(session, COMMIT), again);
    const client = await connectHead(folder.path, identity);
    try {
      assert.equal(await client.db('shop').collection('orders').countDocuments(), PARTS * DOCUMENTS_IN_A_PART);
    } finally {
      await client.close();
    }
  } finally {
    await head.close();
  }
});
