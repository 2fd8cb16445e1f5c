/** Failures as workflows see and raise them. A plain Error would fail the workflow task for ever, not the workflow. */
import { ActivityFailure, ApplicationFailure, isCancellation, TimeoutFailure } from '@temporalio/workflow';
import { errorKind, errorNameOf, type ErrorName } from '../shared/errors.ts';

/** What is told of an error: its code, what happened, and what to do. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly fix: string;
}

/** The failure of that kind. */
export function failure(kind: ErrorName, message: string): Failure {
  const { code, fix } = errorKind(kind);
  return { code, message, fix };
}

/** What a workflow throws to end with `failed`. */
export function workflowFailure({ code, message, fix }: Failure): ApplicationFailure {
  return ApplicationFailure.create({ type: code, message, nonRetryable: true, details: [{ code, fix }] });
}

/** What ended an activity, or undefined when `error` is no failure of an activity. A cancellation is not for here. */
export function failureOf(error: unknown): Failure | undefined {
  if (error instanceof ActivityFailure)
    return failureOf(error.cause) ?? failure('Internal', `${error.activityType} failed`);
  if (error instanceof ApplicationFailure) {
    const kind = errorNameOf(error.type ?? '');
    return failure(kind ?? 'Internal', kind === undefined ? 'an activity failed' : error.message);
  }
  if (error instanceof TimeoutFailure) return failure('TimedOut', 'an activity did not end in its time');
  return undefined;
}

/** True when no worker took an activity up from its queue in time. */
export function wasNotTakenUp(error: unknown): boolean {
  if (error instanceof ActivityFailure) return wasNotTakenUp(error.cause);
  return error instanceof TimeoutFailure && error.timeoutType === 'SCHEDULE_TO_START';
}

/** True when the failure is of that kind. */
export function isKind({ code }: Failure, kind: ErrorName): boolean {
  return code === errorKind(kind).code;
}

/** What a workflow throws for what it caught: a failed activity fails it with that failure's own code. */
export function castFailure(error: unknown): unknown {
  const found = isCancellation(error) ? undefined : failureOf(error);
  return found ? workflowFailure(found) : error;
}

/** Runs activities so that what fails them fails the workflow with the same code. */
export async function failingWithCode<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castFailure(error);
  }
}
