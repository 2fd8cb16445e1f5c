/** Work that runs in Temporal: started, watched for an early failure, followed to its end. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  ApplicationFailure,
  CancelledFailure,
  defaultPayloadConverter,
  TerminatedFailure,
  WorkflowFailedError,
  WorkflowUpdateFailedError,
  type WorkflowExecutionDescription,
  type WorkflowHandle,
} from '@temporalio/client';
import { LifeboatError } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';
import type { CliContext } from './context.ts';
import { errorFrom, type Outcome } from './outcome.ts';
import { promptly, type Temporal } from './temporal.ts';
import { liveLines, plainLine, type View } from './progress.ts';
import type { Screen } from './screen.ts';
import { duration } from './text.ts';

/** What started work is known by. */
export interface Ids {
  readonly workflowId: string;
  readonly runId: string;
  readonly id: string;
}

export interface WaitFlags {
  readonly wait?: true | undefined;
  /** Milliseconds. */
  readonly timeout?: number | undefined;
}

/** The part of an id that tells one piece of work from the next; sorts by time. */
export function uniqueId(): string {
  const time = new Date()
    .toISOString()
    .replace(/[-:]|\.\d+/g, '')
    .toLowerCase();
  return `${time}-${randomBytes(3).toString('hex')}`;
}

/** Why a workflow or an update did not succeed, or undefined when `error` is of another kind. */
export function failureOfWork(error: unknown): LifeboatError | undefined {
  if (!(error instanceof WorkflowFailedError || error instanceof WorkflowUpdateFailedError)) return undefined;
  const { cause } = error;
  if (cause instanceof ApplicationFailure) return errorFrom(cause.type ?? 'no code', cause.message);
  if (cause instanceof CancelledFailure) return new LifeboatError('WorkCancelled', 'the work was cancelled');
  if (cause instanceof TerminatedFailure) return new LifeboatError('WorkCancelled', 'the workflow was terminated');
  return new LifeboatError('Internal', 'the workflow failed', { cause: error });
}

/** What a workflow came to. */
export type Ending<T> = { readonly result: T } | { readonly failure: LifeboatError };

export async function endingOf<T>(result: Promise<T>): Promise<Ending<T>> {
  try {
    return { result: await result };
  } catch (error) {
    const failure = failureOfWork(error);
    if (!failure) throw error;
    return { failure };
  }
}

export const NO_WORKER_YET = 'No worker has taken it up yet: `lifeboat up` or `lifeboat worker` starts one.';

const EARLY_POLL_MS = 300;

/** How work stands that was just started: `idle` while no worker has taken it up. */
export interface Beginning {
  readonly state: 'idle' | 'taken' | 'under-way' | 'ended';
  readonly failure?: LifeboatError | undefined;
}

/**
 * Watches work that was just started, so that what fails at once is told at once.
 * @param inspect asked about work that was taken up: whether it is past what fails early, or what is wrong with it
 */
export async function watchBeginning(
  temporal: Temporal,
  handle: WorkflowHandle,
  inspect: (activities: readonly string[]) => Promise<boolean | LifeboatError> | boolean,
  forMs: number,
): Promise<Beginning> {
  const deadline = performance.now() + forMs;
  let state: Beginning['state'] = 'idle';
  while (performance.now() < deadline) {
    const description = await promptly(temporal, () => handle.describe());
    if (description.status.name !== 'RUNNING') {
      const ending = await promptly(temporal, () => endingOf(handle.result()));
      return { state: 'ended', failure: 'failure' in ending ? ending.failure : undefined };
    }
    const activities = activityTypes(description);
    if (activities.length > 0) state = 'taken';
    if (state === 'taken') {
      const answer = await inspect(activities);
      if (answer instanceof LifeboatError) return { state, failure: answer };
      if (answer) return { state: 'under-way' };
    }
    await delay(EARLY_POLL_MS);
  }
  return { state };
}

/** Types of the activities that run or wait now. */
function activityTypes({ raw }: WorkflowExecutionDescription): string[] {
  return (raw.pendingActivities ?? []).flatMap(({ activityType }) => (activityType?.name ? [activityType.name] : []));
}

