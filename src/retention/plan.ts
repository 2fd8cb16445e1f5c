/**
 * Which snapshots of a deployment are kept, and what for. Pure.
 *
 * A tier keeps the newest snapshot of each of its last so many days, weeks, months or years (UTC) that have one; `latest`
 * the newest ones of all. Two rules have no exception: the last good snapshot is kept, and so are those that the window of
 * restores to a point in time rests on, now and next (design decision 6).
 */
import { windowSnapshot, type KeptSnapshot } from '../oplogstore/keep.ts';
import { compareOptimes, type Optime } from '../shared/optime.ts';

export const TIERS = ['latest', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type Tier = (typeof TIERS)[number];

/** How many each tier keeps; a tier that is not named keeps none. */
export type Keep = Readonly<Partial<Record<Tier, number>>>;

export type KeptFor =
  | Tier
  | 'no tier is configured'
  | 'held'
  | 'last good'
  | 'restores to a point in time'
  | 'newer than the latest good ones';

export interface RetainedSnapshot extends KeptSnapshot {
  readonly id: string;
  /** Entries of one initial sync are no use to a snapshot of another. */
  readonly incarnation: string;
  /** False when it was found to differ from its source. */
  readonly good: boolean;
  readonly held: boolean;
}

export interface RetentionQuestion {
  readonly snapshots: readonly RetainedSnapshot[];
  /** Null keeps all. */
  readonly keep: Keep | null;
  /** How far back every optime is to be restorable, in milliseconds. */
  readonly windowMs: number;
  readonly now: Date;
  /** Of the backup as it is now; null when there is none. */
  readonly incarnation: string | null;
  /** Ids of the snapshots that the stored entries rest on, as whoever removes entries has written down. */
  readonly bases: readonly string[];
  /** Optimes that no replay of those entries goes beyond: what comes behind rests on the next snapshot. */
  readonly stops?: readonly Optime[];
}

export interface RetentionVerdict {
  /** Newest first, each with all that it is kept for; nothing when it is to go. */
  readonly snapshots: readonly { readonly id: string; readonly keptFor: readonly KeptFor[] }[];
}

/**
 * What may not be deleted, by whomever, and why: by id. A hold is taken back first; the other two never are.
 */
export function pinsOf(question: Omit<RetentionQuestion, 'keep'>): ReadonlyMap<string, readonly KeptFor[]> {
  const { snapshots, windowMs, now, incarnation, bases, stops = [] } = question;
  const pins = new Map<string, KeptFor[]>();
  const pin = (snapshot: RetainedSnapshot | undefined, what: KeptFor): void => {
    if (!snapshot) return;
    const others = pins.get(snapshot.id) ?? [];
    if (!others.includes(what)) pins.set(snapshot.id, [...others, what]);
  };
  for (const snapshot of snapshots) if (snapshot.held) pin(snapshot, 'held');
  pin(newestFirst(snapshots).find(({ good }) => good) ?? newestFirst(snapshots)[0], 'last good');
  const good = snapshots.filter((snapshot) => snapshot.good);
  const needed = [baseOf(good, windowMs, now), ...basesOfChain(good, { windowMs, now, incarnation, stops })];
  const written = snapshots.filter(({ id }) => bases.includes(id));
  for (const base of [...needed, ...written]) pin(base, 'restores to a point in time');
  return pins;
}

/** The state at the begin of the window, whatever entries there are. */
function baseOf(snapshots: readonly RetainedSnapshot[], windowMs: number, now: Date): RetainedSnapshot | undefined {
  return windowSnapshot({ snapshots, windowMs, now });
}

type Stops = Required<Pick<RetentionQuestion, 'stops'>>;

/**
 * What the entries that are kept are replayed onto (without one that is as old as the window, the oldest of their chain),
 * and the next one, which takes its place when it is as old: without it the place would never be taken, and no entry go. And
 * the next one behind each place that no replay goes beyond.
 */
function basesOfChain(
  snapshots: readonly RetainedSnapshot[],
  { windowMs, now, incarnation, stops }: Pick<RetentionQuestion, 'windowMs' | 'now' | 'incarnation'> & Stops,
): readonly RetainedSnapshot[] {
  if (windowMs === 0) return [];
  const own = newestFirst(snapshots.filter((snapshot) => snapshot.incarnation === incarnation));
  const base = baseOf(own, windowMs, now) ?? own.at(-1);
  const firstBehind = (at: Optime): RetainedSnapshot | undefined =>
    own.findLast(({ optime }) => compareOptimes(optime, at) > 0);
  const behind = base ? [base.optime, ...stops.filter((stop) => compareOptimes(stop, base.optime) >= 0)] : [];
  return [base, ...behind.map(firstBehind)].filter((one) => one !== undefined);
}

/** Which snapshots stay, and for what. */
export function retentionOf(question: RetentionQuestion): RetentionVerdict {
  const { snapshots, keep } = question;
  const ordered = newestFirst(snapshots);
  const pins = pinsOf(question);
  const kept = new Map(ordered.map(({ id }) => [id, [...(pins.get(id) ?? [])]]));
  if (keep) {
    for (const [id, tier] of inTiers(ordered, keep)) kept.get(id)?.push(tier);
  } else {
    for (const reasons of kept.values()) if (reasons.length === 0) reasons.push('no tier is configured');
  }
  return { snapshots: ordered.map(({ id }) => ({ id, keptFor: kept.get(id) ?? [] })) };
}

function* inTiers(ordered: readonly RetainedSnapshot[], keep: Keep): Generator<readonly [id: string, tier: KeptFor]> {
  // One that differs from its source takes nobody's place.
  const good = ordered.filter((snapshot) => snapshot.good);
  for (const tier of TIERS) {
    const periods = new Set<string>();
    for (const { id, wallTime } of good) {
      const period = tier === 'latest' ? id : periodOf(tier, wallTime);
      if (periods.has(period)) continue;
      if (periods.size === (keep[tier] ?? 0)) break;
      periods.add(period);
      yield [id, tier];
    }
  }
  let newerGood = 0;
  for (const { id, good: isGood } of ordered) {
    if (isGood) newerGood += 1;
    else if (newerGood < (keep.latest ?? 0)) yield [id, 'newer than the latest good ones'];
  }
}

/** The day, week, month or year (UTC) that a time is in; a week is that of ISO 8601, from Monday on. */
function periodOf(tier: Exclude<Tier, 'latest'>, time: Date): string {
  const day = time.toISOString().slice(0, 10);
  switch (tier) {
    case 'daily':
      return day;
    case 'weekly': {
      const monday = new Date(`${day}T00:00:00Z`);
      monday.setUTCDate(monday.getUTCDate() - ((monday.getUTCDay() + 6) % 7));
      return monday.toISOString().slice(0, 10);
    }
    case 'monthly':
      return day.slice(0, 7);
    case 'yearly':
      return day.slice(0, 4);
  }
}

function newestFirst(snapshots: readonly RetainedSnapshot[]): readonly RetainedSnapshot[] {
  return snapshots.toSorted((a, b) => compareOptimes(b.optime, a.optime));
}
