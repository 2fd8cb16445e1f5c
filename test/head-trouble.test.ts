/** What ails a head's mongod is no fault of its data: it is tried again, and work that takes long can be given up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BSON, Int32, Long, UUID, type Document, type MongoClient } from 'mongodb';
import { buildDeferred, buildIndexes, dropIndex, indexName, readIndexes } from '../src/head/indexes.ts';
import { refuseOddIndexes } from '../src/head/odd-indexes.ts';
import type { HeadOwner } from '../src/head/owner.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { at, createOf, entry, insertOf } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import { applyAll, applyStubbornly, beginAt, connectHead, headIdentity, headPid, openHead } from './support/head.ts';
import { Random, testSeed } from './support/random.ts';
import { until } from './support/replica-set.ts';

const NS = 'shop.orders';
const COLLECTION = new UUID();
const UUID_HEX = COLLECTION.toString('hex').replaceAll('-', '');
const DOCUMENTS = 150_000;

interface LargeHead extends AsyncDisposable {
  readonly head: HeadOwner;
  pid(): Promise<number>;
  /** Builds the indexes that wait, as the end of an initial sync does. */
  build(signal?: AbortSignal): Promise<void>;
  /** Drops what was built of them, and builds them. */
  buildAnew(signal: AbortSignal): Promise<void>;
  untilBuilding(): Promise<void>;
  indexes(): Promise<number>;
}

