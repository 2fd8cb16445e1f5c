/** What a head promises: whose it is, what it applies and what it refuses, and that it can be held still. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { Binary, BSON, Long, ObjectId, UUID, type Document } from 'mongodb';
import { parseEntry } from '../src/head/entry.ts';
import { loadDocuments, makeCollections } from '../src/head/load.ts';
import type { HeadOwner } from '../src/head/owner.ts';
import { operationsKind } from '../src/head/transactions.ts';
import type { HeadIdentity } from '../src/head/types.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../src/shared/errors.ts';
import { at, createOf, entry, insertOf, inTransaction } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import { applyAll, beginAt, connectHead, headDbpath, headIdentity, headPid, openHead } from './support/head.ts';
import { double, int32, rawDocument, text } from './support/raw-wire.ts';
import { until } from './support/replica-set.ts';

const NS = 'shop.orders';
const COLLECTION = new UUID();

interface TestHead extends AsyncDisposable {
  readonly dataDir: string;
  readonly identity: HeadIdentity;
  readonly head: HeadOwner;
  /** Ends the head and opens it anew, as after a restart of the worker. */
  reopen(): Promise<HeadOwner>;
  documents(): Promise<Document[]>;
}

/** A head at 0 that is the copy of an empty source. */
async function emptyHead(options: { readonly atomic?: boolean } = {}): Promise<TestHead> {
  const folder = await testFolder();
  const identity = headIdentity();
  let epoch = 1;
  let head = await openHead(folder.path, identity, options);
  await beginAt(head, at(0));
  return {
    dataDir: folder.path,
    identity,
    get head() {
      return head;
    },
    async reopen() {
      epoch += 1;
      head = await openHead(folder.path, identity, { ...options, epoch });
      return head;
    },
    async documents() {
      const client = await connectHead(folder.path, identity);
      try {
        return await client.db('shop').collection('orders').find().sort({ _id: 1 }).toArray();
      } finally {
        await client.close();
      }
    },
    async [Symbol.asyncDispose]() {
      await head.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

function run(...entries: readonly Buffer[]): Buffer {
  return Buffer.concat(entries);
}

function failsWith(kind: ErrorName, what?: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(isLifeboatError(error, kind), String(error));
    if (what) assert.match(error.message, what);
    return true;
  };
}

function standsAt(head: HeadOwner): unknown {
  return head.state().position?.appliedThrough.ts.i;
}

// ---- what stops a backup ----------------------------------------------------------------------------------------

const unknowns: readonly [what: string, fields: Document, kind: ErrorName][] = [
  ['operation', { op: 'zz', ns: NS, ui: COLLECTION, o: { secret: 'value' } }, 'UnknownEntry'],
  ['command', { op: 'c', ns: 'shop.$cmd', o: { levitate: 'orders', secret: 'value' } }, 'UnknownEntry'],
  ['field', { ...insertOf(NS, COLLECTION, { _id: 9, secret: 'value' }), gravity: 0 }, 'UnknownEntry'],
  [
    'field in a part of a transaction',
    {
      op: 'c',
      ns: 'admin.$cmd',
      o: { applyOps: [{ ...insertOf(NS, COLLECTION, { _id: 9, secret: 'value' }), gravity: 0 }], partialTxn: true },
      ...inTransaction(new UUID(), 1),
    },
    'UnknownEntry',
  ],
  ['importCollection', { op: 'c', ns: 'shop.$cmd', o: { importCollection: 'shop.orders' } }, 'EntryNotSupported'],
];

test('an entry that is not known stops the head behind the one before it, however often it is tried', async () => {
  await using made = await emptyHead();
  const { head } = made;
  const known = run(entry(1, createOf(NS, COLLECTION)), entry(2, insertOf(NS, COLLECTION, { _id: 1 })));
  await applyAll(head, known);
  for (const [what, fields, kind] of unknowns) {
    const entries = run(known, entry(3, insertOf(NS, COLLECTION, { _id: 2 })), entry(4, fields));
    for (const attempt of ['first', 'second']) {
      await assert.rejects(applyAll(head, entries), (error) => {
        assert.ok(failsWith(kind, /1700000000,4/)(error), `${what}, ${attempt}`);
        assert.ok(error instanceof Error && !error.message.includes('value'), 'a document is quoted');
        return true;
      });
    }
    assert.ok([2, 3].includes(Number(standsAt(head))));
  }
  await applyAll(head, run(known, entry(3, insertOf(NS, COLLECTION, { _id: 2 }))));
  assert.deepEqual(await made.documents(), [{ _id: 1 }, { _id: 2 }]);
});

for (const atomic of [true, false]) {
  test(`an update of a missing document is a divergence that stays one (${atomic ? 'whole' : 'marked'} batches)`, async () => {
    await using made = await emptyHead({ atomic });
    const update = {
      op: 'u',
      ns: NS,
      ui: COLLECTION,
      o: { $v: 2, diff: { u: { secret: 'value' } } },
      o2: { _id: 'hidden' },
    };
    const entries = run(
      entry(1, createOf(NS, COLLECTION)),
      entry(2, insertOf(NS, COLLECTION, { _id: 1 })),
      entry(3, update),
      entry(4, insertOf(NS, COLLECTION, { _id: 2 })),
    );
    const diverged = (error: unknown): true => {
      failsWith('Diverged', /1700000000,3.*shop\.orders/)(error);
      assert.doesNotMatch(String(error), /hidden|value/);
      return true;
    };
    await assert.rejects(applyAll(made.head, entries), diverged);
    await assert.rejects(applyAll(made.head, entries), diverged);
    await assert.rejects(applyAll(await made.reopen(), entries), diverged);
    if (atomic) assert.deepEqual(await made.documents(), []);
  });
}

for (const atomic of [true, false]) {
  test(`of a batch the operation that the head refused is named, with what it was refused for (${atomic ? 'whole' : 'marked'} batches)`, async () => {
    await using made = await emptyHead({ atomic });
    const o = { createIndexes: 'orders', v: 2, key: { n: 1 }, name: 'n', unique: true };
    await applyAll(
      made.head,
      run(entry(1, createOf(NS, COLLECTION)), entry(2, { op: 'c', ns: 'shop.$cmd', ui: COLLECTION, o })),
    );
    const inserts = [1, 2, 2, 3].map((n, index) => entry(3 + index, insertOf(NS, COLLECTION, { _id: index, n })));
    const refused = failsWith('Diverged', /1700000000,5: .*shop\.orders.* 11000/);
    await assert.rejects(applyAll(made.head, run(...inserts)), refused);
  });
}

test('an operation on a collection that the head does not have is a divergence', async () => {
  await using made = await emptyHead();
  const entries = run(entry(1, insertOf(NS, COLLECTION, { _id: 1 })));
  await assert.rejects(applyAll(made.head, entries), failsWith('Diverged', /no such collection/));
});

// ---- transactions -----------------------------------------------------------------------------------------------

const SESSION = new UUID();
const OTHER = new UUID();

function part(session: UUID, number: number, ids: readonly number[], last: Document): Document {
  const applyOps = ids.map((_id) => insertOf(NS, COLLECTION, { _id }));
  return { op: 'c', ns: 'admin.$cmd', o: { applyOps, ...last }, ...inTransaction(session, number) };
}

function decision(session: UUID, number: number, command: Document): Document {
  return { op: 'c', ns: 'admin.$cmd', o: command, ...inTransaction(session, number) };
}

const committed = { commitTransaction: 1, commitTimestamp: new BSON.Timestamp({ t: 1, i: 1 }) };

test('a transaction of several entries is applied when it commits, with a restart in between', async () => {
  await using made = await emptyHead();
  const begun = run(
    entry(1, createOf(NS, COLLECTION)),
    entry(2, part(SESSION, 7, [1, 2], { partialTxn: true })),
    entry(3, insertOf(NS, COLLECTION, { _id: 100 })),
    entry(4, part(OTHER, 1, [50], { prepare: true })),
    entry(5, part(SESSION, 7, [3], { prepare: true, count: Long.fromNumber(3) })),
  );
  await applyAll(made.head, begun);
  assert.deepEqual(made.head.state().position?.oplogFrom, at(2));
  assert.deepEqual(await made.documents(), [{ _id: 100 }]);
  const reopened = await made.reopen();
  await applyAll(reopened, run(begun, entry(6, decision(SESSION, 7, committed))));
  assert.deepEqual(await made.documents(), [{ _id: 1 }, { _id: 2 }, { _id: 3 }, { _id: 100 }]);
  assert.deepEqual(reopened.state().position?.oplogFrom, at(4));
  await applyAll(reopened, run(entry(7, decision(OTHER, 1, { abortTransaction: 1 }))));
  assert.deepEqual(reopened.state().position?.oplogFrom, at(7));
  assert.equal((await made.documents()).length, 4);
});

test('a higher number of a session ends its transaction without a word', async () => {
  await using made = await emptyHead();
  await applyAll(
    made.head,
    run(
      entry(1, createOf(NS, COLLECTION)),
      entry(2, part(SESSION, 1, [1], { partialTxn: true })),
      entry(3, part(SESSION, 2, [2], { partialTxn: true })),
      entry(4, part(SESSION, 2, [3], { count: Long.fromNumber(2) })),
    ),
  );
  assert.deepEqual(await made.documents(), [{ _id: 2 }, { _id: 3 }]);
  assert.deepEqual(made.head.state().position?.oplogFrom, at(4));
});

test('a commit of which an entry is missing is refused', async () => {
  await using made = await emptyHead();
  await applyAll(made.head, run(entry(1, createOf(NS, COLLECTION))));
  const incomplete = run(entry(2, part(SESSION, 1, [1], { count: Long.fromNumber(5) })));
  await assert.rejects(applyAll(made.head, incomplete), failsWith('EntriesMissing'));
  const absent = run(entry(2, decision(SESSION, 1, committed)));
  await assert.rejects(applyAll(made.head, absent), failsWith('EntriesMissing'));
  assert.deepEqual(await made.documents(), []);
});

test('a group of operations without a session is no transaction, and is applied at once', async () => {
  await using made = await emptyHead();
  await applyAll(
    made.head,
    run(
      entry(1, createOf(NS, COLLECTION)),
      entry(2, { op: 'c', ns: 'admin.$cmd', o: { applyOps: [1, 2].map((_id) => insertOf(NS, COLLECTION, { _id })) } }),
    ),
  );
  assert.deepEqual(await made.documents(), [{ _id: 1 }, { _id: 2 }]);
});

test('grouped retryable inserts of 8.0 have a session and are no transaction, and no older head takes them for one', async () => {
  const grouped = entry(2, { ...part(SESSION, 1, [1, 2], {}), multiOpType: 1 });
  assert.equal(operationsKind(parseEntry(grouped, 0)), 'plain');
  assert.equal(operationsKind(parseEntry(entry(2, part(SESSION, 1, [1, 2], {})), 0)), 'last');
  await using made = await emptyHead();
  const entries = run(entry(1, createOf(NS, COLLECTION)), grouped);
  await assert.rejects(applyAll(made.head, entries), failsWith('UnknownEntry', /"multiOpType"/));
});

test('a transaction with commands in it is applied in its order', async () => {
  await using made = await emptyHead();
  const created = new UUID();
  const index = {
    op: 'c',
    ns: 'shop.$cmd',
    ui: created,
    o: { createIndexes: 'new', v: 2, key: { n: 1 }, name: 'n_1', unique: true },
  };
  const applyOps = [createOf('shop.new', created), index, insertOf('shop.new', created, { _id: 1, n: 1 })];
  await applyAll(
    made.head,
    run(entry(1, { op: 'c', ns: 'admin.$cmd', o: { applyOps }, ...inTransaction(SESSION, 1) })),
  );
  const client = await connectHead(made.dataDir, made.identity);
  try {
    assert.deepEqual(await client.db('shop').collection('new').find().toArray(), [{ _id: 1, n: 1 }]);
    assert.deepEqual(
      (await client.db('shop').collection('new').indexes()).map(({ name }) => name),
      ['_id_', 'n_1'],
    );
  } finally {
    await client.close();
  }
});

// ---- bytes ------------------------------------------------------------------------------------------------------

/** What the driver would never send. Each with its `_id` somewhere. */
const odd: readonly Buffer[] = [
  rawDocument([
    [0x10, '_id', int32(1)],
    [0x10, 'twice', int32(1)],
    [0x10, 'twice', int32(2)],
  ]),
  rawDocument([
    [0x10, 'before', int32(1)],
    [0x10, '_id', int32(2)],
  ]),
  rawDocument([
    [0x10, '_id', int32(3)],
    [0x11, 'zero', Buffer.alloc(8)],
  ]),
  rawDocument([
    [0x10, '_id', int32(4)],
    [0x06, 'undefined', Buffer.alloc(0)],
    [0x0e, 'symbol', text('s')],
  ]),
  rawDocument([
    [0x10, '_id', int32(5)],
    [0x10, '10', int32(1)],
    [0x10, '2', int32(1)],
    [0x01, 'd', double(2)],
  ]),
  rawDocument([
    [0x11, 'zeroFirst', Buffer.alloc(8)],
    [0x10, '_id', int32(6)],
  ]),
  rawDocument([
    [0x10, '_id', int32(7)],
    [0x01, 'nan', Buffer.from('010000000000f87f', 'hex')],
  ]),
];

async function assertStored(made: TestHead): Promise<void> {
  const client = await connectHead(made.dataDir, made.identity);
  try {
    const found = await client.db('shop').collection('orders').find({}, { raw: true }).sort({ _id: 1 }).toArray();
    assert.deepEqual(
      found.map((one) => Buffer.from(one as unknown as Uint8Array).toString('hex')),
      odd.map((one) => one.toString('hex')),
    );
  } finally {
    await client.close();
  }
}

test('documents that no client would send are loaded byte for byte, and loaded again over themselves', async () => {
  await using made = await emptyHead();
  const uuid = COLLECTION.toString('hex').replaceAll('-', '');
  const target = { uuid, db: 'shop', name: 'orders' };
  await made.head.attempt('build').turn(async (head) => {
    await makeCollections(head, [{ ...target, options: rawDocument([]), indexes: [] }]);
    for (let times = 0; times < 2; times++) {
      await loadDocuments({ head, socket: head.socket }, target, Buffer.concat(odd));
    }
  });
  await assertStored(made);
});

for (const atomic of [true, false]) {
  test(`inserts that no client would send are applied byte for byte (${atomic ? 'whole' : 'marked'} batches)`, async () => {
    await using made = await emptyHead({ atomic });
    const inserts = odd.map((one, n) => {
      const o = [0x03, 'o', one] as const;
      const rest = entry(n + 2, { op: 'i', ns: NS, ui: COLLECTION }).subarray(4, -1);
      return rawDocument([rest, o]);
    });
    await applyAll(made.head, run(entry(1, createOf(NS, COLLECTION)), ...inserts));
    await assertStored(made);
  });
}

test('a document of the largest size is applied', async () => {
  await using made = await emptyHead();
  const large = { _id: 1, filling: new Binary(Buffer.alloc(16 * 1024 * 1024 - 40)) };
  await applyAll(
    made.head,
    run(
      entry(1, createOf(NS, COLLECTION)),
      entry(2, insertOf(NS, COLLECTION, { _id: 0 })),
      entry(3, insertOf(NS, COLLECTION, large)),
      entry(4, insertOf(NS, COLLECTION, { _id: 2 })),
    ),
  );
  assert.deepEqual(
    (await made.documents()).map(({ _id }) => Number(_id)),
    [0, 1, 2],
  );
});

// ---- whose it is ------------------------------------------------------------------------------------------------

test('updates of large documents, more than the cache takes in one piece, are applied all the same', async () => {
  await using made = await emptyHead();
  const { head } = made;
  const documents = 400;
  const filler = randomBytes(100_000);
  const inserts = Array.from({ length: documents }, (_, _id) =>
    entry(2 + _id, insertOf(NS, COLLECTION, { _id, filler, n: 0 })),
  );
  await applyAll(head, run(entry(1, createOf(NS, COLLECTION)), ...inserts));
  const updates = Array.from({ length: 4_900 }, (_, n) =>
    entry(1_000 + n, {
      op: 'u',
      ns: NS,
      ui: COLLECTION,
      o: { $v: 2, diff: { u: { n } } },
      o2: { _id: n % documents },
    }),
  );
  await applyAll(head, run(...updates));
  assert.equal(standsAt(head), 5_899);
  const found = await made.documents();
  assert.deepEqual(
    found.map(({ n }) => Number(n)),
    Array.from({ length: documents }, (_, _id) => (_id < 100 ? 4_800 + _id : 4_400 + _id)),
  );
});

test('an attempt that was superseded is refused and changes nothing', async () => {
  await using made = await emptyHead();
  const first = made.head.attempt('apply');
  const second = made.head.attempt('apply');
  const create = run(entry(1, createOf(NS, COLLECTION)));
  await assert.rejects(applyAll(made.head, create, first), failsWith('FenceLost'));
  assert.equal(standsAt(made.head), 0);
  await applyAll(made.head, create, second);
  assert.equal(standsAt(made.head), 1);
});

test('an owner that was superseded in its own process is refused', async () => {
  await using made = await emptyHead();
  const old = made.head;
  const create = run(entry(1, createOf(NS, COLLECTION)));
  const reopened = await made.reopen();
  await assert.rejects(applyAll(old, create), failsWith('FenceLost'));
  await assert.rejects(old.lock(at(0).ts, AbortSignal.timeout(30_000)), failsWith('FenceLost'));
  await old.close();
  await applyAll(reopened, create);
});

test('an older claim cannot open a head that a newer one has', async () => {
  await using made = await emptyHead();
  await made.reopen();
  const pid = await headPid(made.dataDir, made.identity);
  await assert.rejects(openHead(made.dataDir, made.identity, { epoch: 1 }), failsWith('FenceLost'));
  assert.equal(await headPid(made.dataDir, made.identity), pid);
});

test('the directory of another backup is refused and left as it is', async () => {
  await using made = await emptyHead();
  await made.head.close();
  const other = headIdentity({ replicaSetId: 'b'.repeat(24) });
  await assert.rejects(openHead(made.dataDir, other), failsWith('HeadForeign'));
  assert.equal(standsAt(await made.reopen()), 0);
});

test('a directory with data of nobody knows whom is refused', async () => {
  await using folder = await testFolder();
  const identity = headIdentity();
  const dbpath = headDbpath(folder.path, identity);
  await mkdir(dbpath, { recursive: true });
  await writeFile(join(dbpath, 'WiredTiger'), 'of somebody');
  await assert.rejects(openHead(folder.path, identity), failsWith('HeadForeign'));
});

test('a newer initial sync begins with an empty head, and an older one cannot come back', async () => {
  await using made = await emptyHead();
  await applyAll(made.head, run(entry(1, createOf(NS, COLLECTION))));
  const newer = { ...made.identity, incarnation: new ObjectId().toHexString() };
  await using head = await openHead(made.dataDir, newer);
  assert.deepEqual(head.state(), { stage: 'loading', position: null, tolerant: true });
  const client = await connectHead(made.dataDir, newer);
  assert.deepEqual(await client.db('shop').listCollections().toArray(), []);
  await client.close();
  await assert.rejects(openHead(made.dataDir, made.identity, { epoch: 9 }), failsWith('FenceLost'));
});

test('a destroyed head leaves nothing behind', async () => {
  await using made = await emptyHead();
  await made.head.destroy();
  const { access } = await import('node:fs/promises');
  await assert.rejects(access(dirname(headDbpath(made.dataDir, made.identity))));
});

test('what a head notes durably is there after a kill at the next moment', async () => {
  await using made = await emptyHead();
  for (let ordinal = 1; ordinal <= 3; ordinal++) {
    const position = { appliedThrough: at(0), oplogFrom: at(0), inconsistentUntil: at(ordinal) };
    await made.head.attempt('apply').turn(async (open) => {
      await open.save({ ...open.record, position }, { journaled: true });
      process.kill(await headPid(made.dataDir, made.identity), 'SIGKILL');
    });
    const reopened = await made.reopen();
    assert.deepEqual(reopened.state().position, position);
  }
});

// ---- held still -------------------------------------------------------------------------------------------------

test('a head is held still where it stands, and nothing is applied until it is released', async () => {
  await using made = await emptyHead();
  const { head } = made;
  const waiting = head.lock(at(2).ts, AbortSignal.timeout(60_000));
  const create = entry(1, createOf(NS, COLLECTION));
  const first = entry(2, insertOf(NS, COLLECTION, { _id: 1 }));
  await applyAll(head, create);
  await applyAll(head, run(create, first));
  const locked = await waiting;
  assert.deepEqual(locked.position, { appliedThrough: at(2), oplogFrom: at(2), inconsistentUntil: null });
  const paths = (await locked.files()).map(({ path }) => path);
  for (const path of ['WiredTiger', 'WiredTiger.turtle', 'WiredTiger.wt', '_mdb_catalog.wt', 'storage.bson']) {
    assert.ok(paths.includes(path), `${path} is not in it`);
  }
  assert.equal(locked.wallTime.getTime(), 1_700_000_000_002);
  let applied = false;
  const applying = applyAll(head, run(create, first, entry(3, insertOf(NS, COLLECTION, { _id: 2 })))).then(() => {
    applied = true;
  });
  assert.ok(await locked.stillHeld());
  assert.equal(applied, false);
  assert.equal(standsAt(head), 2);
  await Promise.all([locked.release(), locked.release()]);
  assert.equal(await locked.stillHeld(), false);
  await applying;
  assert.equal(standsAt(head), 3);
});

test('a snapshot takes the files of the head and nothing that others put into its folder', async () => {
  await using made = await emptyHead();
  const dbpath = join(made.dataDir, 'heads', made.identity.deployment, made.identity.member, 'db');
  await mkdir(join(dbpath, 'restored', '.lifeboat-restore'), { recursive: true });
  for (const path of [
    'restored/storage.bson',
    'restored/WiredTiger.wt',
    'restored/.lifeboat-restore/a.wt',
    'notes.txt',
  ]) {
    await writeFile(join(dbpath, path), 'foreign');
  }
  const locked = await made.head.lock(at(0).ts, AbortSignal.timeout(60_000));
  const paths = (await locked.files()).map(({ path }) => path);
  await locked.release();
  assert.ok(paths.includes('WiredTiger.wt'));
  assert.deepEqual(
    paths.filter((path) => path.includes('/') || path === 'notes.txt'),
    [],
  );
});

test('a lock does not outlive the mongod that it was taken on', async () => {
  await using made = await emptyHead();
  const locked = await made.head.lock(at(0).ts, AbortSignal.timeout(60_000));
  process.kill(await headPid(made.dataDir, made.identity), 'SIGKILL');
  await until(async () => !(await locked.stillHeld()), 'the lock is gone');
  await locked.release();
  await applyAll(made.head, run(entry(1, createOf(NS, COLLECTION))));
  assert.equal(await locked.stillHeld(), false);
});

test('a head that is not consistent is not held still', async () => {
  await using made = await emptyHead();
  await made.head.attempt('apply').turn(async (open) => {
    const position = { appliedThrough: at(0), oplogFrom: at(0), inconsistentUntil: at(2) };
    await open.save({ ...open.record, position }, { journaled: true });
  });
  const tooSoon = made.head.lock(at(0).ts, AbortSignal.timeout(500));
  await assert.rejects(tooSoon, (error) => !(error instanceof LifeboatError));
  const missing = { op: 'u', ns: NS, ui: COLLECTION, o: { $v: 2, diff: { u: { n: 1 } } }, o2: { _id: 1 } };
  await applyAll(made.head, run(entry(1, createOf(NS, COLLECTION)), entry(2, missing)));
  const locked = await made.head.lock(at(0).ts, AbortSignal.timeout(60_000));
  assert.equal(locked.position.inconsistentUntil, null);
  await locked.release();
});
