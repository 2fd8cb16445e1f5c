/**
 * Restores to a moment between snapshots: the snapshot before it and the stored entries up to it make what the source was
 * then, wherever the moment falls.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Binary, Timestamp, type MongoClient } from 'mongodb';
import { readManifest } from '../src/blockstore/manifest.ts';
import { findBinary } from '../src/embedded/binaries.ts';
import { Applier } from '../src/head/apply.ts';
import { startHeadMongod } from '../src/head/mongod.ts';
import { OpenHead } from '../src/head/open-head.ts';
import { readState } from '../src/head/state.ts';
import { beginOfChain, endOfChain, readEntries } from '../src/oplogstore/batches.ts';
import { restorableRanges } from '../src/oplogstore/restorable.ts';
import { fromTimestamp } from '../src/mongo/positions.ts';
import { proveEqual } from '../src/proof/equality.ts';
import { readRestorable, restorePoint } from '../src/restore/point.ts';
import { isLifeboatError, LifeboatError } from '../src/shared/errors.ts';
import type { RestorePoint, RestoreSummary, SnapshotSummary } from '../src/shared/messages.ts';
import {
  compareOptimes,
  formatOptime,
  maxOptime,
  minOptime,
  type Optime,
  type Position,
} from '../src/shared/optime.ts';
import { restoreDirectory } from '../src/steps/restore-directory.ts';
import { removeUnneeded } from '../src/steps/apply-entries.ts';
import { takeLease } from '../src/stores/leases.ts';
import { noteDifference } from '../src/stores/members.ts';
import { crashOf } from './support/crash-child.ts';
import { DataPath, type DataPathOptions } from './support/data-path.ts';
import { testFolder } from './support/folders.ts';
import { HandTransaction } from './support/hand-transaction.ts';
import { mongodOf, OTHER_VERSIONS } from './support/mongods.ts';
import { replayNatively } from './support/native-replay.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { stepContext } from './support/snapshots.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters, type Writers } from './support/workload.ts';
import { withMongod } from './support/with-mongod.ts';

/** A source that is written to goes on losing documents of this one, and then cannot say what it held. */
const FORGOTTEN = new Set(['base.capped']);

const NEVER = new AbortController().signal;

function seeded(t: TestContext): Random {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  return random;
}

interface Restoring {
  readonly path: DataPath;
  readonly binary: string;
  readonly folder: string;
}

/** Restores as a workflow would: the point is found out, then gone to. */
async function restoreTo(
  { path, binary, folder }: Restoring,
  { snapshot, until, entries }: RestorePoint,
  id = `to-${until ? formatOptime(until.ts).replace(',', '-') : snapshot}`,
): Promise<{ readonly directory: string; readonly summary: RestoreSummary }> {
  const directory = join(folder, id);
  const parts = { stores: path.stores, daemon: 'here', mongodFor: () => Promise.resolve(binary) };
  const request = { id, snapshot, path: directory, ...(until ? { until, entries } : {}) };
  return { directory, summary: await restoreDirectory(stepContext(), parts, request) };
}

async function assertEqualAt(source: MongoClient, at: Optime, directory: string, binary: string): Promise<void> {
  await withMongod(directory, { binary }, async (client) => {
    const report = await proveEqual({ source: { client: source, at }, copy: { client }, ids: 5 });
    assert.deepEqual(report.differences, []);
    assert.deepEqual(
      report.notCompared.filter(({ namespace }) => !FORGOTTEN.has(namespace)),
      [],
    );
    assert.ok(report.comparedDocuments > 1_000, `only ${report.comparedDocuments} documents were compared`);
  });
}

interface UnderWriters {
  readonly source: TestReplicaSet;
  readonly path: DataPath;
  readonly restoring: Restoring;
  /** Taken before the first of them wrote. */
  readonly snapshot: SnapshotSummary;
  readonly random: Random;
  readonly writers: Writers;
}

/** A source of that mongod with every kind of data, its backup, and writers that are stopped in the end. */
async function underWriters(
  t: TestContext,
  binary: string,
  use: (given: UnderWriters) => Promise<void>,
): Promise<void> {
  const random = seeded(t);
  await using folder = await testFolder();
  // A 4.4 with less comes to a stop for good: what is read of the past and what is written fill it up between them.
  await using source = await startReplicaSet({ binary, name: 'source', cacheGiB: 1 });
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  await using path = await DataPath.open({ source: source.uri, mongod: binary });
  await path.initialSync();
  const snapshot = await path.snapshot();
  const restoring = { path, binary, folder: folder.path };
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE });
  try {
    await use({ source, path, restoring, snapshot, random, writers });
  } finally {
    await writers.stop();
  }
}

