/** The one table of oplog entries: what is not in it stops a backup, and what is in it is true of the servers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BSON, Long, MongoClient, MongoServerError, ObjectId, Timestamp, UUID, type Document } from 'mongodb';
import { BsonType } from '../src/bson/raw.ts';
import { findBinary } from '../src/embedded/binaries.ts';
import { elementsWithout } from '../src/head/bytes.ts';
import { entryFields, seriesNumber, type EntryField } from '../src/head/entry-fields.ts';
import { commandName, innerOperations, parseEntry, positionOf } from '../src/head/entry.ts';
import { KnownEntries } from '../src/head/known-entries.ts';
import { commandKinds, operationKinds } from '../src/head/oplog-table.ts';
import { startMongod } from '../src/mongod/process.ts';
import { isLifeboatError, type ErrorName } from '../src/shared/errors.ts';
import { compareOptimes, formatOptime } from '../src/shared/optime.ts';
import { createOf, entry, insertOf, inTransaction } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import {
  applyAll,
  beginAt,
  connectHead,
  headIdentity,
  oldestEntry,
  openHead,
  proveHead,
  rawEntries,
} from './support/head.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { freePort, startReplicaSet, until } from './support/replica-set.ts';

const NS = 'shop.orders';
const UI = new UUID();
const ALL = [null, ...OTHER_VERSIONS];

/** What becomes of an entry on a head of that version; with `inside`, of the operations of a transaction's entry. */
function actionOf(version: string, fields: Document): string {
  const parsed = parseEntry(entry(4, fields), 0);
  const known = new KnownEntries(version);
  const action = known.actionFor(parsed);
  if (action !== 'operations') return action;
  return innerOperations(parsed)
    .map((one) => known.actionFor(one, parsed))
    .join(' ');
}

function transactionOf(...operations: readonly Document[]): Document {
  return { op: 'c', ns: 'admin.$cmd', o: { applyOps: operations }, ...inTransaction(new UUID(), 1) };
}

const insert = insertOf(NS, UI, { _id: 9, secret: 'value' });

const refused: readonly [what: string, fields: Document, kind: ErrorName, says: RegExp][] = [
  ['an operation', { ...insert, op: 'zz' }, 'UnknownEntry', /"zz" on shop\.orders/],
  ['a name that every object has', { ...insert, op: 'constructor' }, 'UnknownEntry', /"constructor" on shop\.orders/],
  ['no operation', { ns: NS, o: {} }, 'UnknownEntry', /"" on shop\.orders/],
  ['a command', { op: 'c', ns: 'shop.$cmd', o: { levitate: 'value' } }, 'UnknownEntry', /"c levitate" on shop\.\$cmd/],
  ['a field', { ...insert, gravity: 'value' }, 'UnknownEntry', /"i" on shop\.orders .*"gravity"/],
  ['a short field', { ...insert, g: /value/ }, 'UnknownEntry', /"i" on shop\.orders .*"g"/],
  ['a field of another type', { ...insert, b: 'value' }, 'UnknownEntry', /"i" on shop\.orders .*"b" of a type/],
  ['a field of a newer version', { ...insert, versionContext: {} }, 'UnknownEntry', /"i".*"versionContext".* 6\.0 /],
  ['a kind of a newer version', { ...insert, op: 'km' }, 'UnknownEntry', /"km" on shop\.orders .* 6\.0 /],
  [
    'a field of a command',
    { ...createOf(NS, UI), o: { create: 'orders', levitating: 'value' } },
    'UnknownEntry',
    /"c create" on shop\.\$cmd .*"levitating"/,
  ],
  [
    'a command that brings files',
    { op: 'c', ns: 'shop.$cmd', o: { importCollection: 'value' } },
    'EntryNotSupported',
    /"c importCollection" on shop\.\$cmd/,
  ],
];

for (const [what, fields, kind, says] of refused) {
  test(`${what} that is not known is refused by optime, type and namespace, in a transaction too`, () => {
    for (const whole of [fields, transactionOf(insert, fields), transactionOf(insert, { ...fields, lsid: {} })]) {
      assert.throws(
        () => actionOf('6.0.5', whole),
        (error) => {
          assert.ok(isLifeboatError(error, kind), String(error));
          assert.match(error.message, /1700000000,4/);
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /value/);
          return true;
        },
      );
    }
  });
}

