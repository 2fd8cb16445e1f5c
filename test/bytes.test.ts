/**
 * Documents that JavaScript would change come back with the bytes they had, by every road that a document takes: a slice
 * of the initial sync, an insert, an update, a replacement, a transaction, a snapshot and its restore.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Long, type MongoClient, UUID } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { proveEqual, type EqualityReport } from '../src/proof/equality.ts';
import { restoreDirectory } from '../src/steps/restore-directory.ts';
import { DataPath } from './support/data-path.ts';
import { testFolder } from './support/folders.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { oddIds, oddShapes, oddValues } from './support/odd-documents.ts';
import { fields, int32, int64, RawWire, rawArray, rawDocument, type RawField } from './support/raw-wire.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';
import { stepContext } from './support/snapshots.ts';
import { abilitiesOf } from './support/workload-data.ts';
import { withMongod } from './support/with-mongod.ts';

const DB = 'bytes';
const MAX_BYTES = 16 * 1024 * 1024;

interface Road {
  readonly source: TestReplicaSet;
  readonly wire: RawWire;
  /** Whether clients may write keys that begin with a dollar (5.0). Up to 4.4 they are there all the same, from before 2.6. */
  readonly dollars: boolean;
}

const DOLLARS = 'keysOfUpdates';
const PLACE_OF_DOLLARS = [...oddShapes().keys()].indexOf(DOLLARS);
const DEEPEST_SHAPE = 'deepest';

function idOf(n: number): RawField {
  return [0x10, '_id', int32(n)];
}

/** A document of each shape, `_id`s from `first` on. */
function shaped(first: number): Buffer[] {
  return [...oddShapes().values()].map((shape, n) => rawDocument([idOf(first + n), [0x10, 'n', int32(n)], ...shape]));
}

/** Those that only `applyOps` stores as they are: `_id` behind others, a zero timestamp at the top. */
function misplaced(first: number): Buffer[] {
  return [...oddShapes().values()].flatMap((shape, n) => [
    rawDocument([[0x10, 'n', int32(n)], ...shape, idOf(first + 2 * n)]),
    rawDocument([idOf(first + 2 * n + 1), [0x11, 'zero', int64(0n)], ...shape, [0x11, 'zero again', int64(0n)]]),
  ]);
}

/** As large as they come, to the byte. */
function largest(id: number): Buffer {
  const odd: RawField[] = [idOf(id), ...oddValues()];
  const rest = MAX_BYTES - rawDocument([...odd, [0x05, 'filling', Buffer.alloc(5)]]).length;
  const filling = Buffer.concat([int32(rest), Buffer.of(0), Buffer.alloc(rest, id)]);
  return rawDocument([...odd, [0x05, 'filling', filling]]);
}

function insertCommand(collection: string, documents: readonly Buffer[]): Buffer {
  return Buffer.concat([fields({ insert: collection }), element(0x04, 'documents', rawArray(documents))]);
}

/** `updates` as pairs of raw documents. */
function updateCommand(collection: string, updates: readonly (readonly [q: Buffer, u: Buffer])[]): Buffer {
  const all = updates.map(([q, u]) =>
    rawDocument([
      [0x03, 'q', q],
      [0x03, 'u', u],
    ]),
  );
  return Buffer.concat([fields({ update: collection }), element(0x04, 'updates', rawArray(all))]);
}

function deleteCommand(collection: string, queries: readonly Buffer[]): Buffer {
  const all = queries.map((q) => rawDocument([[0x03, 'q', q], fields({ limit: 1 })]));
  return Buffer.concat([fields({ delete: collection }), element(0x04, 'deletes', rawArray(all))]);
}

function element(type: number, name: string, value: Buffer): Buffer {
  return Buffer.concat([Buffer.of(type), Buffer.from(`${name}\0`), value]);
}

async function run(wire: RawWire, command: Buffer, more: object = {}): Promise<void> {
  await wire.command(rawDocument([command, fields({ ...more, $db: DB })]));
}

/** Runs commands as one transaction. */
async function inTransaction(wire: RawWire, commands: readonly Buffer[]): Promise<void> {
  const session = { lsid: { id: new UUID() }, txnNumber: Long.ONE, autocommit: false };
  for (const [n, command] of commands.entries())
    await run(wire, command, n === 0 ? { ...session, startTransaction: true } : session);
  const commit = fields({ commitTransaction: 1 });
  await wire.command(rawDocument([commit, fields({ ...session, $db: 'admin' })]));
}

function byId(n: number): Buffer {
  return rawDocument([idOf(n)]);
}

function byN(n: number): Buffer {
  return rawDocument([[0x10, 'n', int32(n)]]);
}

function setOf(name: string, type: number, value: Buffer): Buffer {
  return rawDocument([[0x03, '$set', rawDocument([[type, name, value]])]]);
}

