/** A head that is ended at any moment, in every way, goes on without loss or double. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, test, type TestContext } from 'node:test';
import { parseEntry, positionOf } from '../src/head/entry.ts';
import type { HeadOwner } from '../src/head/owner.ts';
import type { HeadIdentity } from '../src/head/types.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { compareOptimes, type Position } from '../src/shared/optime.ts';
import { testFolder } from './support/folders.ts';
import { startHeadChild } from './support/head-child.ts';
import {
  applyAll,
  applyStubbornly,
  beginAt,
  headIdentity,
  headPid,
  newestEntry,
  oldestEntry,
  openHead,
  proveHead,
  rawEntries,
} from './support/head.ts';
import { Random, testSeed } from './support/random.ts';
import { startReplicaSet, until, type TestReplicaSet } from './support/replica-set.ts';
import { fillBase, SMALL_BASE } from './support/workload-data.ts';
import { startWriters } from './support/workload.ts';

/** What happened on the source, once for all tests: it stands still afterwards. */
let source: TestReplicaSet;
let begin: Position;
let end: Position;
let entries: Buffer;
let positions: Position[];

before(async () => {
  const random = new Random(testSeed());
  source = await startReplicaSet({ name: 'source' });
  begin = await oldestEntry(source.client);
  await fillBase(source.client, source.members[0]?.address ?? { port: 0 }, random);
  const writers = await startWriters(source.uri, { random, base: SMALL_BASE, pauseMs: 0 });
  await writers.takeSteps(700);
  await writers.stop();
  await writeLargeTransaction();
  end = await newestEntry(source.client);
  entries = await rawEntries(source.client, begin);
  positions = [];
  for (let at = 0; at < entries.length;) {
    const entry = parseEntry(entries, at);
    positions.push(positionOf(entry));
    at = entry.end;
  }
});

after(async () => {
  await source[Symbol.asyncDispose]();
});

/** More than fits one entry, or one batch. */
async function writeLargeTransaction(): Promise<void> {
  await source.client.db('large').createCollection('a');
  const session = source.client.startSession();
  await session.withTransaction(async () => {
    const large = source.client.db('large').collection<{ _id: number; filling: string }>('a');
    for (let n = 0; n < 20; n++) await large.insertOne({ _id: n, filling: 'x'.repeat(1024 * 1024) }, { session });
    await large.updateOne({ _id: 3 }, { $set: { last: true } }, { session });
  });
  await session.endSession();
}

function seeded(t: TestContext): Random {
  const random = new Random(testSeed());
  t.diagnostic(`LIFEBOAT_TEST_SEED=${random.seed}`);
  return random;
}

/** Opens the head again if it has ended; false when that only came to light now. */
async function answers(head: HeadOwner): Promise<boolean> {
  try {
    await head.attempt('build').turn((open) => open.save(open.record, { journaled: true }));
    return true;
  } catch (error) {
    if (isLifeboatError(error, 'HeadLost')) return false;
    throw error;
  }
}

async function assertEqual(head: HeadOwner, dataDir: string, identity: HeadIdentity): Promise<void> {
  assert.deepEqual(head.state().position?.appliedThrough, end);
  const { differences, comparedDocuments } = await proveHead(source.client, dataDir, head, identity);
  assert.deepEqual(differences, []);
  assert.ok(comparedDocuments > 1_000);
}

for (const atomic of [true, false]) {
  const road = atomic ? 'all or nothing' : 'behind marks';

  test(`entries applied ${road} give a head that equals its source`, async () => {
    await using folder = await testFolder();
    const identity = headIdentity();
    await using head = await openHead(folder.path, identity, { atomic });
    await beginAt(head, begin);
    await applyAll(head, entries);
    await assertEqual(head, folder.path, identity);
  });

  test(`a mongod that is killed again and again, batches ${road}, loses and doubles nothing`, async (t) => {
    const random = seeded(t);
    await using folder = await testFolder();
    const identity = headIdentity();
    await using head = await openHead(folder.path, identity, { atomic });
    await beginAt(head, begin);
    let inside = 0;
    for (let kill = 0; kill < 8; kill++) {
      const applied = applyAll(head, entries).then(
        () => 'applied',
        (error: unknown) => {
          assert.ok(isLifeboatError(error, 'HeadLost'), String(error));
          return 'lost';
        },
      );
      await delay(random.below(900));
      process.kill(await headPid(folder.path, identity), 'SIGKILL');
      await applied;
      await until(() => answers(head), 'the head is open again');
      const stands = head.state().position?.appliedThrough;
      assert.ok(stands);
      if (compareOptimes(stands.ts, begin.ts) > 0 && compareOptimes(stands.ts, end.ts) < 0) inside++;
    }
    t.diagnostic(`${inside} of 8 kills fell between the first and the last entry`);
    await applyAll(head, entries);
    await assertEqual(head, folder.path, identity);
  });
}