test('a field that stands twice in an entry is refused: nobody can say which counts', () => {
  const once = entry(4, insert);
  const twice = Buffer.concat([once.subarray(0, -1), BSON.serialize({ ns: 'shop.other' }).subarray(4)]);
  twice.writeInt32LE(twice.length);
  assert.throws(
    () => parseEntry(twice, 0),
    (error) => isLifeboatError(error, 'UnknownEntry') && /"ns" twice/.test(error.message),
  );
});

test('what a version knows is not refused: fields and kinds of each series, alone and in a transaction', () => {
  const update = { op: 'u', ns: NS, ui: UI, o: { $v: 2, diff: {} }, o2: { _id: 1 }, checkExistenceForDiffInsert: true };
  assert.equal(actionOf('6.0.27', update), 'crud');
  assert.throws(
    () => actionOf('5.0.32', update),
    (error) => isLifeboatError(error, 'UnknownEntry'),
  );
  const vectored = { ...transactionOf(insert), multiOpType: 1 };
  assert.equal(actionOf('8.0.4', vectored), 'crud');
  assert.equal(actionOf('8.2.1', { ...insert, rid: Long.fromNumber(7), versionContext: { OFCV: '8.2' } }), 'crud');
  assert.equal(actionOf('4.4.2', { ...insert, h: Long.ZERO, stmtId: 1, fromMigrate: true }), 'crud');
  assert.equal(
    actionOf('6.0.5', transactionOf(insert, { ...createOf(NS, UI), o: { create: 'x', temp: true } })),
    'crud command',
  );
  const old = { op: 'c', ns: 'shop.$cmd', ui: UI, o: { create: 'x', clusteredIndex: true } };
  assert.equal(actionOf('6.0.5', old), 'command');
  assert.throws(
    () => actionOf('4.4.2', old),
    (error) => isLifeboatError(error, 'UnknownEntry'),
  );
});

test('an entry has room for a bit of each field', () => {
  assert.ok(entryFields.length <= 31);
  assert.equal(new Set(entryFields.map(({ name }) => name)).size, entryFields.length);
});

// ---- the table beside the servers -------------------------------------------------------------------------------

/** A value of a type, for a field that is only to be parsed. */
const VALUES: ReadonlyMap<number, unknown> = new Map<number, unknown>([
  [BsonType.string, 'preImage'],
  [BsonType.object, { ts: new Timestamp({ t: 1, i: 1 }), t: Long.ONE, id: new UUID() }],
  [BsonType.binary, new UUID()],
  [BsonType.boolean, true],
  [BsonType.timestamp, new Timestamp({ t: 1, i: 1 })],
  [BsonType.int64, Long.ONE],
  [BsonType.int32, 1],
  [BsonType.date, new Date()],
  [BsonType.objectId, new ObjectId()],
  [BsonType.double, 1.5],
]);

/** In the table though that very server has not got them: a later one of its series has. */
const BACKPORTED = new Map([
  ['4.4.2', ['needsRetryImage']],
  ['6.0.5', ['checkExistenceForDiffInsert']],
]);

/** Of the lists of what servers apply, but their parsers take none of it; and one that nobody ever heard of. */
const NO_COMMANDS = {
  dropIndex: { since: '99.0', until: undefined },
  deleteIndex: { since: '99.0', until: undefined },
  levitate: { since: '99.0', until: undefined },
} as const;

async function codeOf(client: MongoClient, operation: Document): Promise<string> {
  try {
    const reply = await client.db('admin').command({ applyOps: [operation], allowAtomic: false });
    return `ok ${reply['applied']}`;
  } catch (error) {
    if (!(error instanceof MongoServerError)) throw error;
    return `${error.code} ${error.errmsg}`;
  }
}

