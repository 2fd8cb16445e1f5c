/** A head that is gone after it was built and before it was validated: it is built once more, and nothing is read again. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Daemon } from '../src/activities/daemon.ts';
import { prepareMember } from '../src/activities/prepare.ts';
import { takeoverTerms } from '../src/activities/takeover.ts';
import { SecretCommands } from '../src/config/secret-command.ts';
import { fromStoredPosition } from '../src/mongo/positions.ts';
import { applyEntries } from '../src/steps/apply-entries.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { buildHead } from '../src/steps/build-head.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { finishSync } from '../src/steps/finish-sync.ts';
import { tailOplog } from '../src/steps/tail-oplog.ts';
import { claimBackup, fenceOf } from '../src/stores/claims.ts';
import { registerDaemon } from '../src/stores/daemons.ts';
import { readMember, type MemberFence } from '../src/stores/members.ts';
import type { MemberClaim } from '../src/shared/messages.ts';
import { ValidationLog } from '../src/validation/log.ts';
import { testFolder, type TestFolder } from './support/folders.ts';
import { openSyncLab, stepContext, type Deployment, type SyncLab } from './support/sync.ts';

const DOCUMENTS = 500;
const ctx = stepContext();

let lab: SyncLab;
let folder: TestFolder;
const daemons: Daemon[] = [];

before(async () => {
  lab = await openSyncLab();
  folder = await testFolder();
  const items = lab.set.client.db('shop').collection<{ _id: number }>('items');
  await items.insertMany(Array.from({ length: DOCUMENTS }, (_, n) => ({ _id: n })));
});

after(async () => {
  for (const daemon of daemons) await daemon.close();
  await folder?.[Symbol.asyncDispose]();
  await lab?.[Symbol.asyncDispose]();
});

async function openDaemon(id: string, blockstore: string): Promise<Daemon> {
  const home = join(folder.path, id);
  const configFile = join(folder.path, `${id}.json`);
  const config = {
    daemon: { id, dataDir: home, takeoverAfter: '30s', headCache: '256MiB' },
    deployments: { 'shop-1': { uri: lab.set.uri } },
  };
  await writeFile(configFile, JSON.stringify(config));
  const daemon = await Daemon.open({
    configFile,
    home,
    env: process.env,
    logger: ctx.logger,
    commands: new SecretCommands(process.env),
    storeUris: () => Promise.resolve({ blockstore }),
  });
  daemons.push(daemon);
  await registerDaemon(lab.stores, { id, host: 'h', pid: daemons.length, version: '0', process: id });
  return daemon;
}

/** All of an initial sync that is left until its head is whole. */
async function build(daemon: Daemon, deployment: Deployment, fence: MemberFence): Promise<void> {
  const { stores, source, arrivals } = deployment;
  const head = await daemon.heads.of(stores, fence);
  for (let finished = false; !finished;) {
    ({ finished } = await buildHead(ctx, { stores, fence, head }, { maxMs: 10_000 }));
  }
  const stop = (await readMember(stores, fence)).sync?.stop;
  assert.ok(stop);
  const until = fromStoredPosition(stop);
  for (let caughtUp = false; !caughtUp;) {
    await tailOplog(ctx, { stores, source, fence, arrivals }, { maxMs: 500 });
    const parts = { stores, fence, head, source: () => Promise.resolve(source), arrivals, windowMs: 0 };
    ({ caughtUp } = await applyEntries(ctx, parts, { maxMs: 5_000, until }));
  }
  await finishSync(ctx, { stores, fence, head });
}

test('a head that is lost between its building and its validation is built once more, here and by a takeover', async () => {
  const deployment = await lab.begin();
  const { stores, source, arrivals } = deployment;
  await stores.members.updateOne({ _id: deployment.fence.key }, { $set: { 'owner.daemon': 'd1' } });
  const first = await openDaemon('d1', lab.storesUri);
  const member = claimed(await claimBackup(stores, { deployment: 'shop-1', claimant: 'd1' }));
  const fence = fenceOf(member);
  await beginSync(ctx, { stores, source, fence });
  await tailOplog(ctx, { stores, source, fence, arrivals }, { maxMs: 1_000 });
  for (let finished = false; !finished;) {
    ({ finished } = await copySource(ctx, { stores, source, fence, slicesInFlight: 2 }, { maxMs: 5_000 }));
  }
  await build(first, deployment, fence);
  const prepared = await prepareMember(ctx, first, { deployment: 'shop-1', member });
  assert.equal(prepared.stage, 'validate');
  // Found equal, though nothing says so in the plan yet: of the head that is lost then.
  const log = await ValidationLog.open(stores, fence, { deployment: 'shop-1', member: member.member, inRepair: false });
  await log.end('equal');

  await first.heads.release(fence);
  await rm(join(folder.path, 'd1', 'heads'), { recursive: true });
  const again = await prepareMember(ctx, first, { deployment: 'shop-1', member });
  assert.deepEqual([again.stage, again.seed, again.member], ['sync', false, member]);
  const report = await stores.validations.findOne({ incarnation: fence.incarnation });
  assert.equal(report?.state, 'given-up');
  await build(first, deployment, fence);
  assert.equal((await readMember(stores, fence)).sync?.stage, 'built');

  const second = await openDaemon('d2', lab.storesUri);
  const hour = new Date(Date.now() - 3_600_000);
  await stores.daemons.updateOne({ _id: 'd1' }, { $set: { seenAt: hour } });
  await stores.daemons.updateOne({ _id: 'd2' }, { $set: { hereSince: hour } });
  const takeover = await takeoverTerms(second);
  const claim = await claimBackup(stores, { deployment: 'shop-1', claimant: 'd2', takeover, onlyTakeover: true });
  assert.equal(claim.daemon, 'd2');
  const taken = claimed(claim);
  const there = await prepareMember(ctx, second, { deployment: 'shop-1', member: taken });
  assert.deepEqual([there.stage, there.seed], ['sync', false]);
  await build(second, deployment, fenceOf(taken));
  const head = await second.heads.of(stores, fenceOf(taken));
  assert.equal(head.state().stage, 'consistent');
  assert.equal(taken.incarnation, member.incarnation);
});

function claimed({ member }: { readonly member: MemberClaim | null }): MemberClaim {
  assert.ok(member);
  return member;
}