for (const version of [null, ...OTHER_VERSIONS]) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const skip = 'missing' in found && found.missing;
  const what = `mongod ${version ?? 'of most tests'}`;
  test(
    `what is restored to any moment is what the source was then, under every kind of write: ${what}`,
    { skip },
    async (t) => {
      assert.ok('path' in found);
      const { path: binary } = found;
      await underWriters(t, binary, async ({ source, path, restoring, snapshot, random, writers }) => {
        for (let round = 0; round < 3; round++) {
          await writers.takeSteps(100 + random.below(100));
          // No server can tell what its catalog was: from here on it stays as it is.
          await writers.holdCatalog();
          const from = await path.newest();
          await writers.takeSteps(60);
          const to = await path.newest();
          await path.applyUntil(to);
          // Any moment in between, also one that is no entry's own.
          const somewhere = { t: from.ts.t + random.below(to.ts.t - from.ts.t + 1), i: 1 + random.below(400) };
          const wanted = minOptime(maxOptime(somewhere, from.ts), to.ts);
          const point = await restorePoint(path.stores, 'shop', { optime: wanted }, NEVER);
          const { directory, summary } = await restoreTo(restoring, point);
          t.diagnostic(`${formatOptime(wanted)}: ${summary.entriesReplayed} entries on ${point.snapshot}`);
          assert.deepEqual(summary.optime, point.until?.ts);
          assert.equal(point.snapshot === snapshot.id, round < 2);
          await assertEqualAt(source.client, wanted, directory, binary);
          if (round === 1) await path.snapshot();
          writers.resumeCatalog();
        }
      });
    },
  );
}

for (const version of [null, '5.0', '6.0.27'] as const) {
  const found = version === null ? { path: await findBinary('mongod') } : await mongodOf(version);
  const skip = 'missing' in found && found.missing;
  const what = `mongod ${version ?? 'of most tests'}`;
  test(`the server's own replay of the same entries comes to the same: ${what}`, { skip }, async (t) => {
    assert.ok('path' in found);
    const { path: binary } = found;
    await underWriters(t, binary, async ({ source, path, restoring, snapshot, writers }) => {
      await writers.takeSteps(300);
      await writers.stop();
      const end = await path.newest();
      await path.applyUntil(end);
      const point = await restorePoint(path.stores, 'shop', { optime: end.ts }, NEVER);
      const { directory } = await restoreTo(restoring, point);
      await assertEqualAt(source.client, end.ts, directory, binary);

      const asItIs = { ...point, until: null };
      const { directory: native } = await restoreTo(restoring, asItIs, 'native');
      const [from] = (await readRestorable(path.stores, 'shop')).snapshots.map(({ position }) => position);
      assert.ok(from && compareOptimes(from.ts, snapshot.optime) === 0);
      const { incarnation } = path.fence;
      await replayNatively({ stores: path.stores, incarnation, dbpath: native, from, until: end, binary });
      await assertEqualAt(source.client, end.ts, native, binary);
    });
  });
}

/** Two sets, one with the stores, and a snapshot with `entries` entries behind it. */
async function withEntries(
  entries: number,
  use: (given: {
    readonly source: TestReplicaSet;
    readonly path: DataPath;
    readonly restoring: Restoring;
    readonly snapshot: SnapshotSummary;
  }) => Promise<void>,
  options: Partial<DataPathOptions> = {},
): Promise<void> {
  await using folder = await testFolder();
  await using source = await startReplicaSet({ name: 'source', setParameters: { enableTestCommands: true } });
  const shop = source.client.db('shop');
  await shop.collection('orders').insertMany(Array.from({ length: 2_000 }, (_, n) => ({ n })));
  await using path = await DataPath.open({ source: source.uri, ...options });
  await path.initialSync();
  const snapshot = await path.snapshot();
  for (let left = entries; left > 0; left -= 5_000) {
    await shop.collection('orders').insertMany(Array.from({ length: Math.min(left, 5_000) }, (_, n) => ({ n })));
  }
  await path.applyUntil(await path.newest());
  await use({ source, path, restoring: { path, binary: await findBinary('mongod'), folder: folder.path }, snapshot });
}

