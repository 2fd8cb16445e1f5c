/** What comes of work that was started: followed to its end, or left once it is known to run. */
import type { WorkflowHandle } from '@temporalio/client';
import type { CliContext } from '../context.ts';
import type { Outcome } from '../outcome.ts';
import type { Temporal } from '../temporal.ts';
import {
  endingOf,
  follow,
  heartbeatView,
  NO_WORKER_YET,
  startedOutcome,
  watchBeginning,
  type Ids,
  type WaitFlags,
} from '../work.ts';

export interface StartedWork<T> {
  readonly context: CliContext;
  readonly temporal: Temporal;
  readonly handle: WorkflowHandle;
  readonly ids: Ids;
  readonly flags: WaitFlags;
  /** For people: `the snapshot of shop`. */
  readonly what: string;
  /** How to see it later. */
  readonly hint: string;
  /** What its result is to the command. */
  readonly outcome: (result: T) => Outcome;
}

/** What cannot begin fails within this time of finding a worker. */
const START_WATCH_MS = 4_000;

export async function settle<T>(work: StartedWork<T>): Promise<Outcome> {
  const { context, temporal, handle, ids, flags, what, hint } = work;
  if (!flags.wait) {
    const { state, failure } = await watchBeginning(temporal, handle, () => false, START_WATCH_MS);
    if (state === 'idle') context.note(NO_WORKER_YET);
    return startedOutcome(ids, `Started ${what} (${ids.id}); ${hint}.`, failure);
  }
  const result = endingOf(handle.result() as Promise<T>);
  const outcome = await follow(context, flags, what, result, () => heartbeatView(temporal, handle), hint);
  if ('left' in outcome) return startedOutcome(ids, '', outcome.left);
  return 'failure' in outcome.ended
    ? startedOutcome(ids, '', outcome.ended.failure)
    : work.outcome(outcome.ended.result);
}
