/**
 * Step: watch how long the source's oplog still holds what is not stored yet, and whether the backup leaves out what its
 * configuration says, and warn in time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fromStoredPosition, toTimestamp } from '../mongo/positions.ts';
import { endOfChain } from '../oplogstore/batches.ts';
import { errorKind, isLifeboatError, LifeboatError } from '../shared/errors.ts';
import { compareOptimes, type Optime } from '../shared/optime.ts';
import { duration as durationText } from '../shared/phrases.ts';
import type { PinnedMember, Source } from '../source/connect.ts';
import { isSameFilter } from '../source/filter.ts';
import { isTelling, oplogWindow, readOplogExtent, secondsLeft, type OplogExtent } from '../source/oplog-window.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { StoredProblem } from '../stores/records.ts';
import { writeJudgement, type Judgement } from '../stores/warnings.ts';
import type { StepContext } from './context.ts';

/** How often the oplog is looked at, in milliseconds. */
export const OPLOG_LOOK_MS = 60_000;

const JUDGED = [errorKind('OplogWindowTooShort').code, errorKind('OplogRunningOut').code];

/** What the configuration of a deployment says now. */
export interface Watched {
  readonly minOplogWindowMs: number;
  readonly exclude: readonly string[];
}

export interface OplogWatch {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly watched: Watched;
}

/** What the list of an initial sync gives to warn of. @param held by the backup @param wanted by the configuration */
export function judgeExclude(held: readonly string[], wanted: readonly string[]): Judgement {
  const judged = [errorKind('ExcludeChanged').code];
  if (isSameFilter(held, wanted)) return { judged, found: [] };
  const message = `the backup leaves out ${listed(held)}, as its initial sync did; the configuration says ${listed(wanted)}`;
  return { judged, found: [new LifeboatError('ExcludeChanged', message)] };
}

function listed(patterns: readonly string[]): string {
  return patterns.length === 0 ? 'nothing' : patterns.join(', ');
}

/** What an oplog gives to warn of. @param stored the newest optime that is stored */
export function judgeOplog(host: string, extent: OplogExtent, stored: Optime, leastMs: number): Judgement {
  const window = oplogWindow(extent);
  const left = secondsLeft(extent, stored);
  const least = durationText(leastMs);
  const wide = window.windowSeconds * 1000 >= leastMs;
  if (!isTelling(window, leastMs / 1000)) return { judged: JUDGED, found: [] };
  if (!wide) {
    const message = `the oplog of ${host} holds ${durationText(window.windowSeconds * 1000)} at its present rate, less than minOplogWindow ${least}`;
    return { judged: JUDGED, found: [new LifeboatError('OplogWindowTooShort', message)] };
  }
  if (left * 1000 >= leastMs) return { judged: JUDGED, found: [] };
  const message =
    compareOptimes(extent.oldest, stored) > 0
      ? `the oplog of ${host} no longer holds what was not read yet`
      : `the oplog of ${host} holds what was not read yet for another ${durationText(Math.max(0, left) * 1000)} at its present rate; minOplogWindow is ${least}`;
  return { judged: JUDGED, found: [new LifeboatError('OplogRunningOut', message)] };
}

/**
 * Looks once and notes what there is.
 * @returns all warnings of the member
 * @throws LifeboatError `FenceLost`, `StoreUnavailable`; the driver's errors
 */
export async function noteOplog(
  { stores, fence, watched }: OplogWatch,
  { host, client }: PinnedMember,
  stored: Optime,
  signal: AbortSignal,
): Promise<readonly StoredProblem[] | undefined> {
  const extent = await readOplogExtent(client, signal);
  if (!extent) return undefined;
  const { sync } = await readMember(stores, fence);
  const ofOplog = judgeOplog(host, extent, stored, watched.minOplogWindowMs);
  const ofExclude = judgeExclude(sync ? (sync.exclude ?? []) : watched.exclude, watched.exclude);
  const judgement = {
    judged: [...ofOplog.judged, ...ofExclude.judged],
    found: [...ofOplog.found, ...ofExclude.found],
  };
  return writeJudgement(stores, fence, judgement, {
    oplog: {
      host,
      oldest: toTimestamp(extent.oldest),
      newest: toTimestamp(extent.newest),
      windowSeconds: Math.round(oplogWindow(extent).windowSeconds),
      leftSeconds: Math.round(secondsLeft(extent, stored)),
      at: new Date(),
    },
  });
}

/**
 * Watches for about `maxMs` while nothing is read, and returns sooner when there is something new to warn of. A source
 * that does not answer says nothing.
 * @throws LifeboatError `FenceLost`, `StoreUnavailable`; the signal's reason when it is aborted
 */
export async function watchOplog(
  ctx: StepContext,
  watch: OplogWatch,
  source: () => Promise<Source>,
  { maxMs }: { readonly maxMs: number },
): Promise<readonly StoredProblem[]> {
  const { stores, fence } = watch;
  const endAt = Date.now() + maxMs;
  const { warnings: before, sync } = await readMember(stores, fence);
  const begin = sync && fromStoredPosition(sync.beginFetching);
  for (;;) {
    const stored = (await endOfChain(stores, fence.incarnation)) ?? begin;
    const warnings = stored ? await lookOnce(ctx, watch, source, stored.ts) : undefined;
    if (warnings && codes(warnings) !== codes(before)) return warnings;
    const wait = Math.min(OPLOG_LOOK_MS, endAt - Date.now());
    if (wait > 0) await delay(wait, undefined, { signal: ctx.signal }).catch(() => undefined);
    ctx.signal.throwIfAborted();
    if (Date.now() >= endAt) return warnings ?? before;
  }
}

function codes(warnings: readonly StoredProblem[]): string {
  return warnings.map(({ code }) => code).join(' ');
}

/** Undefined when the source does not answer. */
async function lookOnce(
  ctx: StepContext,
  watch: OplogWatch,
  source: () => Promise<Source>,
  stored: Optime,
): Promise<readonly StoredProblem[] | undefined> {
  try {
    const member = await (await source()).pinned();
    try {
      return await noteOplog(watch, member, stored, ctx.signal);
    } finally {
      await member.close();
    }
  } catch (error) {
    ctx.signal.throwIfAborted();
    if (isLifeboatError(error, 'FenceLost')) throw error;
    ctx.logger.debug({ code: isLifeboatError(error) ? error.code : undefined }, 'the oplog could not be looked at');
    return undefined;
  }
}
