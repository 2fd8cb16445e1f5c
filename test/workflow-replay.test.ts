/** The workflows of today replay the histories of real runs; a change that breaks one needs `patched`. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import {
  bundleWorkflowCode,
  DefaultLogger,
  Runtime,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { keptHistories } from './support/histories.ts';

const logger = new DefaultLogger('ERROR', () => undefined);
Runtime.install({ logger, telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' }, forward: {} } } });

async function bundle(file: string): Promise<WorkflowBundleWithSourceMap> {
  return bundleWorkflowCode({ workflowsPath: fileURLToPath(new URL(file, import.meta.url)), logger });
}

interface Started {
  readonly events: readonly [{ readonly workflowExecutionStartedEventAttributes: { readonly workflowId: string } }];
}

/** A backup looks at its own id. */
function workflowIdOf(history: unknown): string {
  return (history as Started).events[0].workflowExecutionStartedEventAttributes.workflowId;
}

const histories = await keptHistories();
const today = bundle('../src/workflows/index.ts');

test('there is a history of every workflow and of every way a backup goes', () => {
  const names = [...histories.keys()];
  assert.deepEqual(names, [
    'applyRetention',
    'backup-continued',
    'backup-failed',
    'backup-stopped',
    'deleteSnapshot',
    'groom',
    'holdSnapshot',
    'releaseSnapshot',
    'restore',
    'restoreToMoment',
    'snapshot',
    'verifySnapshot',
  ]);
});

for (const [name, history] of histories) {
  test(`${name} replays`, async () => {
    await Worker.runReplayHistory({ workflowBundle: await today }, history, workflowIdOf(history));
  });
}

test('a workflow that does something else than it did is found out', async () => {
  const workflowBundle = await bundle('./support/mutated-workflows.ts');
  const history = histories.get('backup-stopped');
  const running = Worker.runReplayHistory({ workflowBundle }, history, workflowIdOf(history));
  await assert.rejects(running, DeterminismViolationError);
});