for (const name of ALL) {
  const found = name === null ? { path: await findBinary('mongod') } : await mongodOf(name);
  const skip = 'missing' in found && found.missing;
  test(`the fields and kinds of the table are those that a mongod ${name ?? '6.0.5'} takes`, { skip }, async () => {
    assert.ok('path' in found);
    await using folder = await testFolder();
    const mongod = await startMongod({
      binary: found.path,
      dbpath: `${folder.path}/db`,
      address: { port: await freePort() },
      cacheGiB: 0.25,
      logPath: `${folder.path}/log`,
    });
    const client = await MongoClient.connect(mongod.uri);
    try {
      const { version } = (await client.db('admin').command({ buildInfo: 1 })) as { version: string };
      const known = (since: string, until?: string): boolean =>
        seriesNumber(since) <= seriesNumber(version) && seriesNumber(until ?? '99.0') >= seriesNumber(version);
      const nothing = { op: 'c', ns: 'probe.$cmd', o: { drop: 'nothing' } };
      for (const { name: field, types, since } of entryFields as readonly EntryField[]) {
        if (field in nothing) continue;
        const value = VALUES.get(types[0] ?? 0);
        assert.notEqual(value, undefined, field);
        const answer = await codeOf(client, { ...nothing, [field]: value });
        const takes = !answer.includes(`.${field}' is an unknown field`);
        const expected = known(since) && !BACKPORTED.get(version)?.includes(field);
        assert.equal(takes, expected, `field ${field}: ${answer}`);
      }
      for (const [op, { since, until }] of Object.entries(operationKinds)) {
        if (op === 'n') continue;
        const answer = await codeOf(client, { op, ns: 'probe.c', o: { _id: 1 }, o2: { _id: 1 } });
        assert.equal(
          !/Enumeration value|not a valid op|Invalid op/i.test(answer),
          known(since, until),
          `operation ${op}: ${answer}`,
        );
      }
      const commands = Object.entries({ ...commandKinds, ...NO_COMMANDS });
      for (const [command, { since, until }] of commands) {
        const answer = await codeOf(client, { op: 'c', ns: 'probe.$cmd', o: { [command]: 'nothing' } });
        assert.equal(
          !answer.includes('Unknown oplog entry command type'),
          known(since, until),
          `${command}: ${answer}`,
        );
      }
    } finally {
      await client.close();
      mongod.kill('SIGKILL');
      await mongod.exited;
    }
  });
}

// ---- what servers write -----------------------------------------------------------------------------------------

/** Catalog changes with every option that a server takes, through commands; each may be of a newer server. */
async function changeCatalog(client: MongoClient): Promise<void> {
  const db = client.db('catalog');
  const collation = { locale: 'de' };
  const commands: readonly (readonly [since: string, command: Document])[] = [
    ['4.4', { create: 'a', capped: true, size: 4096, max: 10, storageEngine: { wiredTiger: {} } }],
    ['4.4', { create: 'b', validator: { a: 1 }, validationLevel: 'moderate', validationAction: 'warn', collation }],
    ['4.4', { create: 'c', indexOptionDefaults: { storageEngine: { wiredTiger: {} } } }],
    ['4.4', { create: 'd', comment: 'a comment', writeConcern: { w: 1 }, maxTimeMS: 10_000 }],
    ['4.4', { create: 'v', viewOn: 'a', pipeline: [{ $match: {} }], collation }],
    ['5.0', { create: 's', timeseries: { timeField: 'at' }, expireAfterSeconds: 100 }],
    ['6.0', { create: 'cl', clusteredIndex: { key: { _id: 1 }, unique: true }, expireAfterSeconds: 100 }],
    ['6.0', { create: 'p', changeStreamPreAndPostImages: { enabled: true } }],
    ['4.4', { insert: 'd', documents: [{ n: 1 }, { n: 2 }] }],
    ['4.4', { createIndexes: 'd', indexes: [{ key: { n: 1 }, name: 'n', expireAfterSeconds: 1000 }], comment: 'x' }],
    ['4.4', { createIndexes: 'b', indexes: [{ key: { n: 1 }, name: 'n', unique: true }] }],
    ['4.4', { collMod: 'd', index: { name: 'n', expireAfterSeconds: 900, hidden: true }, comment: 'x' }],
    [
      '4.4',
      { collMod: 'd', validator: { n: 1 }, validationLevel: 'off', validationAction: 'warn', writeConcern: { w: 1 } },
    ],
    ['4.4', { collMod: 'v', viewOn: 'b', pipeline: [] }],
    ['5.0', { collMod: 's', expireAfterSeconds: 'off' }],
    ['5.0', { collMod: 's', timeseries: { granularity: 'minutes' } }],
    ['6.0', { collMod: 'p', changeStreamPreAndPostImages: { enabled: false } }],
    ['6.0', { collMod: 'a', cappedSize: 8192, cappedMax: 20 }],
    ['6.0', { collMod: 'cl', expireAfterSeconds: 200 }],
    ['6.0', { collMod: 'd', index: { name: 'n', prepareUnique: true } }],
    ['6.0', { collMod: 'd', index: { name: 'n', unique: true } }],
    ['4.4', { dropIndexes: 'd', index: 'n' }],
    ['4.4', { dropIndexes: 'b', index: '*' }],
    ['4.4', { convertToCapped: 'd', size: 4096 }],
    ['4.4', { applyOps: [{ op: 'i', ns: 'catalog.b', o: { _id: 5 } }], comment: 'x', writeConcern: { w: 1 } }],
    [
      '4.4',
      {
        applyOps: [{ op: 'u', ns: 'catalog.b', o2: { _id: 5 }, o: { _id: 5, n: 1 } }],
        alwaysUpsert: false,
        lsid: { id: new UUID() },
      },
    ],
    ['4.4', { emptycapped: 'a' }],
    ['4.4', { drop: 'd' }],
  ];
  const { version } = (await client.db('admin').command({ buildInfo: 1 })) as { version: string };
  for (const [since, command] of commands) {
    if (seriesNumber(since) <= seriesNumber(version)) await db.command(command);
  }
  await db.renameCollection('c', 'e');
  await client.db('admin').command({ renameCollection: 'catalog.e', to: 'other.e' });
  await client.withSession((session) =>
    session.withTransaction(() => client.db('other').collection('e').insertOne({ n: 1 }, { session })),
  );
  const writes = client.db('other').collection('e');
  await writes.findOneAndUpdate({ n: 1 }, { $set: { n: 2 } });
  await writes.findOneAndDelete({ n: 2 });
  await client.db('other').dropDatabase();
  await db.command({ dbCheck: 'b' });
  const ofCheck = { 'o.dbCheck': { $exists: true } };
  const oplog = client.db('local').collection('oplog.rs');
  await until(async () => (await oplog.countDocuments(ofCheck, { limit: 1 })) > 0, 'the check is logged');
}