test('a head whose connection breaks goes on in a new mongod from where it durably stood', async (t) => {
  const random = seeded(t);
  await using folder = await testFolder();
  const identity = headIdentity();
  await using head = await openHead(folder.path, identity);
  await beginAt(head, begin);
  for (let cut = 0; cut < 4; cut++) {
    const pid = await headPid(folder.path, identity);
    const attempt = head.attempt('apply');
    const broken = attempt.turn(async (open) => {
      setTimeout(() => open.socket.close(), random.below(600));
      await attempt.applier(open).run(entries);
      await until(() => open.socket.lost, 'the connection is broken');
      await open.save(open.record, { journaled: true });
    });
    await assert.rejects(broken, (error) => isLifeboatError(error, 'HeadLost'));
    await head.attempt('build').turn(() => Promise.resolve());
    assert.notEqual(await headPid(folder.path, identity), pid);
  }
  await applyAll(head, entries);
  await assertEqual(head, folder.path, identity);
});

test('a worker that is killed leaves a mongod that the next one ends, and a head that it goes on with', async (t) => {
  const random = seeded(t);
  await using folder = await testFolder();
  const identity = headIdentity();
  const first = await openHead(folder.path, identity);
  await beginAt(first, begin);
  await first.close();
  const path = join(folder.path, 'entries');
  await writeFile(path, entries);
  let epoch = 1;
  for (const atomic of [true, false, true]) {
    epoch += 1;
    const child = startHeadChild({ dataDir: folder.path, identity, epoch, entries: path, atomic });
    await until(() => child.output() !== '', 'the child has opened the head');
    const left = await headPid(folder.path, identity);
    await delay(random.below(600));
    child.process.kill('SIGKILL');
    await child.exited;
    assert.equal(await headPid(folder.path, identity), left);
  }
  await using head = await openHead(folder.path, identity, { epoch: epoch + 1 });
  await applyAll(head, entries);
  await assertEqual(head, folder.path, identity);
});

test('a worker that was stopped and wakes up beside its successor changes nothing and is refused', async () => {
  await using folder = await testFolder();
  const identity = headIdentity();
  const first = await openHead(folder.path, identity);
  await beginAt(first, begin);
  await first.close();
  const path = join(folder.path, 'entries');
  await writeFile(path, entries);
  const child = startHeadChild({ dataDir: folder.path, identity, epoch: 2, entries: path, atomic: true });
  try {
    await until(() => child.output() !== '', 'the child has opened the head');
    child.process.kill('SIGSTOP');
    await using head = await openHead(folder.path, identity, { epoch: 3 });
    await applyAll(head, entries);
    const pid = await headPid(folder.path, identity);
    child.process.kill('SIGCONT');
    await child.exited;
    // It lost its mongod, and finds the newer claim when it opens the head again; or had not begun to apply.
    assert.match(child.output(), /^open\nLB(4003|7004)\n$/);
    assert.equal(await headPid(folder.path, identity), pid);
    await assertEqual(head, folder.path, identity);
  } finally {
    child.process.kill('SIGKILL');
  }
});

test('entries applied again over what they made, from any place to any other, end in the same', async (t) => {
  const random = seeded(t);
  await using folder = await testFolder();
  const identity = headIdentity();
  await using head = await openHead(folder.path, identity);
  await beginAt(head, begin);
  const place = (n: number): Position => positions[n] ?? end;
  let stands = 0;
  for (let round = 0; round < 12; round++) {
    stands += random.below(positions.length - stands);
    const [until_, from] = [place(stands), place(random.below(stands + 1))];
    const attempt = head.attempt('apply');
    await attempt.turn((open) => attempt.applier(open).run(entries, until_));
    // What a crash leaves when everything was applied and nothing of it noted: the worst case of a mark.
    await attempt.turn(async (open) => {
      const position = { appliedThrough: from, oplogFrom: begin, inconsistentUntil: until_ };
      await open.save({ ...open.record, position }, { journaled: true });
    });
    await head
      .attempt('apply')
      .turn(() => Promise.reject(new Error('what was in memory is gone')))
      .catch(() => undefined);
  }
  assert.equal(await applyStubbornly(head, entries), 0);
  await assertEqual(head, folder.path, identity);
});
