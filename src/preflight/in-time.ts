/** Looking at something for a limited time, so that one thing that does not answer holds up no other. */
import { setTimeout as delay } from 'node:timers/promises';
import { castDriverError, type Side } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import { duration as durationText } from '../shared/phrases.ts';

/** What was found, or why it was not. */
export type Fact<T> = { readonly value: T } | { readonly error: LifeboatError };

export interface Look {
  /** For messages, such as `asking shop for its members`. */
  readonly what: string;
  /** Whose the driver's errors are. */
  readonly side: Side;
  /** Milliseconds. */
  readonly limit: number;
  readonly signal: AbortSignal;
}

/**
 * Runs `look` and gives it up after its limit: what does not heed its signal then goes on unwatched.
 * @throws the signal's reason when it is aborted; errors that are neither the driver's nor Lifeboat's
 */
export async function inTime<T>(look: Look, run: (signal: AbortSignal) => Promise<T>): Promise<Fact<T>> {
  const { what, side, limit, signal } = look;
  signal.throwIfAborted();
  const over = new AbortController();
  const late = delay(limit, undefined, { signal: AbortSignal.any([over.signal, signal]) }).then(() => {
    throw new LifeboatError('TimedOut', `${what}: no answer in ${durationText(limit)}`);
  });
  const work = run(AbortSignal.any([over.signal, signal]));
  try {
    return { value: await Promise.race([work, late]) };
  } catch (error) {
    signal.throwIfAborted();
    const cast = castDriverError(error, side, what);
    if (cast instanceof LifeboatError) return { error: cast };
    throw cast;
  } finally {
    work.catch(() => undefined);
    late.catch(() => undefined);
    over.abort();
  }
}