for (const name of ALL) {
  const found = name === null ? { path: await findBinary('mongod') } : await mongodOf(name);
  const skip = 'missing' in found && found.missing;
  test(
    `no entry of a mongod ${name ?? '6.0.5'} is refused that changes its catalog with any option`,
    { skip },
    async () => {
      assert.ok('path' in found);
      await using source = await startReplicaSet({
        binary: found.path,
        extraArgs: ['--setParameter', 'enableTestCommands=1'],
      });
      await changeCatalog(source.client);
      const { version } = (await source.client.db('admin').command({ buildInfo: 1 })) as { version: string };
      const known = new KnownEntries(version);
      const entries = await rawEntries(source.client, await oldestEntry(source.client));
      const seen = new Set<string>();
      for (let at = 0; at < entries.length;) {
        const one = parseEntry(entries, at);
        known.actionFor(one);
        if (one.op === 'c') seen.add(commandName(one));
        for (const inner of commandName(one) === 'applyOps' && one.op === 'c' ? innerOperations(one) : [])
          known.actionFor(inner, one);
        at = one.end;
      }
      const written = ['create', 'collMod', 'createIndexes', 'startIndexBuild', 'commitIndexBuild', 'dropIndexes'];
      const more = ['renameCollection', 'drop', 'dropDatabase', 'applyOps', 'emptycapped', 'dbCheck'];
      for (const command of [...written, ...more]) assert.ok(seen.has(command), `no entry of ${command}`);
      assert.ok(!seen.has('convertToCapped'));
    },
  );
}

// ---- a source and a head ----------------------------------------------------------------------------------------

/** The entries one by one. */
function split(entries: Buffer): Buffer[] {
  const all: Buffer[] = [];
  for (let at = 0; at < entries.length; at += entries.readInt32LE(at)) {
    all.push(entries.subarray(at, at + entries.readInt32LE(at)));
  }
  return all;
}

/** An entry with one more field, or in place of the one it has with that name. */
function withField(raw: Buffer, name: string, value: unknown): Buffer {
  const document = Buffer.concat([
    Buffer.alloc(4),
    ...elementsWithout(raw, [name]),
    BSON.serialize({ [name]: value }).subarray(4),
  ]);
  document.writeInt32LE(document.length);
  return document;
}

/** The entry of a transaction with one more field in its second operation. */
function withFieldInside(raw: Buffer, name: string): Buffer {
  const { o } = BSON.deserialize(raw, { promoteValues: false }) as { o: { applyOps: Document[] } };
  Object.assign(o.applyOps[1] ?? {}, { [name]: true });
  return withField(raw, 'o', o);
}

