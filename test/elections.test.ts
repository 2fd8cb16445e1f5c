/** A source of three members: which of them is read from, and a backup that rides out what becomes of them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { MongoClient } from 'mongodb';
import { fromTimestamp } from '../src/mongo/positions.ts';
import { proveEqual } from '../src/proof/equality.ts';
import { compareOptimes, ZERO_OPTIME, type Optime } from '../src/shared/optime.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { openSource } from '../src/source/connect.ts';
import { Arrivals } from '../src/stores/arrivals.ts';
import { startLifeboat, type TestLifeboat } from './support/lifeboat.ts';
import { until } from './support/replica-set.ts';
import { newFence, stepContext } from './support/sync.ts';
import { headUri } from './support/worker.ts';

const MIB = 2 ** 20;

let lifeboat: TestLifeboat;
before(async () => {
  lifeboat = await startLifeboat({ sourceMembers: 3 });
  const items = lifeboat.source.client.db('shop').collection('items');
  for (let n = 0; n < 6; n += 1) {
    await items.insertMany(Array.from({ length: 1_000 }, () => ({ bytes: randomBytes(1_000) })));
  }
});
after(() => lifeboat?.[Symbol.asyncDispose]());

async function direct<T>(index: number, use: (client: MongoClient) => Promise<T>): Promise<T> {
  await using client = new MongoClient(lifeboat.source.members[index]?.uri ?? '');
  return await use(client);
}

/** Index of the primary, once there is one. */
async function primary(): Promise<number> {
  let found = -1;
  await until(async () => {
    const writable = await Promise.all(
      lifeboat.source.members.map((_, index) =>
        direct(
          index,
          async (client) => (await client.db('admin').command({ hello: 1 }))['isWritablePrimary'] === true,
        ).catch(() => false),
      ),
    );
    found = writable.indexOf(true);
    return found >= 0;
  }, 'there is a primary');
  return found;
}

async function stepDown(): Promise<void> {
  const index = await primary();
  await direct(index, async (client) => {
    await client.db('admin').command({ replSetStepDown: 30, secondaryCatchUpPeriodSecs: 10 });
  });
  await until(async () => (await primary()) !== index, 'another member is primary');
}

async function killAndRestart(index: number): Promise<void> {
  lifeboat.source.members[index]?.kill('SIGKILL');
  await lifeboat.source.restart(index);
}

async function write(text: string): Promise<Optime> {
  const { client } = lifeboat.source;
  await client
    .db('shop')
    .collection('orders')
    .insertOne({ text }, { writeConcern: { w: 'majority' } });
  const { lastWrite } = await client.db('admin').command({ hello: 1 });
  return fromTimestamp(lastWrite.opTime.ts);
}

async function untilApplied(optime: Optime): Promise<void> {
  await until(
    async () => {
      const [member] = (await lifeboat.status('shop')).members;
      return compareOptimes(member?.appliedThrough ?? ZERO_OPTIME, optime) >= 0;
    },
    'it is applied',
    120_000,
  );
}

/** The head holds what the source holds, and nothing is said to be wrong. */
async function proveSound(): Promise<void> {
  const at = await write('the last');
  await untilApplied(at);
  await using copy = await MongoClient.connect(await headUri(lifeboat.setting.home, 'shop', 'rs0'));
  const report = await proveEqual({ source: { client: lifeboat.source.client, at }, copy: { client: copy }, ids: 5 });
  assert.deepEqual(report.differences, []);
  let last = '';
  await until(async () => {
    const { phase, problem } = await lifeboat.status('shop');
    last = JSON.stringify({ phase, problem });
    return phase === 'routine' && problem === null;
  }, 'nothing is said to be wrong').catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last}`);
  });
}

/** On which members the collection was read, by their profilers, while `run` ran: `primary` or `secondary`. */
async function readOn(run: () => Promise<void>): Promise<string[]> {
  const all = lifeboat.source.members.map((_, index) => index);
  for (const index of all) {
    await direct(index, async (client) => {
      await client.db('shop').command({ profile: 0 });
      await client.db('shop').command({ profile: 2 });
    });
  }
  const since = new Date();
  await run();
  const found: string[] = [];
  for (const index of all) {
    await direct(index, async (client) => {
      const filter = { ns: 'shop.items', appName: { $regex: /^lifeboat/ }, ts: { $gte: since } };
      const reads = await client.db('shop').collection('system.profile').countDocuments(filter);
      const { isWritablePrimary } = await client.db('admin').command({ hello: 1 });
      if (reads > 0) found.push(isWritablePrimary === true ? 'primary' : 'secondary');
      await client.db('shop').command({ profile: 0 });
    });
  }
  return found;
}

test('documents are read on a secondary, and on the primary where the configuration says so', async () => {
  for (const [readFrom, wanted] of [
    [undefined, 'secondary'],
    ['primary', 'primary'],
  ] as const) {
    const source = await openSource({ name: 'read', uri: lifeboat.source.uri, readFrom });
    try {
      const { stores } = lifeboat;
      const fence = await newFence(stores, source, `read-${wanted}`);
      const deployment = { stores, source, fence, arrivals: new Arrivals() };
      const members = await readOn(async () => {
        await beginSync(stepContext(), deployment);
        assert.ok((await copySource(stepContext(), { ...deployment, slicesInFlight: 2 }, { maxMs: 60_000 })).finished);
      });
      assert.deepEqual(members, [wanted]);
    } finally {
      await source.close();
    }
  }
});

test('an election, and a member that is killed while it is copied from, cost an initial sync nothing but time', async () => {
  const slow = { limits: { sourceReadMiBps: 0.1 } };
  await lifeboat.configure({ shop: lifeboat.source.uri }, slow);
  await lifeboat.startBackup('shop');
  const copies = async (): Promise<boolean> => {
    const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
    return (
      record !== null && (await lifeboat.stores.slices.findOne({ '_id.incarnation': record.incarnation })) !== null
    );
  };
  await until(copies, 'it copies', 120_000);
  await stepDown();
  const record = await lifeboat.stores.members.findOne({ deployment: 'shop' });
  const port = Number(record?.sync?.readFrom.split(':')[1]);
  const index = lifeboat.source.members.findIndex(({ address }) => 'port' in address && address.port === port);
  assert.equal(record?.phase, 'initial-sync');
  await killAndRestart(index);
  await until(
    async () => (await lifeboat.status('shop')).members[0]?.progress?.limitPerSecond === 0.1 * MIB,
    'the status shows the limit',
  );
  assert.equal((await lifeboat.status('shop')).phase, 'initial-sync');
  // An edit of the file is followed by the copy that is under way.
  await lifeboat.configure({ shop: lifeboat.source.uri });
  const editedAt = performance.now();
  await lifeboat.untilPhase('shop', 'routine', 120_000);
  assert.ok(performance.now() - editedAt < 100_000);
  await proveSound();
});

test('an election and a killed member are ridden out in routine operation', async () => {
  await write('before');
  await stepDown();
  await untilApplied(await write('after the election'));
  assert.equal((await lifeboat.status('shop')).phase, 'routine');
  const old = await primary();
  for (const index of [0, 1, 2].filter((other) => other !== old)) {
    await killAndRestart(index);
    await untilApplied(await write(`after ${index} was killed`));
  }
  await killAndRestart(old);
  await primary();
  await proveSound();
});
