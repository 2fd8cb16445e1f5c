/** `lifeboat purge`: everything that is stored of a deployment removed, after its plan was shown. */
import { createInterface } from 'node:readline/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { LifeboatError } from '../../shared/errors.ts';
import type { PurgeInput, PurgePlan, PurgeResult } from '../../shared/messages.ts';
import { TASK_QUEUE, workflowIdOf } from '../../shared/names.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { promptly, withTemporal, type Temporal } from '../temporal.ts';
import { bytes, duration, fields, optime } from '../text.ts';
import { uniqueId, type WaitFlags } from '../work.ts';
import { deploymentAttribute } from './backup.ts';
import { settle } from './settle.ts';

export interface PurgeFlags extends WaitFlags {
  readonly dryRun?: true | undefined;
  readonly yes?: true | undefined;
}

export async function purge(context: CliContext, name: string, flags: PurgeFlags): Promise<Outcome> {
  const asks = process.stdin.isTTY && process.stderr.isTTY && !context.json;
  if (!flags.dryRun && !flags.yes && !asks) {
    throw new LifeboatError('BadUsage', 'purge asks before it removes anything; without a terminal it needs --yes');
  }
  return withTemporal(context, async (temporal) => {
    const planned = await plan(context, temporal, name, flags.timeout);
    if (flags.dryRun || planned.error) return planned;
    context.note(planned.text);
    if (!flags.yes && !(await confirmed(context, name))) {
      return { result: {}, text: '', error: new LifeboatError('Interrupted', 'nothing was removed') };
    }
    return remove(context, temporal, name, flags);
  });
}

async function start(
  temporal: Temporal,
  id: string,
  input: PurgeInput,
): Promise<WorkflowHandle & { readonly firstExecutionRunId: string }> {
  const { deployment, dryRun } = input;
  return promptly(temporal, () =>
    temporal.client.workflow.start('purge', {
      workflowId: workflowIdOf('purge', deployment, id),
      taskQueue: TASK_QUEUE,
      args: [input],
      typedSearchAttributes: deploymentAttribute(deployment),
      staticSummary: dryRun ? `Plan of a purge of ${deployment}` : `Purge of ${deployment}`,
    }),
  );
}

/** The plan is the answer, so it is always waited for. */
async function plan(
  context: CliContext,
  temporal: Temporal,
  name: string,
  timeout: number | undefined,
): Promise<Outcome> {
  const id = uniqueId();
  const handle = await start(temporal, id, { deployment: name, dryRun: true });
  return settle<PurgePlan>({
    context,
    temporal,
    handle,
    ids: { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id },
    flags: { wait: true, timeout },
    what: `the plan of the purge of ${name}`,
    hint: `see workflow ${handle.workflowId} in the Temporal UI`,
    outcome: (result) => ({ result, text: planText(result) }),
  });
}

async function remove(
  context: CliContext,
  temporal: Temporal,
  name: string,
  { wait, timeout }: PurgeFlags,
): Promise<Outcome> {
  const id = uniqueId();
  const handle = await start(temporal, id, { deployment: name });
  return settle<PurgeResult>({
    context,
    temporal,
    handle,
    ids: { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id },
    flags: { wait, timeout },
    what: `the purge of ${name}`,
    hint: `see workflow ${handle.workflowId} in the Temporal UI`,
    outcome: (result) => ({ result, text: purgedText(result) }),
  });
}

async function confirmed(context: CliContext, name: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const signal = context.interrupts.claim();
    const answer = await terminal.question(`None of this can be had back. Type ${name} to remove it: `, { signal });
    return answer.trim() === name;
  } catch {
    return false;
  } finally {
    terminal.close();
  }
}

function planText({
  deployment,
  snapshots,
  blocks,
  syncStore,
  oplogStore,
  heads,
  restores,
  waitsFor,
}: PurgePlan): string {
  const about = blocks.estimated ? 'about ' : '';
  const from =
    snapshots.oldest && snapshots.newest ? `, ${optime(snapshots.oldest)} to ${optime(snapshots.newest)}` : '';
  return fields([
    ['deployment', deployment],
    ['snapshots', `${snapshots.count}${from}`],
    ['blocks freed', `${blocks.freed}, ${about}${bytes(blocks.freedBytes)}`],
    ['blocks shared', `${blocks.shared} are another deployment's too, and stay`],
    ['slices', `${syncStore.slices}, ${bytes(syncStore.bytes)}`],
    ['oplog entries', `${oplogStore.batches} batches, ${bytes(oplogStore.bytes)}`],
    ['heads', heads.map(({ daemon, member, state }) => `${member} on ${daemon} (${state})`).join(', ') || 'none'],
    ['restores on record', String(restores)],
    ['waits for', waitsFor.map(({ purpose, daemon }) => `a ${purpose} on ${daemon}`).join(', ') || undefined],
  ]);
}

function purgedText({ deployment, deletedBlocks, reclaimedBytes, headsLeftOn, durationMs }: PurgeResult): string {
  const left = headsLeftOn.map(
    (daemon) =>
      `\nThe head on ${daemon} is still there: it goes when its worker runs again; if it never does, with its disk.`,
  );
  return (
    `Purged ${deployment}: ${deletedBlocks} blocks, ${bytes(reclaimedBytes)}, in ${duration(durationMs)}. ` +
    `Its entry in the configuration stays; \`lifeboat deployments remove ${deployment}\` takes it out.${left.join('')}`
  );
}
