/** Reading what is kept in files that may be written anew, in place, at this very moment. */
import { setTimeout as delay } from 'node:timers/promises';
import { isLifeboatError, type ErrorName } from '../shared/errors.ts';

const PAUSE_MS = 200;
/** How long a secret that was there may be missing or empty before that is believed, in milliseconds. */
const PATIENCE_MS = 2_000;

/** What a file is refused for that is empty, gone or half itself. */
const HALF: ReadonlySet<ErrorName> = new Set(['SecretMissing', 'BadUri', 'StoreBadUri']);

/**
 * What `read` gives; if that is another text than `last`, not before it gives the same twice. A file that is written anew
 * in place is empty for a moment, or half of itself.
 * @param last what was read before, or undefined: then the first answer holds, whatever it is
 * @throws what `read` throws: `SecretMissing`, `BadUri` and `StoreBadUri` only once they last
 */
export async function steadily(read: () => string | Promise<string>, last: string | undefined): Promise<string> {
  if (last === undefined) return read();
  const giveUpAt = performance.now() + PATIENCE_MS;
  let before = last;
  for (;;) {
    try {
      const text = await read();
      if (text === before) return text;
      before = text;
    } catch (error) {
      if (!isLifeboatError(error) || !HALF.has(error.kind) || performance.now() > giveUpAt) throw error;
    }
    await delay(PAUSE_MS);
  }
}
