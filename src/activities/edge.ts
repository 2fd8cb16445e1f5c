/**
 * The edge between Temporal and the steps: one wrapper for all activities. Inside it there are heartbeats,
 * cancellations and failure types; behind it a StepContext and LifeboatErrors.
 */
import { ApplicationFailure, CancelledFailure, Context } from '@temporalio/activity';
import { ApplicationFailureCategory } from '@temporalio/common';
import type { Logger } from 'pino';
import { errorKind, LifeboatError } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';
import type { StepContext } from '../steps/context.ts';

/** How often an activity beats; the limit after which it counts as dead is in workflows/options.ts. */
const BEAT_MS = 2_000;

/** Who wants to know how an activity goes. */
export interface EdgeObserver {
  progress?(progress: Progress): void;
  /** It ran for a while, told of progress, or ended well: what ailed its last attempt is over. */
  well?(): void;
  /** It failed, and is tried again. */
  troubled?(error: LifeboatError): void;
  /** It failed with that code, whether or not it is tried again. */
  failed?(code: string): void;
  /** Called once, however it ended. */
  ended?(): void;
}

/** Tells each of them. */
export function allOf(observers: readonly EdgeObserver[]): EdgeObserver {
  return {
    progress: (progress) => {
      for (const one of observers) one.progress?.(progress);
    },
    well: () => {
      for (const one of observers) one.well?.();
    },
    troubled: (error) => {
      for (const one of observers) one.troubled?.(error);
    },
    failed: (code) => {
      for (const one of observers) one.failed?.(code);
    },
    ended: () => {
      for (const one of observers) one.ended?.();
    },
  };
}

/** The id of the workflow that the activity at hand belongs to. */
export function workflowAtHand(): string {
  return Context.current().info.workflowExecution?.workflowId ?? '';
}

/** Whether the activity at hand was tried before. */
export function isRetried(): boolean {
  return Context.current().info.attempt > 1;
}

/** An attempt that has run for this long has got past what made the last one fail. */
const WELL_AFTER_MS = 45_000;

/** Runs a step as the body of the activity at hand. */
export async function asActivity<T>(
  logger: Logger,
  run: (ctx: StepContext) => Promise<T>,
  observer?: EdgeObserver,
): Promise<T> {
  const context = Context.current();
  const { activityType, attempt, workflowExecution } = context.info;
  const log = logger.child({ activity: activityType, attempt, workflow: workflowExecution?.workflowId });
  const startedAt = Date.now();
  let latest: Progress | undefined;
  // The SDK thins heartbeats out. Details are a hint for people; the truth is stored with the data.
  const beat = setInterval(() => {
    context.heartbeat(latest);
    if (Date.now() - startedAt > WELL_AFTER_MS) observer?.well?.();
  }, BEAT_MS);
  const ctx: StepContext = {
    signal: context.cancellationSignal,
    report(progress) {
      latest = progress;
      observer?.progress?.(progress);
      observer?.well?.();
    },
    logger: log,
  };
  try {
    const result = await run(ctx);
    observer?.well?.();
    return result;
  } catch (error) {
    if (context.cancellationSignal.aborted) throw cancellation(context.cancellationSignal);
    if (error instanceof LifeboatError && error.retryable) observer?.troubled?.(error);
    const failure = failureFor(error, log);
    observer?.failed?.(failure.type ?? '');
    throw failure;
  } finally {
    clearInterval(beat);
    observer?.ended?.();
  }
}

function cancellation(signal: AbortSignal): CancelledFailure {
  return signal.reason instanceof CancelledFailure ? signal.reason : new CancelledFailure('CANCELLED');
}

/**
 * What leaves the process of an error: code, message and fix of a LifeboatError, and of anything else not a word. Its
 * cause stays behind, because server texts quote documents and keys (design decision 2).
 */
export function failureFor(error: unknown, logger: Logger): ApplicationFailure {
  const known = error instanceof LifeboatError ? error : unexpected(error, logger);
  const { code, message, fix, retryable, kind } = known;
  logger.warn({ code }, message);
  return ApplicationFailure.create({
    type: code,
    message,
    nonRetryable: !retryable,
    details: [{ code, fix }],
    ...(errorKind(kind).owner === 'nobody' ? { category: ApplicationFailureCategory.BENIGN } : {}),
  });
}

/** The log gets the place, never the text. */
function unexpected(error: unknown, logger: Logger): LifeboatError {
  const name = error instanceof Error ? error.name : typeof error;
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  const frames = error instanceof Error ? (error.stack?.split('\n').filter((line) => /^\s+at /.test(line)) ?? []) : [];
  logger.error({ error: name, errorCode: typeof code === 'object' ? undefined : code, frames }, 'unexpected error');
  return new LifeboatError('Internal', `unexpected ${name}`, { cause: error });
}