async function stored(client: MongoClient, collection: string): Promise<string[]> {
  const found = await client.db(DB).collection(collection).find({}, { raw: true }).toArray();
  return found.map((one) => Buffer.from(one as unknown as Uint8Array).toString('hex'));
}

function hex(documents: readonly Buffer[]): string[] {
  return documents.map((one) => one.toString('hex'));
}

function assertEqual({ equal, differences, notCompared }: EqualityReport, road: string): void {
  assert.deepEqual([equal, differences, notCompared], [true, [], []], road);
}

/** Fills collections whose names begin with `road`, with documents of every oddity. */
async function insertAll({ source, wire, dollars }: Road, road: string): Promise<void> {
  const db = source.client.db(DB);
  const groups = oddIds().map((ids) => ids.map((id, n) => rawDocument([id, [0x10, 'n', int32(n)]])));
  for (const name of ['Every', 'Exact', 'Large', ...groups.map((_, n) => `Ids${n}`)]) {
    await db.createCollection(`${road}${name}`);
  }
  for (const [n, one] of shaped(0).entries()) {
    if (!dollars && n === PLACE_OF_DOLLARS) await wire.insertExactly(`${DB}.${road}Every`, [one]);
    else await run(wire, insertCommand(`${road}Every`, [one]));
  }
  for (const [n, ids] of groups.entries()) await run(wire, insertCommand(`${road}Ids${n}`, ids));
  await wire.insertExactly(`${DB}.${road}Exact`, misplaced(0));
  await run(wire, insertCommand(`${road}Large`, [largest(1)]));
  // The server itself has not changed them: what is compared is odd.
  assert.deepEqual(await stored(source.client, `${road}Every`), hex(shaped(0)));
  assert.deepEqual(await stored(source.client, `${road}Exact`), hex(misplaced(0)));
  for (const [n, ids] of groups.entries()) assert.deepEqual(await stored(source.client, `${road}Ids${n}`), hex(ids));
  assert.deepEqual(await stored(source.client, `${road}Large`), hex([largest(1)]));
}

/** Each value set alone, inside another and in an array; then something beside the oddities of each document. */
async function updateAll({ source, wire, dollars }: Road): Promise<void> {
  for (const [type, name, value] of oddValues()) {
    const push = rawDocument([[0x03, '$push', rawDocument([[type, 'pushed', value]])]]);
    await run(
      wire,
      updateCommand('insertEvery', [
        [byId(0), setOf('changing', type, value)],
        [byId(1), setOf(`inside.${name}`, type, value)],
        [byId(3), push],
      ]),
    );
  }
  const unset = rawDocument([[0x03, '$unset', rawDocument([[0x10, 'n', int32(1)]])]]);
  for (const [n, [name, shape]] of [...oddShapes()].entries()) {
    // Up to 4.4 no update of such a document is let through, whatever it is that it changes.
    if (name === DOLLARS && !dollars) continue;
    const whole = setOf('whole', 0x03, rawDocument(shape));
    await run(
      wire,
      updateCommand('insertEvery', [
        [byId(n), setOf('touched', 0x10, int32(n))],
        [byId(n), unset],
        ...(name === DEEPEST_SHAPE ? [] : [[byId(n), whole] as const]),
      ]),
    );
  }
  for (const [group, ids] of oddIds().entries()) {
    const updates = ids.map((_, n) => [byN(n), setOf('m', 0x10, int32(n))] as const);
    await run(wire, updateCommand(`insertIds${group}`, updates));
  }
  const [, inside = ''] = await stored(source.client, 'insertEvery');
  assert.ok(inside.includes(rawDocument(oddValues()).toString('hex')), 'the values that were set are odd');
  const touch = misplaced(0).map((_, n) => [byId(n), setOf('touched', 0x10, int32(n))] as const);
  await run(wire, updateCommand('insertExact', touch));
}

/** What the server decodes and encodes itself: updates by a pipeline, and retryable ones that keep an image. */
async function reshapeAll({ wire, dollars }: Road): Promise<void> {
  const pipeline = rawArray([rawDocument([fields({ $set: { piped: '$touched', whole: '$$REMOVE' } })])]);
  // The answer is of no use, and no library could read it.
  const retryable = { lsid: { id: new UUID() }, new: true, fields: { _id: 1 } };
  let txnNumber = 0;
  for (const [n, [name]] of [...oddShapes()].entries()) {
    if (name === DOLLARS && !dollars) continue;
    const one = rawDocument([
      [0x03, 'q', byId(n)],
      [0x04, 'u', pipeline],
    ]);
    await run(wire, Buffer.concat([fields({ update: 'insertEvery' }), element(0x04, 'updates', rawArray([one]))]));
    const found = Buffer.concat([fields({ findAndModify: 'insertEvery' }), element(0x03, 'query', byId(n))]);
    const changed = Buffer.concat([found, element(0x03, 'update', setOf('found', 0x10, int32(n)))]);
    await run(wire, changed, { ...retryable, txnNumber: Long.fromNumber(++txnNumber) });
  }
}

