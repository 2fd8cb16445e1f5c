/** A Timestamp(0,0) at the top of a document that an entry replaces: some servers put the time of day in its place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Timestamp, UUID, type MongoClient } from 'mongodb';
import { findBinary } from '../src/embedded/binaries.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { DataPath } from './support/data-path.ts';
import { at, createOf, entry, insertOf } from './support/entries.ts';
import { testFolder } from './support/folders.ts';
import { applyAll, beginAt, connectHead, headIdentity, openHead } from './support/head.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { fields, int32, int64, rawDocument, type RawField } from './support/raw-wire.ts';
import { startReplicaSet } from './support/replica-set.ts';

const ui = new UUID();
const ID: RawField = [0x10, '_id', int32(1)];
const zero = (name: string): RawField => [0x11, name, int64(0n)];

/** An entry that replaces the document 1 by these bytes. */
function replacement(ordinal: number, o: Buffer): Buffer {
  const rest = entry(ordinal, { op: 'u', ns: 'shop.c', ui, o2: { _id: 1 } });
  return rawDocument([rest.subarray(4, -1), [0x03, 'o', o]]);
}

async function stored(client: MongoClient): Promise<Buffer> {
  const [found] = await client.db('shop').collection('c').find({}, { raw: true }).toArray();
  return Buffer.from(found as unknown as Uint8Array);
}

for (const version of [null, ...OTHER_VERSIONS]) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const skip = 'missing' in found && found.missing;
  const what = `mongod ${version ?? 'of most tests'}`;
  test(`a replacement with a Timestamp(0,0) is stored byte for byte, or refused: ${what}`, { skip }, async () => {
    assert.ok('path' in found);
    await using folder = await testFolder();
    const identity = headIdentity();
    const head = await openHead(folder.path, identity, { binary: found.path });
    try {
      await beginAt(head, at(0));
      await applyAll(
        head,
        Buffer.concat([entry(1, createOf('shop.c', ui)), entry(2, insertOf('shop.c', ui, { _id: 1 }))]),
      );
      const client = await connectHead(folder.path, identity);
      try {
        const always = [
          rawDocument([ID, zero('a'), [0x10, 'n', int32(1)], zero('z')]),
          rawDocument([ID, [0x10, 'twice', int32(1)], [0x10, 'twice', int32(2)], zero('a')]),
          rawDocument([ID, [0x03, 'in', rawDocument([zero('a'), zero('a')])]]),
        ];
        for (const [n, o] of always.entries()) {
          await applyAll(head, replacement(3 + n, o));
          assert.deepEqual(await stored(client), o, `document ${n}`);
        }
        // A difference has no way to name one of two fields of a name.
        const named = [
          rawDocument([ID, [0x10, 'z', int32(1)], zero('z')]),
          rawDocument([ID, zero('z'), zero('z'), fields({ n: 1 })]),
        ];
        for (const [n, o] of named.entries()) {
          const before = await stored(client);
          const refused = await applyAll(head, replacement(10 + n, o)).then(
            () => false,
            (error: unknown) => isLifeboatError(error, 'EntryNotSupported') || Promise.reject(error as Error),
          );
          assert.deepEqual(await stored(client), refused ? before : o, `named ${n}`);
          if (refused) break;
        }
        const { databases } = await client.db('admin').command({ listDatabases: 1, nameOnly: true });
        const names = (databases as { name: string }[]).map(({ name }) => name);
        assert.deepEqual(
          names.toSorted(),
          ['admin', 'config', 'local', 'shop'].filter((name) => names.includes(name)),
        );
        assert.equal(await client.db('local').listCollections({ name: 'lifeboat.zeros' }).hasNext(), false);
      } finally {
        await client.close();
      }
    } finally {
      await head.close();
    }
  });

  test(`a Timestamp(0,0) in a client's applyOps stops the backup: ${what}`, { skip }, async () => {
    assert.ok('path' in found);
    await using source = await startReplicaSet({ binary: found.path });
    const c = source.client.db('shop').collection<{ _id: number }>('c');
    await c.insertMany([{ _id: 1 }, { _id: 2 }]);
    await using path = await DataPath.open({ source: source.uri, mongod: found.path, exclude: ['other.*'] });
    await path.initialSync();
    await path.validate();
    const o = { _id: 2, zero: new Timestamp({ t: 0, i: 0 }) };
    await source.client.db('other').createCollection('c');
    // What is left out is, and within a document a zero stays.
    const taken = [
      { op: 'i', ns: 'other.c', o },
      { op: 'i', ns: 'shop.c', o: { _id: 3, within: { zero: o.zero } } },
    ];
    await source.client.db('admin').command({ applyOps: taken });
    const { differences, notCompared } = await path.prove();
    assert.deepEqual([differences, notCompared], [[], []]);
    // It is refused while others are under way.
    await c.insertMany(Array.from({ length: 6_000 }, (_, n) => ({ _id: n + 10 })));
    const refused = [
      { op: 'd', ns: 'shop.c', o: { _id: 1 } },
      { op: 'u', ns: 'shop.c', o2: { _id: 2 }, o },
    ];
    await source.client.db('admin').command({ applyOps: refused });
    await assert.rejects(path.prove(), (error) => isLifeboatError(error, 'EntryNotSupported'));
    await using head = await path.connectHead();
    const left = head
      .db('shop')
      .collection<{ _id: number }>('c')
      .find({ _id: { $lt: 3 } });
    assert.deepEqual(await left.toArray(), [{ _id: 1 }, { _id: 2 }]);
  });
}
