/** A workflow of a deployment, started by a command and settled. */
import { TASK_QUEUE, workflowIdOf } from '../../shared/names.ts';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import { promptly, withTemporal } from '../temporal.ts';
import { uniqueId, type WaitFlags } from '../work.ts';
import { deploymentAttribute } from './backup.ts';
import { settle } from './settle.ts';

export interface WorkOrder<T> {
  readonly type: Parameters<typeof workflowIdOf>[0];
  readonly deployment: string;
  /** The one JSON object that the workflow takes. */
  readonly input: object;
  /** What the Temporal UI shows beside its id. */
  readonly summary: string;
  readonly flags: WaitFlags;
  /** For people: `the snapshot of shop`. */
  readonly what: string;
  /** How to see it later; the Temporal UI when left out. */
  readonly hint?: string;
  /** What its result is to the command. */
  readonly outcome: (result: T) => Outcome;
}

export async function runWork<T>(context: CliContext, order: WorkOrder<T>): Promise<Outcome> {
  const { type, deployment, input, summary, flags, what, outcome } = order;
  const id = uniqueId();
  return withTemporal(context, async (temporal) => {
    const handle = await promptly(temporal, () =>
      temporal.client.workflow.start(type, {
        workflowId: workflowIdOf(type, deployment, id),
        taskQueue: TASK_QUEUE,
        args: [input],
        typedSearchAttributes: deploymentAttribute(deployment),
        staticSummary: summary,
      }),
    );
    const ids = { workflowId: handle.workflowId, runId: handle.firstExecutionRunId, id };
    const hint = order.hint ?? `see workflow ${handle.workflowId} in the Temporal UI`;
    return settle<T>({ context, temporal, handle, ids, flags, what, hint, outcome });
  });
}