/** A head with enough documents that indexes on them take a while; three wait to be built. */
async function largeHead(count = DOCUMENTS): Promise<LargeHead> {
  const folder = await testFolder();
  const identity = headIdentity();
  const head = await openHead(folder.path, identity);
  await beginAt(head, at(0));
  await applyAll(head, entry(1, createOf(NS, COLLECTION)));
  const client = await connectHead(folder.path, identity);
  const text = 'y'.repeat(100);
  for (let done = 0; done < count; done += 10_000) {
    const documents = Array.from({ length: 10_000 }, () => ({
      a: Math.random(),
      b: `${Math.random()}${text}`,
      c: [Math.random(), Math.random(), Math.random()],
    }));
    await client.db('shop').collection('orders').insertMany(documents, { ordered: false });
  }
  await client.close();
  const specs = ['a', 'b', 'c'].map((key) =>
    Buffer.from(BSON.serialize({ v: 2, key: { [key]: 1 }, name: `${key}_1` })),
  );
  await head.attempt('build').turn((open) => open.deferred.put(UUID_HEX, specs, { journaled: true }));
  const connected = async <T>(work: (client: MongoClient) => Promise<T>): Promise<T> => {
    const opened = await connectHead(folder.path, identity);
    try {
      return await work(opened);
    } finally {
      await opened.close();
    }
  };
  return {
    head,
    pid: () => headPid(folder.path, identity),
    build: (signal = new AbortController().signal) =>
      head.attempt('apply').turn((open) => buildDeferred(open, () => undefined, signal)),
    buildAnew: (signal) =>
      head.attempt('apply').turn(async ({ socket, catalog }) => {
        const collection = catalog.get(UUID_HEX);
        assert.ok(collection);
        for (const spec of await readIndexes(socket, collection)) await dropIndex(socket, collection, indexName(spec));
        await buildIndexes(socket, collection, specs, signal);
      }),
    untilBuilding: () =>
      connected((opened) =>
        until(async () => {
          const { inprog } = await opened.db('admin').command({ currentOp: 1, 'command.createIndexes': 'orders' });
          return (inprog as unknown[]).length > 0;
        }, 'the head builds'),
      ),
    indexes: () =>
      head.attempt('build').turn(async (open) => {
        const collection = open.catalog.get(UUID_HEX);
        assert.ok(collection);
        return (await readIndexes(open.socket, collection)).length;
      }),
    async [Symbol.asyncDispose]() {
      await head.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

test('an index build ends when its step is to end, leaves nothing, and is done by the next one', async () => {
  await using made = await largeHead();
  const stop = new AbortController();
  const building = made.build(stop.signal);
  const ended = assert.rejects(building, (error) => error === stop.signal.reason);
  await made.untilBuilding();
  stop.abort(new Error('the backup is paused'));
  await ended;
  assert.equal(await made.indexes(), 0);
  await made.build();
  assert.equal(await made.indexes(), 3);
});

test('an index build ends, and its mongod lives, at whatever moment it is told to', async (t) => {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  await using made = await largeHead(20_000);
  const pid = await made.pid();
  const begun = performance.now();
  await made.buildAnew(new AbortController().signal);
  const wholeMs = performance.now() - begun;
  let ended = 0;
  for (let round = 0; round < 40; round += 1) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(new Error('the backup is paused')), random.below(wholeMs * 1.2));
    try {
      await made.buildAnew(stop.signal);
    } catch (error) {
      assert.equal(error, stop.signal.reason);
      ended += 1;
    } finally {
      clearTimeout(timer);
    }
  }
  assert.ok(ended > 0, 'none was told in time');
  assert.equal(await made.pid(), pid, 'the mongod had to be ended');
});

test('a mongod that does not end an index build when it is told to is ended itself', async () => {
  await using made = await largeHead();
  const stop = new AbortController();
  const ended = assert.rejects(made.build(stop.signal), (error) => error === stop.signal.reason);
  await made.untilBuilding();
  process.kill(await made.pid(), 'SIGSTOP');
  stop.abort(new Error('the backup is paused'));
  await ended;
  await made.build();
  assert.equal(await made.indexes(), 3);
});

test('a head that is shut down while it builds indexes goes on building when it is opened anew', async () => {
  await using made = await largeHead();
  const building = made.build();
  const ended = assert.rejects(building, (error) => isLifeboatError(error, 'HeadLost') && error.retryable);
  await made.untilBuilding();
  process.kill(await made.pid(), 'SIGTERM');
  await ended;
  await until(async () => {
    try {
      await made.build();
      return true;
    } catch (error) {
      // It takes its time to shut down.
      assert.ok(isLifeboatError(error, 'HeadLost'), String(error));
      return false;
    }
  }, 'the head is opened anew and builds');
  assert.equal(await made.indexes(), 3);
});

test('a document that does not fit the cache together with its index entries is applied; the indexes are built behind it', async () => {
  await using folder = await testFolder();
  const identity = headIdentity();
  await using head = await openHead(folder.path, identity);
  await beginAt(head, at(0));
  const names = ['f0', 'f1', 'f2', 'f3'];
  const indexes: Document[] = names.map((name) => ({
    op: 'c',
    ns: 'shop.$cmd',
    ui: COLLECTION,
    o: { createIndexes: 'orders', v: new Int32(2), key: { a: 1, [name]: 1 }, name },
  }));
  const large = {
    _id: 1,
    a: Array.from({ length: 1_150_000 }, (_, n) => new Int32(n)),
    ...Object.fromEntries(names.map((name) => [name, 'z'.repeat(20)])),
  };
  const entries = Buffer.concat([
    entry(1, createOf(NS, COLLECTION)),
    ...indexes.map((fields, n) => entry(2 + n, fields)),
    entry(10, insertOf(NS, COLLECTION, large)),
    entry(11, insertOf(NS, COLLECTION, { _id: 2, n: Long.fromNumber(1) })),
  ]);
  await applyStubbornly(head, entries);
  assert.deepEqual(head.state().position, { appliedThrough: at(11), oplogFrom: at(11), inconsistentUntil: null });
  const client = await connectHead(folder.path, identity);
  try {
    const orders = client.db('shop').collection('orders');
    assert.equal(await orders.countDocuments(), 2);
    assert.deepEqual((await orders.indexes()).map(({ name }) => name).sort(), ['_id_', ...names]);
  } finally {
    await client.close();
  }
});

test('a head that differs from its source is not held still, and nobody waits for it', async () => {
  await using folder = await testFolder();
  await using head = await openHead(folder.path, headIdentity());
  await beginAt(head, at(0));
  const missing = { op: 'u', ns: NS, ui: COLLECTION, o: { $v: 2, diff: { u: { n: 1 } } }, o2: { _id: 1 } };
  const waiting = head.lock(at(9).ts, AbortSignal.timeout(60_000));
  const refused = assert.rejects(waiting, (error) => isLifeboatError(error, 'Diverged'));
  await assert.rejects(applyAll(head, Buffer.concat([entry(1, createOf(NS, COLLECTION)), entry(2, missing)])));
  await refused;
  await assert.rejects(head.lock(at(0).ts, AbortSignal.timeout(60_000)), (error) => isLifeboatError(error, 'Diverged'));
});

test('a head whose directory is gone is missing to who wants it held still', async () => {
  await using folder = await testFolder();
  await using head = await openHead(folder.path, headIdentity());
  const missing = (error: unknown): boolean => isLifeboatError(error, 'HeadMissing');
  await assert.rejects(head.lock(at(0).ts, AbortSignal.timeout(60_000)), missing);
});

test('a newer claim tells a snapshot in hand to end, and waits for it no longer than that takes', async () => {
  await using folder = await testFolder();
  const head = await openHead(folder.path, headIdentity());
  await beginAt(head, at(0));
  const locked = await head.lock(at(0).ts, AbortSignal.timeout(60_000));
  const givenUp = head.giveUp();
  assert.ok(isLifeboatError(locked.signal.reason, 'FenceLost'));
  await locked.release();
  await givenUp;
  await assert.rejects(applyAll(head, entry(1, createOf(NS, COLLECTION))), (error) =>
    isLifeboatError(error, 'FenceLost'),
  );
});

test('an index of a form that no server makes any more is told by its name before anything is loaded', async () => {
  await using folder = await testFolder();
  await using head = await openHead(folder.path, headIdentity());
  const tryOut = (...specs: readonly Document[]): Promise<void> =>
    head.attempt('build').turn((open) => {
      const indexes = specs.map((spec) => Buffer.from(BSON.serialize(spec)));
      return refuseOddIndexes(open, [
        { uuid: UUID_HEX, db: 'shop', name: 'orders', options: Buffer.from(BSON.serialize({})), indexes },
      ]);
    });
  await tryOut(
    { v: 2, key: { _id: 1 }, name: '_id_' },
    { v: 1, key: { a: 1 }, name: 'a', dropDups: true },
    { v: 2, key: { b: -1, c: '2dsphere' }, name: 'b', sparse: 1, '2dsphereIndexVersion': 3 },
  );
  for (const spec of [
    { v: 1, key: { a: 1 }, name: 'old', safe: true },
    { v: 1, key: { a: true }, name: 'old' },
    { v: 2, key: { a: 1 }, name: 'old', expireAfterSeconds: '3600' },
  ]) {
    await assert.rejects(tryOut(spec), (error) => {
      assert.ok(isLifeboatError(error, 'IndexFormRefused'), String(error));
      assert.match(error.message, /shop\.orders: index "old"/);
      return true;
    });
  }
});