for (const dieAt of ['proof: hashes', 'replay', 'proof: validate']) {
  test(`a restore to a moment that is killed in "${dieAt}" is refused by mongod, and goes on where it was`, async () => {
    await withEntries(30_000, async ({ source, path, restoring, snapshot }) => {
      const wanted = await path.newest();
      const { until, entries } = await restorePoint(path.stores, 'shop', { optime: wanted.ts }, NEVER);
      assert.deepEqual(until, wanted);
      assert.ok(until && entries >= 30_000);
      const directory = join(restoring.folder, 'killed');
      const request = { id: 'killed', snapshot: snapshot.id, until, entries, path: directory };
      const signal = await crashOf({ step: 'restore', store: path.storesUri, request, dieAt });
      assert.equal(signal, 'SIGKILL');
      await assert.rejects(
        withMongod(directory, {}, () => Promise.resolve()),
        (error) => isLifeboatError(error, 'HeadStartFailed'),
      );

      // What has every entry needs none of them any more.
      if (dieAt === 'proof: validate') await path.stores.batches.deleteMany({});
      const ctx = stepContext();
      const parts = { stores: path.stores, daemon: 'here', mongodFor: () => findBinary('mongod') };
      const summary = await restoreDirectory(ctx, parts, request);
      // Neither the files nor the entries are brought in again once they are all there.
      const said = ctx.logs.map(({ msg }) => msg);
      assert.equal(said.includes('files restored'), dieAt === 'proof: hashes');
      assert.equal(said.includes('entries replayed'), dieAt !== 'proof: validate');
      assert.equal(summary.entriesReplayed, entries);
      assert.deepEqual(
        (await readdir(directory)).filter((name) => name.includes('lifeboat')),
        [],
      );
      await assertEqualAt(source.client, wanted.ts, directory, restoring.binary);
    });
  });
}

test('a restore that is cut short at its last entry, and again while that builds an index, goes on', async () => {
  await withEntries(30_000, async ({ source, path, restoring, snapshot }) => {
    await source.client.db('shop').collection('orders').createIndex({ n: 1 });
    await path.applyUntil(await path.newest());
    const oplog = source.client.db('local').collection<{ ts: Timestamp }>('oplog.rs');
    const built = await oplog.findOne({ op: 'c', 'o.commitIndexBuild': 'orders' });
    assert.ok(built);
    const wanted = { ts: fromTimestamp(built.ts) };
    const { until: end, entries } = await restorePoint(path.stores, 'shop', { optime: wanted.ts }, NEVER);
    assert.ok(end);
    const directory = join(restoring.folder, 'index');
    const request = { id: 'index', snapshot: snapshot.id, until: end, entries, path: directory };
    const parts = { stores: path.stores, daemon: 'here', mongodFor: () => Promise.resolve(restoring.binary) };
    const stop = new AbortController();
    const stopped = stepContext(stop.signal, ({ stage }) => stage === 'replay' && stop.abort());
    await assert.rejects(restoreDirectory(stopped, parts, request));
    // The first leaves the head inconsistent until the entry, the second at the entry, with the index still to build.
    for (const isAtEnd of [false, true]) {
      await replayWithoutBuilding(path, { directory, binary: restoring.binary, end }, isAtEnd);
    }
    await restoreDirectory(stepContext(), parts, request);
    await assertEqualAt(source.client, wanted.ts, directory, restoring.binary);
  });
});

/** Applies what is stored up to `end` to the files of a restore that was stopped, and ends when an index is to be built. */
async function replayWithoutBuilding(
  { stores, fence }: DataPath,
  { directory, binary, end }: { readonly directory: string; readonly binary: string; readonly end: Position },
  isAtEnd: boolean,
): Promise<void> {
  const dbpath = join(directory, '.lifeboat-replaying');
  const root = join(directory, '.lifeboat-work');
  const files = { root, dbpath, logPath: join(root, 'log') };
  const mongod = await startHeadMongod({ directory: files, binary, cacheGiB: 0.25, socketKey: dbpath });
  try {
    const record = await readState(mongod.socket);
    assert.ok(record);
    const head = await OpenHead.read(mongod.socket, record);
    const applier = new Applier(head, root);
    const applying = async (): Promise<void> => {
      for await (const { bytes } of readEntries(stores, fence.incarnation, applier.readFrom, NEVER)) {
        await applier.run(bytes, end, AbortSignal.abort());
      }
    };
    await assert.rejects(applying(), { name: 'AbortError' });
    const { position } = head.record;
    assert.deepEqual(position?.inconsistentUntil, end);
    assert.equal(compareOptimes(position.appliedThrough.ts, end.ts) === 0, isAtEnd);
    applier.close();
  } finally {
    // Cleanly: a kill might lose what was written last.
    mongod.socket.close();
    await mongod.running.stop();
  }
}

