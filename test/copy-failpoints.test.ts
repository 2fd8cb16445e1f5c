import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Document } from 'mongodb';
import { isLifeboatError } from '../src/shared/errors.ts';
import { beginSync } from '../src/steps/begin-sync.ts';
import { copySource } from '../src/steps/copy-source.ts';
import { openSyncLab, stepContext, type Deployment, type SyncLab } from './support/sync.ts';

let lab: SyncLab;
before(async () => {
  lab = await openSyncLab({ setParameters: { enableTestCommands: true } });
});
after(() => lab?.[Symbol.asyncDispose]());

/** Lets a command of Lifeboat on the source fail while `body` runs. */
async function whileFailing(data: Document, body: () => Promise<unknown>): Promise<void> {
  const admin = lab.set.client.db('admin');
  const failPoint = { configureFailPoint: 'failCommand', data: { ...data, appName: 'lifeboat' } };
  await admin.command({ ...failPoint, mode: 'alwaysOn' });
  try {
    await body();
  } finally {
    await admin.command({ ...failPoint, mode: 'off' });
  }
}

async function ready(): Promise<Deployment> {
  const deployment = await lab.begin();
  await beginSync(stepContext(), deployment);
  return deployment;
}

const copy = (deployment: Deployment): Promise<unknown> =>
  copySource(stepContext(), { ...deployment, slicesInFlight: 1 }, { maxMs: 60_000 });

test('a source that goes away before anything is copied is unavailable, by that name', async () => {
  const deployment = await ready();
  const shutdownInProgress = 91;
  await whileFailing({ failCommands: ['dbStats'], errorCode: shutdownInProgress }, () =>
    assert.rejects(copy(deployment), (error) => isLifeboatError(error, 'SourceUnavailable')),
  );
});

test('a stop point that no majority comes to is not asked for without end', { timeout: 60_000 }, async () => {
  const deployment = await ready();
  await copy(deployment);
  await deployment.stores.members.updateOne({ _id: deployment.fence.key }, { $set: { 'sync.stop': null } });
  // What a member answers to the optime of a primary that it is cut off from.
  const invalidOptions = 72;
  await whileFailing({ failCommands: ['find'], errorCode: invalidOptions }, () =>
    assert.rejects(copy(deployment), (error) => isLifeboatError(error, 'SourceNotReady')),
  );
});
