/** From which snapshot, and with which entries, a moment is restored. */
import { ObjectId } from 'mongodb';
import { IS_SNAPSHOT } from '../blockstore/manifest.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, fromTimestamp } from '../mongo/positions.ts';
import { countEntries, lastEntryThrough, readChain } from '../oplogstore/points.ts';
import {
  baseFor,
  nearestTo,
  restorableRanges,
  type ReplayBase,
  type ReplayChain,
  type ReplayChains,
} from '../oplogstore/restorable.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { RestorableRange, RestorePoint } from '../shared/messages.ts';
import { compareOptimes, formatOptime, type Optime, type Position } from '../shared/optime.ts';
import { formatRestoreTime, lastOptimeOf, type RestoreTime } from '../shared/restore-time.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord, MemberRecord } from '../stores/records.ts';

/** What the stores hold of a deployment that can be restored. */
export interface Restorable {
  /** In no order. */
  readonly snapshots: readonly (ReplayBase & { readonly position: Position })[];
  readonly chains: ReplayChains;
}

/** Reads it, from indexes alone: the answer comes soon however much there is. */
export async function readRestorable(stores: Stores, deployment: string): Promise<Restorable> {
  try {
    const manifests = await stores.manifests
      .find({ deployment, ...IS_SNAPSHOT })
      .project<Pick<ManifestRecord, '_id' | 'incarnation' | 'optime' | 'oplogFrom' | 'verification'>>({
        incarnation: 1,
        optime: 1,
        oplogFrom: 1,
        'verification.state': 1,
      })
      .toArray();
    const members = await stores.members.find({ deployment }).toArray();
    const found = manifests.map(({ _id, incarnation, optime, oplogFrom, verification }) => ({
      id: _id,
      incarnation: incarnation.toHexString(),
      optime: fromTimestamp(optime.ts),
      position: fromStoredPosition(optime),
      oplogFrom: fromStoredPosition(oplogFrom),
      good: verification?.state !== 'different',
    }));
    const syncs = members.flatMap((member) => [member, ...(member.former ?? [])]);
    const snapshots = withoutBad(found, syncs);
    const chains = new Map<string, ReplayChain>();
    for (const sync of syncs) {
      if ('otherHistory' in sync) continue;
      const chain = await readChain(stores, sync.incarnation);
      if (chain) chains.set(sync.incarnation.toHexString(), { ...chain, stops: stopsOf(sync, snapshots) });
    }
    return { snapshots, chains };
  } catch (error) {
    throw castDriverError(error, 'store', `reading what can be restored of ${deployment}`);
  }
}

type Sync = Pick<MemberRecord, 'incarnation' | 'replayStops' | 'differs'>;

/** Of a head that was found to differ from its source nothing is good from there on, whether it was compared or not. */
function withoutBad<S extends ReplayBase>(snapshots: readonly S[], syncs: readonly Sync[]): S[] {
  const noted = syncs.flatMap(({ incarnation, differs }) =>
    differs ? [{ incarnation: incarnation.toHexString(), optime: fromTimestamp(differs.ts) }] : [],
  );
  const bad = [...noted, ...snapshots.filter((one) => !one.good)];
  const isBad = ({ incarnation, optime }: ReplayBase): boolean =>
    bad.some((one) => one.incarnation === incarnation && compareOptimes(one.optime, optime) <= 0);
  return snapshots.map((one) => ({ ...one, good: !isBad(one) }));
}

/**
 * Where a replay ends: at the entries that are noted, and at the last good snapshot where a later one was found to differ from
 * its source. What led from the one to the other would lead there again, and nobody knows from where on it is wrong.
 */
function stopsOf({ incarnation, replayStops = [], differs }: Sync, snapshots: readonly ReplayBase[]): Optime[] {
  const own = snapshots.filter((one) => one.incarnation === incarnation.toHexString());
  const good = own.filter((one) => one.good).map(({ optime }) => optime);
  const isBroken = differs !== undefined || good.length < own.length;
  const last = isBroken ? good.toSorted(compareOptimes).slice(-1) : [];
  return [...replayStops.map(({ ts }) => fromTimestamp(ts)), ...last];
}

/**
 * Finds out how a moment is restored.
 * @param time undefined: the newest moment there is
 * @throws LifeboatError `TimeNotRestorable`, naming the nearest moments that are; `UnknownSnapshot` when there is none at
 *   all; `EntriesMissing`, `EntriesDamaged`; `StoreUnavailable` (retryable)
 */
export async function restorePoint(
  stores: Stores,
  deployment: string,
  time: RestoreTime | undefined,
  signal: AbortSignal,
): Promise<RestorePoint> {
  const { snapshots, chains } = await readRestorable(stores, deployment);
  const ranges = restorableRanges(snapshots, chains);
  const newest = ranges
    .map(({ to }) => to)
    .toSorted(compareOptimes)
    .at(-1);
  if (!newest) throw noMoment(deployment, snapshots.length);
  if (time) refuseUnrestorable(deployment, time, ranges);
  const wanted = time ? lastOptimeOf(time) : newest;
  const base = baseFor(wanted, snapshots, chains);
  if (!base) throw new LifeboatError('Internal', `no snapshot of ${deployment} leads to ${formatOptime(wanted)}`);
  const incarnation = ObjectId.createFromHexString(base.incarnation);
  const until =
    compareOptimes(base.optime, wanted) === 0
      ? base.position
      : await lastEntryThrough(stores, incarnation, wanted, signal);
  if (compareOptimes(until.ts, base.optime) <= 0) return { snapshot: base.id, until: null, entries: 0, entryBytes: 0 };
  const { entries, bytes } = await countEntries(stores, incarnation, base.position, until, signal);
  return { snapshot: base.id, until, entries, entryBytes: bytes };
}

/** @throws LifeboatError `TimeNotRestorable`, naming the nearest moments, when none of the ranges has it */
export function refuseUnrestorable(deployment: string, time: RestoreTime, ranges: readonly RestorableRange[]): void {
  const wanted = lastOptimeOf(time);
  if (ranges.some(({ from, to }) => compareOptimes(from, wanted) <= 0 && compareOptimes(wanted, to) <= 0)) return;
  const { before, after } = nearestTo(wanted, ranges);
  const near = [before && `up to ${moment(before)}`, after && `from ${moment(after)} on`].filter(Boolean).join(' and ');
  const what = `${deployment} cannot be restored to ${formatRestoreTime(time)}`;
  throw new LifeboatError('TimeNotRestorable', near === '' ? what : `${what}; it can ${near}`);
}

function noMoment(deployment: string, snapshots: number): LifeboatError {
  if (snapshots === 0) return new LifeboatError('UnknownSnapshot', `there is no snapshot of ${deployment}`);
  const what = `every snapshot of ${deployment} was found to differ from its source`;
  return new LifeboatError('TimeNotRestorable', `${what}; one that is named is restored as it is`);
}

function moment(optime: Optime): string {
  return `${formatOptime(optime)} (${formatRestoreTime({ second: optime.t })})`;
}