test('a transaction is in what is restored to its commit, and not in what is restored to the moment before', async () => {
  await withEntries(10, async ({ source, path, restoring }) => {
    const primary = source.members[0]?.address ?? { port: 0 };
    const orders = source.client.db('shop').collection<{ _id: string }>('orders');
    const prepared = async (name: string): Promise<HandTransaction> =>
      HandTransaction.prepared(primary, async (transaction) => {
        const documents = [0, 1, 2].map((n) => ({ _id: `${name} ${n}` }));
        await transaction.run('shop', { insert: 'orders', documents });
      });
    const commits = await prepared('commits');
    const aborts = await prepared('aborts');
    const whilePrepared = (await path.newest()).ts;
    await commits.commit();
    const committed = (await path.newest()).ts;
    await aborts.abort();
    await orders.insertOne({ _id: 'behind them' });
    // In one entry, and of no prepared one.
    const session = source.client.startSession();
    await session.withTransaction(async () => {
      for (const _id of ['plain 0', 'plain 1']) await orders.insertOne({ _id }, { session });
    });
    await session.endSession();
    const end = await path.newest();
    await path.applyUntil(end);

    const found = async (at: Optime): Promise<string[]> => {
      const { directory, summary } = await restoreTo(
        restoring,
        await restorePoint(path.stores, 'shop', { optime: at }, NEVER),
      );
      assert.deepEqual(summary.optime, at);
      return withMongod(directory, {}, async (client) => {
        const ids = await client
          .db('shop')
          .collection<{ _id: string }>('orders')
          .find({ _id: { $type: 'string' } })
          .toArray();
        return ids.map(({ _id }) => _id).sort();
      });
    };
    const ofCommitted = ['commits 0', 'commits 1', 'commits 2'];
    assert.deepEqual(await found(whilePrepared), []);
    assert.deepEqual(await found(committed), ofCommitted);
    assert.deepEqual(await found(end.ts), ['behind them', ...ofCommitted, 'plain 0', 'plain 1'].sort());
  });
});

test('a second is restored with all its entries, and only once it is over', async () => {
  await withEntries(10, async ({ source, path, restoring, snapshot }) => {
    const orders = source.client.db('shop').collection<{ _id: string }>('orders');
    for (let n = 0; n < 20; n += 1) await orders.insertOne({ _id: `one ${n}` });
    const { ts } = await path.newest();
    await until(async () => {
      await orders.insertOne({ _id: `later ${Date.now()}` });
      return (await path.newest()).ts.t > ts.t;
    }, 'the next second has begun');
    const end = await path.newest();
    await path.applyUntil(end);

    const point = await restorePoint(path.stores, 'shop', { second: ts.t }, NEVER);
    const { directory, summary } = await restoreTo(restoring, point);
    assert.equal(summary.optime.t, ts.t);
    assert.ok(summary.optime.i >= ts.i);
    await assertEqualAt(source.client, { t: ts.t, i: 0xffff_ffff }, directory, restoring.binary);

    const refused = await restorePoint(path.stores, 'shop', { second: end.ts.t }, NEVER).catch(
      (error: unknown) => error,
    );
    assert.ok(isLifeboatError(refused, 'TimeNotRestorable'));
    assert.ok(refused.message.includes(`up to ${formatOptime(end.ts)}`), refused.message);
    const early = { optime: { t: snapshot.optime.t - 1, i: 1 } };
    const before = await restorePoint(path.stores, 'shop', early, NEVER).catch((error: unknown) => error);
    assert.ok(isLifeboatError(before, 'TimeNotRestorable'));
    assert.ok(before.message.includes(`from ${formatOptime(snapshot.optime)}`), before.message);
    // The newest moment, and that of the snapshot itself.
    assert.deepEqual((await restorePoint(path.stores, 'shop', undefined, NEVER)).until, end);
    assert.deepEqual(await restorePoint(path.stores, 'shop', { optime: snapshot.optime }, NEVER), {
      snapshot: snapshot.id,
      until: null,
      entries: 0,
      entryBytes: 0,
    });
  });
});

