/** `lifeboat backup status --watch`: the status, again and again. */
import { setTimeout as delay } from 'node:timers/promises';
import type { BackupStatus } from '../../shared/messages.ts';
import type { CliContext } from '../context.ts';
import { asLifeboatError, errorDocument } from '../outcome.ts';
import { plainLine } from '../progress.ts';
import { screenOf, type Screen } from '../screen.ts';
import { duration, time } from '../text.ts';
import { readOneOrAll, statusesText, statusText, viewOfStatus } from './backup.ts';

/** Each time opens its own connection. */
const LEAST_INTERVAL_MS = 500;

/**
 * Shows the status until it is interrupted. On a terminal it is drawn anew each time; elsewhere there is a line for each
 * backup, or with `--json` one document in a line. Stores that do not answer for a while are told of and waited for.
 * @param intervalMs from one reading to the next
 * @throws LifeboatError what the first reading fails with
 */
export async function watchStatus(
  context: CliContext,
  name: string | undefined,
  intervalMs: number,
): Promise<'interrupted'> {
  const interrupted = context.interrupts.claim();
  const everyMs = Math.max(LEAST_INTERVAL_MS, intervalMs);
  const screen = screenOf(process.stdout, context.env);
  const isDrawn = screen.isLive && !context.json;
  let isFirst = true;
  while (!interrupted.aborted) {
    try {
      const statuses = await readOneOrAll(context, name);
      if (context.json) screen.line(JSON.stringify(name === undefined ? { deployments: statuses } : statuses[0]));
      else if (isDrawn) screen.draw(drawing(statuses, name, screen, everyMs));
      else for (const line of lines(statuses)) screen.line(line);
    } catch (error) {
      if (isFirst) throw error;
      const failure = asLifeboatError(error);
      if (context.json) screen.line(JSON.stringify({ error: errorDocument(failure) }));
      else if (isDrawn) screen.draw([screen.paint('red', `${failure.code} ${failure.message}`), failure.fix]);
      else screen.line(`${now()} ${failure.code} ${failure.message}`);
    }
    isFirst = false;
    await delay(everyMs, undefined, { signal: interrupted }).catch(() => undefined);
  }
  screen.end(true);
  return 'interrupted';
}

function now(): string {
  return time(new Date().toISOString());
}

function drawing(
  statuses: readonly BackupStatus[],
  name: string | undefined,
  screen: Screen,
  intervalMs: number,
): string[] {
  const [only] = statuses;
  const text = name !== undefined && only ? statusText(only, screen) : statusesText(statuses);
  return [...text.split('\n'), '', screen.paint('dim', `${now()}, every ${duration(intervalMs)}; Ctrl-C ends it.`)];
}

function lines(statuses: readonly BackupStatus[]): string[] {
  if (statuses.length === 0) return [`${now()} no backup was ever started here`];
  return statuses.map((status) => {
    const lags = status.members.flatMap(({ lagSeconds }) => (lagSeconds === null ? [] : [lagSeconds]));
    const lag = lags.length === 0 ? '' : `, lag ${duration(Math.max(...lags) * 1000)}`;
    return `${now()} ${plainLine(status.deployment, viewOfStatus(status))}${lag}`;
  });
}
