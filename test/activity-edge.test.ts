/** What leaves an activity: codes, never texts of a server; and how it is cancelled. */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'node:test';
import { ApplicationFailure, CancelledFailure } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { pino, type Logger } from 'pino';
import { asActivity } from '../src/activities/edge.ts';
import { errorKind, LifeboatError, type ErrorName } from '../src/shared/errors.ts';
import type { StepContext } from '../src/steps/context.ts';

const SECRET = 'E11000 dup key: { email: "someone@example.org" }';

function logging(): { readonly logger: Logger; readonly text: () => string } {
  const lines: string[] = [];
  return { logger: pino({ level: 'trace' }, { write: (line) => void lines.push(line) }), text: () => lines.join('') };
}

async function failureOf(error: unknown): Promise<{ readonly failure: ApplicationFailure; readonly log: string }> {
  const { logger, text } = logging();
  const failing = (): Promise<never> => asActivity(logger, () => Promise.reject(error as Error));
  const failure: unknown = await new MockActivityEnvironment().run(failing).catch((caught: unknown) => caught);
  assert.ok(failure instanceof ApplicationFailure);
  return { failure, log: text() };
}

test('an error of ours leaves with code, message and fix, and without its cause', async () => {
  const { failure, log } = await failureOf(
    new LifeboatError('AuthFailed', 'the login was refused', { cause: new Error(SECRET) }),
  );
  const { code, fix } = errorKind('AuthFailed');
  assert.deepEqual([failure.type, failure.message, failure.nonRetryable], [code, 'the login was refused', true]);
  assert.deepEqual(failure.details, [{ code, fix }]);
  assert.equal(failure.cause, undefined);
  assert.doesNotMatch(`${log}${failure.stack}`, /example\.org/);
});

test('what is retryable is retried, and what passes by itself raises no alarm', async () => {
  const kinds: ErrorName[] = ['SourceUnavailable', 'HeadLost', 'DiskFull', 'Internal'];
  for (const kind of kinds) {
    const { failure } = await failureOf(new LifeboatError(kind, 'it happened'));
    assert.equal(failure.nonRetryable, false);
    assert.equal(failure.category, errorKind(kind).owner === 'nobody' ? 'BENIGN' : undefined);
  }
});

test('an error that nobody foresaw leaves without a word of its text, and the log says only where it was', async () => {
  const error = Object.assign(new TypeError(SECRET), { code: 11000 });
  const { failure, log } = await failureOf(error);
  assert.equal(failure.type, errorKind('Internal').code);
  assert.doesNotMatch(`${log}${failure.message}${failure.stack}`, /example\.org/);
  assert.match(log, /activity-edge\.test\.ts/);
  assert.match(log, /TypeError/);
});

test('a cancelled step ends the activity as cancelled, whatever it threw', async () => {
  const { logger } = logging();
  const environment = new MockActivityEnvironment();
  const step = async ({ signal }: StepContext): Promise<void> => {
    await delay(60_000, undefined, { signal }).catch(() => undefined);
    throw new LifeboatError('SourceUnavailable', 'the connection was closed under the step');
  };
  const running = environment.run(() => asActivity(logger, step));
  environment.cancel('CANCELLED');
  await assert.rejects(running, CancelledFailure);
});

test('a step that works beats, with how far it is', async () => {
  const { logger } = logging();
  const environment = new MockActivityEnvironment();
  const beat = new Promise((settle) => environment.once('heartbeat', settle));
  const progress = { stage: 'copy', done: 1, total: 2, unit: 'bytes', perSecond: null, etaSeconds: null } as const;
  await environment.run(() =>
    asActivity(logger, async (ctx) => {
      ctx.report(progress);
      assert.deepEqual(await beat, progress);
    }),
  );
});