test('what was read from the source when it was renamed into the backup is a gap up to the next snapshot', async () => {
  await withEntries(
    10,
    async ({ source, path, restoring, snapshot }) => {
      const shop = source.client.db('shop');
      const left = shop.collection<{ _id: string }>('hidden');
      await left.insertOne({ _id: 'left out' });
      const before = await path.newest();
      await left.rename('events');
      const renamed = await path.newest();
      await path.prove();
      const { snapshots, chains } = await readRestorable(path.stores, 'shop');
      const [range, ...others] = restorableRanges(snapshots, chains);
      assert.deepEqual([range, others], [{ from: snapshot.optime, to: before.ts }, []]);
      await assert.rejects(restorePoint(path.stores, 'shop', { optime: renamed.ts }, NEVER), (error) =>
        isLifeboatError(error, 'TimeNotRestorable'),
      );
      // Asked to all the same, it stops before that entry, and hands nothing over.
      const forced = { snapshot: snapshot.id, until: renamed, entries: 1, entryBytes: 1 };
      await assert.rejects(restoreTo(restoring, forced), (error) => isLifeboatError(error, 'ReplayFailed'));
      const second = await path.snapshot();
      await shop.collection<{ _id: string }>('events').insertOne({ _id: 'behind it' });
      const end = await path.newest();
      await path.applyUntil(end);
      const point = await restorePoint(path.stores, 'shop', { optime: end.ts }, NEVER);
      assert.equal(point.snapshot, second.id);
    },
    { exclude: ['shop.hidden'] },
  );
});

test('from a snapshot that the next one was found to differ after, nothing leads on', async () => {
  await withEntries(10, async ({ source, path, snapshot }) => {
    const second = await path.snapshot();
    const differs = { $set: { 'verification.state': 'different' as const } };
    await path.stores.manifests.updateOne({ _id: second.id }, differs);
    await source.client.db('shop').collection('orders').insertOne({ n: 1 });
    await path.applyUntil(await path.newest());
    const { snapshots, chains } = await readRestorable(path.stores, 'shop');
    assert.deepEqual(restorableRanges(snapshots, chains), [{ from: snapshot.optime, to: snapshot.optime }]);
    await assert.rejects(restorePoint(path.stores, 'shop', { optime: second.optime }, NEVER), (error) =>
      isLifeboatError(error, 'TimeNotRestorable'),
    );
    // One behind it is no better for not having been compared, also once that one is gone.
    await noteDifference(path.stores, path.fence, { ts: second.optime, term: 1 });
    await path.snapshot();
    await path.stores.manifests.deleteOne({ _id: second.id });
    const left = await readRestorable(path.stores, 'shop');
    assert.deepEqual(restorableRanges(left.snapshots, left.chains), [{ from: snapshot.optime, to: snapshot.optime }]);
    await path.stores.manifests.updateOne({ _id: snapshot.id }, differs);
    await assert.rejects(restorePoint(path.stores, 'shop', undefined, NEVER), /every snapshot of shop/);
  });
});

test('what is stored behind an entry that the head cannot get over is not restorable', async () => {
  await withEntries(10, async ({ source, path }) => {
    const second = await path.snapshot();
    const shop = source.client.db('shop');
    await shop.collection('orders').insertOne({ n: 1 });
    const before = await path.newest();
    const o = { _id: 'zero', at: new Timestamp({ t: 0, i: 0 }) };
    await source.client.db('admin').command({ applyOps: [{ op: 'i', ns: 'shop.orders', o }] });
    await shop.collection('orders').insertOne({ n: 2 });
    await assert.rejects(path.applyUntil(await path.newest()), (error) => isLifeboatError(error, 'EntryNotSupported'));
    const newest = await path.newest();
    await until(async () => {
      const end = await endOfChain(path.stores, path.fence.incarnation);
      return end !== null && compareOptimes(end.ts, newest.ts) >= 0;
    }, 'what comes behind it is stored');
    const { snapshots, chains } = await readRestorable(path.stores, 'shop');
    const to = restorableRanges(snapshots, chains).at(-1)?.to;
    // The head stands at an entry before it, what it has gathered by then is not applied.
    assert.ok(to && compareOptimes(second.optime, to) <= 0 && compareOptimes(to, before.ts) <= 0);
    const { snapshot, until: end } = await restorePoint(path.stores, 'shop', undefined, NEVER);
    assert.deepEqual([snapshot, end?.ts ?? second.optime], [second.id, to]);
  });
});