/** What the activities of a workflow last told, and what failed the last attempt of one that is tried again. */
export async function heartbeatView(temporal: Temporal, handle: WorkflowHandle): Promise<View> {
  const { raw } = await promptly(temporal, () => handle.describe());
  const pending = raw.pendingActivities ?? [];
  const working = pending
    .flatMap(({ heartbeatDetails }) => heartbeatDetails?.payloads ?? [])
    .flatMap((payload) => {
      const told = defaultPayloadConverter.fromPayload<Partial<Progress> | null | undefined>(payload);
      return told?.stage === undefined ? [] : [told as Progress];
    });
  const [failure] = pending.flatMap(({ lastFailure }) => (lastFailure ? [lastFailure] : []));
  const code = failure?.applicationFailureInfo?.type;
  const trouble = code ? `${code} ${failure.message ?? ''}; it is tried again` : null;
  return { phase: null, working, trouble };
}

/** How often progress is asked for, and how often it is told where lines cannot be rewritten. */
const TICK_MS = 1_000;
const LINE_EVERY_MS = 5_000;
/** After the first minute, so that the log of a long wait stays short. */
const LATER_LINE_EVERY_MS = 30_000;

/**
 * Follows work to its end, telling how it goes.
 * @param work settles when the work has ended
 * @param look how it goes now; a failure to find out is passed over
 * @param hint how to see the work when it is left
 * @returns what `work` came to, or why it was left: `Interrupted` or `TimedOut`
 */
export async function follow<T>(
  context: CliContext,
  { timeout }: WaitFlags,
  what: string,
  work: Promise<T>,
  look: () => Promise<View | undefined>,
  hint: string,
): Promise<{ readonly ended: T } | { readonly left: LifeboatError }> {
  const interrupted = context.interrupts.claim();
  const over = new AbortController();
  const ticker = tellProgress(context.progress, what, look, over.signal);
  const wait = <L>(ms: number, left: L): Promise<L> => delay(ms, left, { signal: over.signal });
  const leaving: Promise<{ readonly left: LifeboatError }>[] = [
    aborted(interrupted, over.signal).then(() => ({
      left: new LifeboatError('Interrupted', `${what} goes on; ${hint}`),
    })),
  ];
  if (timeout !== undefined) {
    leaving.push(
      wait(timeout, {
        left: new LifeboatError('TimedOut', `${what} is still at work after ${duration(timeout)}; ${hint}`),
      }),
    );
  }
  for (const promise of leaving) promise.catch(() => undefined);
  try {
    return await Promise.race([work.then((ended) => ({ ended })), ...leaving]);
  } finally {
    work.catch(() => undefined);
    over.abort();
    await ticker;
  }
}

async function aborted(signal: AbortSignal, unless: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((settle, fail) => {
    signal.addEventListener('abort', () => settle(), { once: true });
    unless.addEventListener('abort', () => fail(new Error('over')), { once: true });
  });
}

async function tellProgress(
  screen: Screen,
  what: string,
  look: () => Promise<View | undefined>,
  over: AbortSignal,
): Promise<void> {
  const ended = new Promise<void>((settle) => {
    over.addEventListener('abort', () => settle(), { once: true });
  });
  const from = performance.now();
  // What ends within the first tick needs no line.
  let nextLineAt = from + TICK_MS;
  const tick = async (): Promise<void> => {
    const view = await look().catch(() => undefined);
    const now = performance.now();
    if (over.aborted) return;
    if (screen.isLive) {
      screen.draw(liveLines(what, view, now - from, screen.columns(), screen));
    } else if (now >= nextLineAt) {
      screen.line(plainLine(what, view, now - from));
      nextLineAt = now + (now - from < 60_000 ? LINE_EVERY_MS : LATER_LINE_EVERY_MS);
    }
    await delay(TICK_MS);
  };
  // What takes long to say how it goes does not hold up the end.
  while (!over.aborted) await Promise.race([tick(), ended]);
  screen.end(false);
}

/** The answer for work that was started and is not waited for, or was left. */
export function startedOutcome(ids: Ids, text: string, error?: LifeboatError): Outcome {
  return { result: ids, text: error ? '' : text, error };
}
