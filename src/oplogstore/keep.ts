/** Which stored entries are still needed. Pure; design decision 6. */
import type { HeadPosition } from '../shared/messages.ts';
import { compareOptimes, earlierPosition, type Optime, type Position } from '../shared/optime.ts';

/** What is asked of a committed snapshot here. */
export interface KeptSnapshot {
  readonly optime: Optime;
  /** The first entry that a replay from the snapshot needs. */
  readonly oplogFrom: Position;
  /** Wall time of the source's entry at `optime`. */
  readonly wallTime: Date;
}

export interface KeepQuestion<S extends KeptSnapshot = KeptSnapshot> {
  /** How far back every optime must be restorable, in milliseconds; 0 keeps no entry that is applied. */
  readonly windowMs: number;
  readonly now: Date;
  readonly snapshots: readonly S[];
  /** Where the head durably stands. */
  readonly head: HeadPosition;
  /** Whether the initial sync is validated. */
  readonly validated: boolean;
}

/**
 * The snapshot that the window rests on: the newest one at or before its begin. It must not be deleted. Undefined when
 * there is none, and when nothing rests on one because the window is 0.
 */
export function windowSnapshot<S extends KeptSnapshot>({
  windowMs,
  now,
  snapshots,
}: Pick<KeepQuestion<S>, 'windowMs' | 'now' | 'snapshots'>): S | undefined {
  if (windowMs === 0) return undefined;
  const begin = now.getTime() - windowMs;
  return snapshots
    .filter(({ wallTime }) => wallTime.getTime() <= begin)
    .reduce<S | undefined>(
      (best, one) => (best && compareOptimes(best.optime, one.optime) >= 0 ? best : one),
      undefined,
    );
}

/**
 * The snapshot that the stored entries rest on: of those that they go on from, the newest that is as old as the window, or
 * the oldest. Undefined when there is none, and with a window of 0.
 * @param begin the first stored entry
 */
export function baseOfEntries<S extends KeptSnapshot>(
  question: Pick<KeepQuestion<S>, 'windowMs' | 'now' | 'snapshots'>,
  begin: Position,
): S | undefined {
  if (question.windowMs === 0) return undefined;
  const snapshots = question.snapshots.filter(({ oplogFrom }) => compareOptimes(begin.ts, oplogFrom.ts) <= 0);
  const oldest = snapshots.toSorted((a, b) => compareOptimes(a.optime, b.optime))[0];
  return windowSnapshot({ ...question, snapshots }) ?? oldest;
}

/**
 * The first entry to keep, or null when every entry must stay: before the initial sync is validated, while the head is
 * not consistent, and while the window has no snapshot to rest on. An entry that the head still needs is always kept.
 */
export function keepEntriesFrom(question: KeepQuestion): Position | null {
  const { windowMs, head, validated } = question;
  if (!validated || head.inconsistentUntil !== null) return null;
  if (windowMs === 0) return head.oplogFrom;
  const base = windowSnapshot(question);
  if (!base) return null;
  return earlierPosition(base.oplogFrom, head.oplogFrom);
}
