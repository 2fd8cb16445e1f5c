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
import { errorKind, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { RestorePoint } from '../shared/messages.ts';
import { compareOptimes, formatOptime, type Position } from '../shared/optime.ts';
import { formatRestoreTime, lastOptimeOf, type RestoreTime } from '../shared/restore-time.ts';
import type { Stores } from '../stores/connect.ts';
import type { DeploymentRecord, ManifestRecord, MemberRecord } from '../stores/records.ts';

/** What the stores hold of a deployment that can be restored. */
export interface Restorable {
  /** In no order. */
  readonly snapshots: readonly (ReplayBase & { readonly position: Position })[];
  readonly chains: ReplayChains;
}

/** What stops a head at an entry: what is stored behind that entry cannot be replayed neither. */
const STOPS_AT_AN_ENTRY: ReadonlySet<string> = new Set(
  (
    [
      'UnknownEntry',
      'EntryNotSupported',
      'ShadowedCollection',
      'Diverged',
      'FeatureVersionChanged',
      'IndexBuildFailed',
      'IndexFormRefused',
      'EntriesMissing',
      'EntriesDamaged',
    ] as const satisfies readonly ErrorName[]
  ).map((name) => errorKind(name).code),
);

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
    const [record, members] = await Promise.all([
      stores.deployments.findOne({ _id: deployment }),
      stores.members.find({ deployment }).toArray(),
    ]);
    const chains = new Map<string, ReplayChain>();
    for (const incarnation of new Set(manifests.map((one) => one.incarnation.toHexString()))) {
      const chain = await readChain(stores, ObjectId.createFromHexString(incarnation));
      if (chain) chains.set(incarnation, { ...chain, stops: stopsOf(incarnation, record, members) });
    }
    const snapshots = manifests.map(({ _id, incarnation, optime, oplogFrom, verification }) => ({
      id: _id,
      incarnation: incarnation.toHexString(),
      optime: fromTimestamp(optime.ts),
      position: fromStoredPosition(optime),
      oplogFrom: fromStoredPosition(oplogFrom),
      good: verification?.state !== 'different',
    }));
    return { snapshots, chains };
  } catch (error) {
    throw castDriverError(error, 'store', `reading what can be restored of ${deployment}`);
  }
}

function stopsOf(
  incarnation: string,
  record: DeploymentRecord | null,
  members: readonly MemberRecord[],
): ReplayChain['stops'] {
  const member = members.find((one) => one.incarnation.toHexString() === incarnation);
  if (!member) return [];
  const stops = (member.replayStops ?? []).map(({ ts }) => fromTimestamp(ts));
  const isStuck = record?.problem && STOPS_AT_AN_ENTRY.has(record.problem.code);
  return isStuck && member.head ? [...stops, fromTimestamp(member.head.appliedThrough.ts)] : stops;
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
  const wanted = time ? lastOptimeOf(time) : newest;
  const base = baseFor(wanted, snapshots, chains);
  if (!base) {
    const { before, after } = nearestTo(wanted, ranges);
    const near = [before && `up to ${moment(before)}`, after && `from ${moment(after)} on`]
      .filter(Boolean)
      .join(' and ');
    const what = time ? formatRestoreTime(time) : 'the newest moment';
    throw new LifeboatError('TimeNotRestorable', `${deployment} cannot be restored to ${what}; it can ${near}`);
  }
  const incarnation = ObjectId.createFromHexString(base.incarnation);
  const until =
    compareOptimes(base.optime, wanted) === 0
      ? base.position
      : await lastEntryThrough(stores, incarnation, wanted, signal);
  if (compareOptimes(until.ts, base.optime) <= 0) return { snapshot: base.id, until: null, entries: 0, entryBytes: 0 };
  const { entries, bytes } = await countEntries(stores, incarnation, base.position, until, signal);
  return { snapshot: base.id, until, entries, entryBytes: bytes };
}

function noMoment(deployment: string, snapshots: number): LifeboatError {
  if (snapshots === 0) return new LifeboatError('UnknownSnapshot', `there is no snapshot of ${deployment}`);
  const what = `every snapshot of ${deployment} was found to differ from its source`;
  return new LifeboatError('TimeNotRestorable', `${what}; one that is named is restored as it is`);
}

function moment(optime: { readonly t: number; readonly i: number }): string {
  const wall = new Date(optime.t * 1000).toISOString().replace('.000Z', 'Z');
  return `${formatOptime(optime)} (${wall})`;
}
