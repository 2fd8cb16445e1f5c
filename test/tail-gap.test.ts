import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { endOfChain } from '../src/oplogstore/batches.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { compareOptimes } from '../src/shared/optime.ts';
import { oldestEntry } from '../src/source/positions.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { until } from './support/replica-set.ts';
import { openSyncLab, stepContext } from './support/sync.ts';

const never = new AbortController().signal;

test('a source whose oplog has run past the end of the chain is a gap, not read over', async () => {
  // Entries behind the last checkpoint are never cut off, and there is one a minute by default.
  await using lab = await openSyncLab({ extraArgs: ['--oplogSize', '8', '--syncdelay', '1'] });
  const deployment = await lab.begin();
  const plan = await beginSync(stepContext(), deployment);
  await tailOplog(stepContext(), deployment, { maxMs: 300 });
  const end = (await endOfChain(lab.stores, deployment.fence.incarnation)) ?? fromStoredPosition(plan.beginFetching);
  const things = lab.set.client.db('flood').collection('things');
  await until(async () => {
    await things.insertMany(Array.from({ length: 8 }, () => ({ bytes: randomBytes(500_000) })));
    const oldest = await oldestEntry(lab.set.client, never);
    return oldest !== undefined && compareOptimes(oldest, end.ts) > 0;
  }, 'the oplog begins after the chain');
  await assert.rejects(tailOplog(stepContext(), deployment, { maxMs: 1_000 }), { kind: 'OplogGap' });
  assert.deepEqual(await endOfChain(lab.stores, deployment.fence.incarnation), end);
});

test('a member whose oplog does not reach back to the chain is passed over for one whose does', async () => {
  await using lab = await openSyncLab({ members: 2 });
  const deployment = await lab.begin();
  await until(async () => {
    try {
      return Boolean(await beginSync(stepContext(), deployment));
    } catch (error) {
      // A secondary that was just started does not know of any majority.
      if (isLifeboatError(error, 'SourceNotReady')) return false;
      throw error;
    }
  }, 'the sync has begun');
  await tailOplog(stepContext(), deployment, { maxMs: 300 });
  const end = await endOfChain(lab.stores, deployment.fence.incarnation);
  assert.ok(end);
  await lab.set.client.db('shop').collection('orders').insertOne({ n: 1 });

  // Synced anew, the secondary has only the entries from then on.
  const { host = '', port = 0 } = lab.set.client.options.hosts[1] ?? {};
  lab.set.members[1]?.kill('SIGKILL');
  await lab.set.members[1]?.exited;
  await rm(join(lab.set.folder, `m${port}`), { recursive: true });
  await lab.set.restart(1);
  await until(async () => {
    const member = await lab.source.pinned(`${host}:${port}`).catch(() => undefined);
    const oldest = member && (await oldestEntry(member.client, never));
    await member?.close();
    return oldest !== undefined && compareOptimes(oldest, end.ts) > 0;
  }, 'the secondary is synced anew');
  await until(async () => {
    const member = await lab.source.pinned().catch(() => undefined);
    await member?.close();
    return member?.host === `${host}:${port}`;
  }, 'the secondary is read from');

  const { insertedId } = await lab.set.client.db('shop').collection('orders').insertOne({ n: 2 });
  assert.ok(insertedId);
  const { entries } = await tailOplog(stepContext(), deployment, { maxMs: 2_000 });
  assert.ok(entries >= 2, `${entries} entries were stored`);
});