/** Each document takes the shape of the next one; no replacement has dollars at its top. */
async function replaceAll({ source, wire }: Road): Promise<void> {
  const shapes = [...oddShapes()].filter(([name]) => name !== DOLLARS);
  const expected: Buffer[] = [];
  for (const n of shapes.keys()) {
    const [, next = []] = shapes[(n + 1) % shapes.length] ?? [];
    const replacement: (RawField | Buffer)[] = [[0x10, 'n', int32(n)], ...next];
    await run(wire, updateCommand('insertEvery', [[byId(n), rawDocument(replacement)]]));
    expected.push(rawDocument([idOf(n), ...replacement]));
  }
  assert.deepEqual((await stored(source.client, 'insertEvery')).slice(0, expected.length), hex(expected));
  for (const [group, ids] of oddIds().entries()) {
    const replace = ids.map((_, n) => [byN(n), rawDocument([[0x10, 'n', int32(n)], ...oddValues()])] as const);
    await run(wire, updateCommand(`insertIds${group}`, replace));
  }
  const changed = largest(1);
  changed.fill(7, changed.length - 1_000, changed.length - 1);
  await run(wire, updateCommand('insertLarge', [[byId(1), changed]]));
}

async function transactAll({ wire, dollars }: Road): Promise<void> {
  const first = 100;
  const documents = shaped(first).filter((_, n) => dollars || n !== PLACE_OF_DOLLARS);
  await inTransaction(wire, [
    insertCommand('insertEvery', documents),
    ...oddValues().map(([type, , value]) =>
      updateCommand('insertEvery', [[byId(first), setOf('changing', type, value)]]),
    ),
    updateCommand('insertEvery', [[byId(first + 1), rawDocument([[0x10, 'n', int32(9)], ...oddValues()])]]),
    deleteCommand('insertEvery', [byId(first + 3)]),
    deleteCommand(
      'insertIds0',
      (oddIds()[0] ?? []).flatMap((_, n) => (n % 2 ? [byN(n)] : [])),
    ),
  ]);
  // Of more than one entry.
  await inTransaction(wire, [
    insertCommand('insertLarge', [largest(2)]),
    updateCommand('insertLarge', [[byId(1), largest(1)]]),
  ]);
}

/** All but the first of each, one after the other. */
async function deleteAll({ wire }: Road): Promise<void> {
  for (const [group, ids] of oddIds().entries()) {
    for (const n of ids.keys()) {
      if (n > 0) await run(wire, deleteCommand(`insertIds${group}`, [byN(n)]));
    }
  }
}

async function restoredEquals(source: TestReplicaSet, path: DataPath, binary: string): Promise<void> {
  await using folder = await testFolder();
  const { stores } = path;
  const { id, optime } = await path.snapshot();
  const restored = join(folder.path, 'restored');
  const restoring = { stores, daemon: 'here', mongodFor: () => Promise.resolve(binary) };
  await restoreDirectory(stepContext(), restoring, { id: 'bytes', snapshot: id, path: restored });
  await withMongod(restored, { binary }, async (client) => {
    const report = await proveEqual({ source: { client: source.client, at: optime }, copy: { client }, ids: 5 });
    assertEqual(report, 'a restore');
  });
}

async function everyRoad(t: TestContext, binary: string): Promise<void> {
  await using source = await startReplicaSet({ name: 'source', binary, cacheGiB: 0.5 });
  await using wire = await RawWire.open(source.members[0]?.address ?? { port: 0 });
  const road: Road = { source, wire, dollars: (await abilitiesOf(source.client)).series };
  await insertAll(road, 'slice');
  await using path = await DataPath.open({ source: source.uri, mongod: binary });
  await path.initialSync();
  assertEqual(await path.prove(), 'slices');
  const roads: Record<string, (road: Road) => Promise<void>> = {
    inserts: (one) => insertAll(one, 'insert'),
    updates: updateAll,
    'pipelines and images': reshapeAll,
    replacements: replaceAll,
    transactions: transactAll,
    deletes: deleteAll,
  };
  for (const [name, take] of Object.entries(roads)) {
    await take(road);
    assertEqual(await path.prove(), name);
    t.diagnostic(`${name}: equal`);
  }
  await restoredEquals(source, path, binary);
}

for (const name of [null, ...OTHER_VERSIONS]) {
  const found = name === null ? { path: await findBinary('mongod') } : await mongodOf(name);
  const skip = 'missing' in found && found.missing;
  test(
    `documents that JavaScript would change keep their bytes on every road: mongod ${name ?? 'of other tests'}`,
    { skip },
    async (t) => {
      assert.ok('path' in found);
      await everyRoad(t, found.path);
    },
  );
}