const doctored: readonly [what: string, change: (raw: Buffer) => Buffer, kind: ErrorName, says: RegExp][] = [
  ['an unknown kind', (raw) => withField(raw, 'op', 'zz'), 'UnknownEntry', /"zz" on admin\.\$cmd/],
  [
    'an unknown field',
    (raw) => withField(raw, 'gravity', 1),
    'UnknownEntry',
    /"c applyOps" on admin\.\$cmd .*"gravity"/,
  ],
  ['a field of 8.2', (raw) => withField(raw, 'versionContext', { OFCV: '8.2' }), 'UnknownEntry', /"versionContext"/],
  [
    'an unknown field in a transaction',
    (raw) => withFieldInside(raw, 'gravity'),
    'UnknownEntry',
    /"i" on shop\.orders .*"gravity"/,
  ],
  [
    'a command that no head can do',
    (raw) => withField(raw, 'o', { importCollection: 'x' }),
    'EntryNotSupported',
    /importCollection/,
  ],
];

test('an entry of a real oplog that is changed stops the head before it, with nothing behind it applied', async () => {
  await using source = await startReplicaSet({});
  const orders = source.client.db('shop').collection<{ _id: number }>('orders');
  await orders.insertMany([{ _id: 1 }, { _id: 2 }]);
  await source.client.withSession((session) =>
    session.withTransaction(() => orders.insertMany([{ _id: 3 }, { _id: 4 }], { session })),
  );
  await orders.insertOne({ _id: 5 });
  const entries = split(await rawEntries(source.client, await oldestEntry(source.client)));
  const isTransaction = (raw: Buffer): boolean => {
    const parsed = parseEntry(raw, 0);
    return commandName(parsed) === 'applyOps' && parsed.txnNumber >= 0n;
  };
  const index = entries.findIndex(isTransaction);
  const [before, entryAt] = [entries[index - 1], entries[index]];
  assert.ok(before && entryAt);
  const optime = formatOptime(positionOf(parseEntry(entryAt, 0)).ts);
  await using folder = await testFolder();
  const identity = headIdentity();
  const head = await openHead(folder.path, identity);
  try {
    await beginAt(head, await oldestEntry(source.client));
    for (const [what, change, kind, says] of doctored) {
      const changed = entries.map((raw, n) => (n === index ? change(raw) : raw));
      await assert.rejects(applyAll(head, Buffer.concat(changed)), (error) => {
        assert.ok(isLifeboatError(error, kind), `${what}: ${String(error)}`);
        assert.ok(error.message.includes(optime), `${what}: ${error.message}`);
        assert.match(error.message, says, what);
        return true;
      });
      const stands = head.state().position?.appliedThrough.ts;
      assert.ok(stands && compareOptimes(stands, positionOf(parseEntry(before, 0)).ts) <= 0, what);
    }
    const client = await connectHead(folder.path, identity);
    assert.equal(
      await client
        .db('shop')
        .collection('orders')
        .countDocuments({ _id: { $gte: 3 } } as Document),
      0,
    );
    await client.close();
    await applyAll(head, Buffer.concat(entries));
    const { equal, differences } = await proveHead(source.client, folder.path, head, identity);
    assert.deepEqual([equal, differences], [true, []]);
  } finally {
    await head.close();
  }
});

for (const alwaysUpsert of [undefined, true, false]) {
  test(`updates of an applyOps insert what is not there as the source did: alwaysUpsert ${alwaysUpsert}`, async () => {
    await using source = await startReplicaSet({});
    const begin = await oldestEntry(source.client);
    const orders = source.client.db('shop').collection<{ _id: number }>('orders');
    await orders.insertOne({ _id: 1 });
    const options = alwaysUpsert === undefined ? {} : { alwaysUpsert };
    const missing = { op: 'u', ns: NS, o2: { _id: 7 }, o: { _id: 7, new: true } };
    const there = { op: 'u', ns: NS, o2: { _id: 1 }, o: { _id: 1, changed: true } };
    const applyOps = alwaysUpsert === false ? [there] : [there, missing];
    await source.client.db('admin').command({ applyOps, ...options });
    assert.equal(await orders.countDocuments(), alwaysUpsert === false ? 1 : 2);
    await using folder = await testFolder();
    const identity = headIdentity();
    const head = await openHead(folder.path, identity);
    try {
      await beginAt(head, begin);
      await applyAll(head, await rawEntries(source.client, begin));
      const { equal, differences } = await proveHead(source.client, folder.path, head, identity);
      assert.deepEqual([equal, differences], [true, []]);
    } finally {
      await head.close();
    }
  });
}