test('entries that a restore needs which waits for its next try are kept', async () => {
  await withEntries(10, async ({ path, restoring, snapshot }) => {
    const { stores, fence } = path;
    await path.validate();
    const { until: end, entries } = await restorePoint(stores, 'shop', undefined, NEVER);
    assert.ok(end);
    const directory = join(restoring.folder, 'waits');
    const request = { id: 'waits', snapshot: snapshot.id, until: end, entries, path: directory };
    const full = { stores, daemon: 'here', mongodFor: () => Promise.reject(new LifeboatError('TargetFull', 'a try')) };
    await assert.rejects(restoreDirectory(stepContext(), full, request));
    assert.equal(await stores.leases.countDocuments(), 0);
    const position = path.head.state().position;
    assert.ok(position);
    await removeUnneeded({ stores, fence, windowMs: 0 }, position);
    const parts = { stores, daemon: 'here', mongodFor: () => Promise.resolve(restoring.binary) };
    const { entriesReplayed } = await restoreDirectory(stepContext(), parts, request);
    assert.equal(entriesReplayed, entries);
    const isKept = async (): Promise<boolean> => {
      const [begin, manifest] = [
        await beginOfChain(stores, fence.incarnation),
        await readManifest(stores, snapshot.id),
      ];
      return begin !== null && compareOptimes(begin.ts, fromTimestamp(manifest.oplogFrom.ts)) <= 0;
    };
    assert.ok(await isKept());
    // One that was ended by force stays as it was when it was tried last.
    const byForce = { state: 'running' as const, seenAt: new Date(Date.now() - 25 * 3_600_000) };
    await stores.restores.updateOne({ _id: 'waits' }, { $set: byForce });
    await removeUnneeded({ stores, fence, windowMs: 0 }, position);
    assert.equal(await isKept(), false);
    const late = { ...request, id: 'late', path: `${directory}-2` };
    await assert.rejects(restoreDirectory(stepContext(), parts, late), (error) =>
      isLifeboatError(error, 'TimeNotRestorable'),
    );
  });
});

test('entries that a restore under way may still read are kept, and go when it has ended, or its lease has expired', async () => {
  await withEntries(10, async ({ path, snapshot }) => {
    const { stores, fence } = path;
    await path.validate();
    const position = path.head.state().position;
    assert.ok(position);
    const needed = { stores, fence, windowMs: 0 };
    const lease = await takeLease(stores, {
      purpose: 'restore',
      deployment: 'shop',
      daemon: 'here',
      snapshot: snapshot.id,
    });
    await removeUnneeded(needed, position);
    const { oplogFrom } = (await readRestorable(stores, 'shop')).snapshots[0] ?? {};
    const begin = await beginOfChain(stores, fence.incarnation);
    assert.ok(oplogFrom && begin && compareOptimes(begin.ts, oplogFrom.ts) <= 0);
    // Of a worker that is gone for good nobody may ever write that it is.
    await stores.leases.updateOne({ _id: lease.number }, { $set: { expiresAt: new Date(0) } });
    await removeUnneeded(needed, position);
    const left = await beginOfChain(stores, fence.incarnation);
    assert.ok(left && compareOptimes(left.ts, begin.ts) > 0);
    await lease.end();
  });
});

test('stored entries that are damaged, or gone, end a restore without a directory that mongod starts on', async () => {
  await withEntries(20_000, async ({ source, path, restoring }) => {
    await source.client.db('shop').collection<{ _id: string }>('orders').insertOne({ _id: 'last' });
    await path.applyUntil(await path.newest());
    const point = await restorePoint(path.stores, 'shop', undefined, NEVER);
    const batches = await path.stores.batches.find({}).sort({ 'last.ts': 1 }).toArray();
    const [lost, damaged] = [batches.at(-2), batches.at(-1)];
    assert.ok(lost && damaged && point.until);
    await path.stores.batches.updateOne(
      { _id: damaged._id },
      { $set: { 'bytes.sha256': new Binary(Buffer.alloc(32)) } },
    );
    await assert.rejects(restoreTo(restoring, point, 'damaged'), (error) => isLifeboatError(error, 'EntriesDamaged'));
    await path.stores.batches.deleteOne({ _id: lost._id });
    await assert.rejects(restoreTo(restoring, point, 'lost'), (error) => isLifeboatError(error, 'ReplayFailed'));
    for (const name of ['damaged', 'lost']) {
      await assert.rejects(withMongod(join(restoring.folder, name), {}, () => Promise.resolve()));
    }
  });
});
