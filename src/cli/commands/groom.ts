/** `lifeboat groom`: the space of blocks that no snapshot refers to, freed. */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { LifeboatError } from '../../shared/errors.ts';
import type { GroomInput, GroomResult } from '../../shared/messages.ts';
import { groomWorkflowId, TASK_QUEUE } from '../../shared/names.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { promptly, withTemporal } from '../temporal.ts';
import { bytes, duration, fields } from '../text.ts';
import { uniqueId, type WaitFlags } from '../work.ts';
import { settle } from './settle.ts';

export interface GroomFlags extends WaitFlags {
  readonly dryRun?: true | undefined;
}

export async function groom(context: CliContext, { dryRun: plan, ...flags }: GroomFlags): Promise<Outcome> {
  const id = uniqueId();
  const dryRun = plan === true;
  const input: GroomInput = { dryRun };
  return withTemporal(context, async (temporal) => {
    const handle = await promptly(temporal, async () => {
      try {
        return await temporal.client.workflow.start('groom', {
          // Two at once would only read everything twice.
          workflowId: dryRun ? `${groomWorkflowId()}/${id}` : groomWorkflowId(),
          taskQueue: TASK_QUEUE,
          args: [input],
          staticSummary: dryRun ? 'Plan of a groom' : 'Groom',
        });
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
        throw new LifeboatError('GroomRuns', 'a groom is under way already', { cause: error });
      }
    });
    return settle<GroomResult>({
      context,
      temporal,
      handle,
      ids: { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id },
      // The plan is the answer.
      flags: dryRun ? { wait: true, timeout: flags.timeout } : flags,
      what: dryRun ? 'the plan of a groom' : 'the groom',
      hint: `see workflow ${handle.workflowId} in the Temporal UI`,
      outcome: (result) => ({ result, text: groomText(result) }),
    });
  });
}

function groomText(result: GroomResult): string {
  const { liveBlocks, liveBytes, deadBlocks, deadBytes, deletedBlocks, reclaimedBytes, reusableBytes, dryRun } = result;
  return fields([
    ['living blocks', `${liveBlocks}, about ${bytes(liveBytes)}`],
    ['dead blocks', `${deadBlocks}, about ${bytes(deadBytes)}`],
    ['deleted', dryRun ? 'nothing: this is the plan' : `${deletedBlocks}, ${bytes(reclaimedBytes)}`],
    [
      'room in the files',
      reusableBytes === null
        ? null
        : `${bytes(reusableBytes)} that blocks to come take first; \`compact\` of the collection blocks gives it back to the disk`,
    ],
    ['took', duration(result.durationMs)],
  ]);
}
