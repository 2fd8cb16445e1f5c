/** Capped collections: a head takes out of them what its source does, when its source does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Collection, type Document, type MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { toTimestamp } from '../src/mongo/positions.ts';
import { mongodVersion } from '../src/mongod/binary.ts';
import type { Optime } from '../src/shared/optime.ts';
import { DataPath } from './support/data-path.ts';
import { mongodOf, OTHER_VERSIONS, type OtherVersion } from './support/mongods.ts';
import { fields, int64, RawWire, rawDocument } from './support/raw-wire.ts';
import { startReplicaSet, type TestReplicaSet } from './support/replica-set.ts';

const CAPPED = { capped: true, size: 1 << 20 };

const SOURCES: readonly { readonly version: OtherVersion | null; readonly features?: string }[] = [
  ...[null, ...OTHER_VERSIONS].map((version) => ({ version })),
  { version: '5.0', features: '4.4' },
];

for (const { version, features } of SOURCES) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const what = `mongod ${version ?? 'of most tests'}${features === undefined ? '' : ` with the features of ${features}`}`;
  const tellsNothing = (features ?? version) === '4.4' && 'no entry says what one loses, and nobody can delete from it';
  test(
    `what a capped collection has no more room for is gone with the insert that pushed it out, on a ${what}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startSource(found.path, features);
      const db = source.client.db('shop');
      await db.createCollection('few', { capped: true, size: 1 << 20, max: 3 });
      await db.createCollection('small', { capped: true, size: 65_536 });
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync();
      await path.validate();
      for (const name of ['few', 'small', 'made later']) {
        if (name === 'made later') await db.createCollection(name, { capped: true, size: 1 << 20, max: 2 });
        const text = 'x'.repeat(20_000);
        await db.collection(name).insertMany(Array.from({ length: 10 }, (_, n) => ({ n, text })));
      }
      await db.renameCollection('few', 'renamed');
      await db.collection('renamed').insertMany(Array.from({ length: 10 }, (_, n) => ({ n: n + 10 })));
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );

  test(
    `what a client's applyOps of one piece pushes out of a capped collection is gone, on a ${what}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startSource(found.path, features);
      const db = source.client.db('shop');
      const collection = (name: string): Collection<{ _id: number; text?: string }> => db.collection(name);
      await db.createCollection('few', { capped: true, size: 1 << 20, max: 6 });
      await db.createCollection('small', { capped: true, size: 65_536 });
      await db.createCollection('others');
      const text = 'x'.repeat(9_000);
      for (const name of ['few', 'small']) {
        await collection(name).insertMany([1, 2, 3, 4, 5, 6, 7, 8].map((_id) => ({ _id, text })));
      }
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync();
      await path.validate();
      const ns = (name: string): string => `shop.${name}`;
      const group = (applyOps: Document[]): Promise<Document> => source.client.db('admin').command({ applyOps });
      for (let first = 10; first < 40; first += 10) {
        const inserts = [1, 2, 3].flatMap((n) =>
          ['few', 'small'].map((name) => ({ op: 'i', ns: ns(name), o: { _id: first + n, text } })),
        );
        await group([...inserts, { op: 'i', ns: ns('others'), o: { _id: first } }]);
        await group([
          { op: 'u', ns: ns('few'), o2: { _id: first + 5 }, o: { _id: first + 5, upserted: true } },
          { op: 'i', ns: ns('small'), o: { text, _id: first + 5 } },
        ]);
        if (first === 20) await path.restartHead();
        // What comes by itself pushes out, too, and says so.
        for (const name of ['few', 'small']) await collection(name).insertOne({ _id: first + 6, text });
      }
      // Neither of these goes into one piece on a head.
      const isDelta = features === undefined && version !== '4.4';
      const change = (n: number): Document => (isDelta ? { $v: 2, diff: { u: { n } } } : { $v: 1, $set: { n } });
      const changes = Array.from({ length: 20 }, (_, n) => ({
        op: 'u',
        ns: ns('others'),
        o2: { _id: 10 },
        o: change(n),
      }));
      await group([...changes, { op: 'i', ns: ns('few'), o: { _id: 50 } }]);
      const many = Array.from({ length: 5_100 }, (_, n) => ({ op: 'i', ns: ns('others'), o: { _id: 1_000 + n } }));
      await group([
        ...many,
        { op: 'i', ns: ns('few'), o: { _id: 51 } },
        { op: 'i', ns: ns('small'), o: { _id: 51, text } },
      ]);
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
      if (tellsNothing) return;
      // Nothing that is no such entry makes the head take something out by itself.
      await using head = await path.connectHead();
      const few = head.db('shop').collection<{ _id: number }>('few');
      const held = await few.countDocuments();
      await few.insertMany([{ _id: 60 }, { _id: 61 }]);
      assert.equal(await few.countDocuments(), held + 2);
    },
  );

  test(
    `what only applyOps stores as it is keeps its bytes and its place in a capped collection, on a ${what}`,
    { skip: 'missing' in found && found.missing },
    async () => {
      assert.ok('path' in found);
      await using source = await startSource(found.path, features);
      await using wire = await RawWire.open(source.members[0]?.address ?? { port: 0 });
      const db = source.client.db('shop');
      const insert = (name: string, first: number): Promise<void> =>
        wire.insertExactly(`shop.${name}`, [
          rawDocument([fields({ n: first, _id: first })]),
          rawDocument([fields({ _id: first + 1, plain: true })]),
          rawDocument([fields({ _id: first + 2 }), [0x11, 'zero', int64(0n)]]),
        ]);
      for (const name of ['log', 'plain']) await db.createCollection(name, name === 'log' ? CAPPED : {});
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      let first = 0;
      await path.initialSync(async (moment) => {
        for (const name of ['log', 'plain']) await insert(name, (first += 3));
        // Of another that is made and filled meanwhile every document is copied and applied as well.
        await db.createCollection(`during ${moment}`, CAPPED);
        await insert(`during ${moment}`, 0);
      });
      await path.validate();
      for (const name of ['log', 'plain', 'during listed']) await insert(name, 100);
      await db.command({ convertToCapped: 'plain', size: 1 << 20 });
      await insert('plain', 200);
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );

  test(
    `an _id that is used again while a capped collection is copied has its new place, on a ${what}`,
    { skip: 'missing' in found ? found.missing : tellsNothing },
    async () => {
      assert.ok('path' in found);
      await using source = await startSource(found.path, features);
      await using wire = await RawWire.open(source.members[0]?.address ?? { port: 0 });
      const log = source.client.db('shop').collection<{ _id: number; again?: number }>('log');
      await source.client.db('shop').createCollection('log', CAPPED);
      await log.insertMany([1, 2, 3, 4].map((_id) => ({ _id })));
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync(async (moment) => {
        // All of it is in the copy, and applied to that once more.
        if (moment !== 'listed') return;
        await log.deleteMany({ _id: { $lte: 3 } });
        await log.insertMany([1, 5].map((_id) => ({ _id, again: 1 })));
        await wire.insertExactly('shop.log', [rawDocument([fields({ again: 1, _id: 2 })])]);
        const applyOps = [6, 3, 7].map((_id) => ({ op: 'i', ns: 'shop.log', o: { _id, again: 1 } }));
        await source.client.db('admin').command({ applyOps });
        await log.insertOne({ _id: 8 });
      });
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );

  test(
    `a full capped collection that is deleted from and changed while it is copied keeps what its source keeps, on a ${what}`,
    { skip: 'missing' in found ? found.missing : tellsNothing },
    async () => {
      assert.ok('path' in found);
      await using source = await startSource(found.path, features);
      const db = source.client.db('shop');
      const major = Number.parseInt(await mongodVersion(found.path), 10);
      const collection = (name: string): Collection<{ _id: string }> => db.collection(name);
      for (const [name, max] of [
        ['two', 2],
        ['three', 3],
        ['enlarged', 3],
        ['made smaller', 6],
      ] as const) {
        await db.createCollection(name, { capped: true, size: 1 << 20, max });
        await collection(name).insertMany(Array.from({ length: max }, (_, n) => ({ _id: `before ${n}` })));
      }
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync(async (moment) => {
        for (const name of ['two', 'three', 'enlarged', 'made smaller']) {
          // There is room for it, and the copy may not know.
          const [newest] = await collection(name).find().sort({ $natural: -1 }).toArray();
          await collection(name).deleteOne({ _id: newest?._id ?? '' });
          await collection(name).insertOne({ _id: `${moment} 1` });
          await collection(name).deleteOne({ _id: `${moment} 1` });
          await collection(name).insertOne({ _id: `${moment} 2` });
        }
        if (moment !== 'listed' || major < 6) return;
        await db.command({ collMod: 'enlarged', cappedMax: 9 });
        await collection('enlarged').insertMany([1, 2, 3, 4, 5].map((n) => ({ _id: `enlarged ${n}` })));
        await db.command({ collMod: 'made smaller', cappedMax: 2 });
      });
      const proven = await path.prove();
      assert.deepEqual([proven.differences, proven.notCompared], [[], []]);
      for (const name of ['two', 'three', 'enlarged', 'made smaller'])
        await collection(name).insertOne({ _id: 'last' });
      const { differences, notCompared } = await path.prove();
      assert.deepEqual([differences, notCompared], [[], []]);
    },
  );

  test(
    `a full capped collection that several clients write to at once keeps what its source keeps, on a ${what}`,
    { skip: 'missing' in found ? found.missing : tellsNothing },
    async (t) => {
      assert.ok('path' in found);
      await using source = await startSource(found.path, features);
      const ring = source.client.db('shop').collection<{ _id: number }>('ring');
      await source.client.db('shop').createCollection('ring', { capped: true, size: 1 << 20, max: 6 });
      await using path = await DataPath.open({ source: source.uri, mongod: found.path });
      await path.initialSync();
      const { ts: begin } = await path.newest();
      let [next, odd] = [0, 0];
      for (let tries = 0; odd === 0 && tries < 60; tries++) {
        await Promise.all(
          Array.from({ length: 8 }, async (_, client) => {
            for (let n = 0; n < 40; n++) {
              const _id = next++;
              if (client % 2 === 0) await ring.insertOne({ _id });
              else await ring.replaceOne({ _id }, {}, { upsert: true });
            }
          }),
        );
        odd = await outOfOrder(source.client, begin);
        t.diagnostic(`${next} documents, ${odd} lost before older ones`);
      }
      const { differences, notCompared } = await path.prove();
      assert.deepEqual(notCompared, []);
      // Which of two came first is no matter of entries: members of the source differ in it among themselves.
      assert.deepEqual(
        differences.filter(({ kind }) => kind !== 'order'),
        [],
      );
      if (odd === 0) t.skip('none of its clients overtook another');
    },
  );
}

async function startSource(binary: string, features: string | undefined): Promise<TestReplicaSet> {
  const source = await startReplicaSet({ binary });
  if (features !== undefined) {
    await source.client.db('admin').command({ setFeatureCompatibilityVersion: features });
  }
  return source;
}

/** How many documents of `shop.ring` were lost, by the entries, before one that had come into it earlier. */
async function outOfOrder(source: MongoClient, since: Optime): Promise<number> {
  const entries = source
    .db('local')
    .collection('oplog.rs')
    .find({ ns: 'shop.ring', ts: { $gt: toTimestamp(since) } });
  const present: unknown[] = [];
  let odd = 0;
  for await (const { op, o } of entries) {
    if (op === 'i') present.push(o._id);
    if (op !== 'd') continue;
    const at = present.indexOf(o._id);
    if (at > 0) odd += 1;
    if (at >= 0) present.splice(at, 1);
  }
  return odd;
}
