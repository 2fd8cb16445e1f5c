/** What the gauges of a worker show: the stores' records of the backups that its daemon owns, and its heads. */
import { IS_SNAPSHOT } from '../blockstore/manifest.ts';
import type { MemberRecord } from '../stores/records.ts';
import type { Stores } from '../stores/connect.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromTimestamp } from '../mongo/positions.ts';
import { PHASES } from '../shared/messages.ts';
import { lagSeconds } from '../status/backup-status.ts';
import type { Reading } from './registry.ts';

/** A head that the worker holds. */
export interface HeldHead {
  readonly deployment: string;
  readonly member: string;
  readonly up: boolean;
}

/**
 * One deployment is shown by one daemon, the one that owns a member of it.
 * @throws LifeboatError `StoreUnavailable`
 */
export async function storeReadings(stores: Stores, daemon: string): Promise<Reading[]> {
  try {
    const members = await stores.members.find({ 'owner.daemon': daemon }).sort({ _id: 1 }).toArray();
    const names = [...new Set(members.map(({ deployment }) => deployment))];
    const deployments = await Promise.all(names.map((name) => deploymentReadings(stores, name)));
    const ofMembers = await Promise.all(members.map((member) => memberReadings(stores, member)));
    return [...deployments.flat(), ...ofMembers.flat()];
  } catch (error) {
    throw castDriverError(error, 'store', 'reading the figures of the backups');
  }
}

export function headReadings(heads: readonly HeldHead[]): Reading[] {
  return heads.map(({ deployment, member, up }) => ({
    name: 'lifeboat_head_up',
    labels: { deployment, member },
    value: up ? 1 : 0,
  }));
}

async function deploymentReadings(stores: Stores, deployment: string): Promise<Reading[]> {
  const [record, snapshots, newest] = await Promise.all([
    stores.deployments.findOne({ _id: deployment }),
    stores.manifests.countDocuments({ deployment, ...IS_SNAPSHOT }),
    stores.manifests.findOne({ deployment, ...IS_SNAPSHOT }, { sort: { 'optime.ts': -1 } }),
  ]);
  const readings: Reading[] = [{ name: 'lifeboat_snapshots', labels: { deployment }, value: snapshots }];
  for (const phase of record ? PHASES : []) {
    readings.push({ name: 'lifeboat_phase', labels: { deployment, phase }, value: record?.phase === phase ? 1 : 0 });
  }
  if (record?.problem) {
    readings.push({ name: 'lifeboat_problem', labels: { deployment, code: record.problem.code }, value: 1 });
  }
  if (newest) {
    readings.push(
      {
        name: 'lifeboat_newest_snapshot_timestamp_seconds',
        labels: { deployment },
        value: fromTimestamp(newest.optime.ts).t,
      },
      { name: 'lifeboat_newest_snapshot_bytes', labels: { deployment }, value: newest.logicalBytes },
    );
  }
  return readings;
}

async function memberReadings(stores: Stores, record: MemberRecord): Promise<Reading[]> {
  const { deployment, member, seen, progress } = record;
  const labels = { deployment, member };
  const lag = lagSeconds(record);
  // A worker of an earlier version left a record without it.
  const window = (record.oplog as MemberRecord['oplog'] | undefined)?.leftSeconds ?? null;
  const validatedAt = await lastValidatedAt(stores, record);
  const comparedAt = await lastComparedAt(stores, record);
  return [
    ...reading('lifeboat_lag_seconds', labels, lag),
    ...reading('lifeboat_source_seen_timestamp_seconds', labels, seen && seen.at.getTime() / 1000),
    ...reading('lifeboat_oplog_window_left_seconds', labels, window),
    ...reading('lifeboat_last_validated_timestamp_seconds', labels, validatedAt && validatedAt.getTime() / 1000),
    ...reading('lifeboat_last_compared_timestamp_seconds', labels, comparedAt && comparedAt.getTime() / 1000),
    ...(progress?.total
      ? [
          {
            name: 'lifeboat_progress_ratio',
            labels: { ...labels, stage: progress.stage },
            value: Math.min(1, progress.done / progress.total),
          } as const,
        ]
      : []),
  ];
}

type PlainMemberGauge =
  | 'lifeboat_lag_seconds'
  | 'lifeboat_source_seen_timestamp_seconds'
  | 'lifeboat_oplog_window_left_seconds'
  | 'lifeboat_last_validated_timestamp_seconds'
  | 'lifeboat_last_compared_timestamp_seconds';

function reading(
  name: PlainMemberGauge,
  labels: { readonly deployment: string; readonly member: string },
  value: number | null,
): Reading[] {
  return value === null ? [] : [{ name, labels, value }];
}

/** When the head was last found equal to its source; null when it never was. */
async function lastValidatedAt(stores: Stores, { incarnation }: MemberRecord): Promise<Date | null> {
  const newest = await stores.validations.findOne({ incarnation, state: 'equal' }, { sort: { endedAt: -1 } });
  return newest?.endedAt ?? null;
}

/** When the newest snapshot was taken of which a part was compared, and equal; null when there is none. */
async function lastComparedAt(stores: Stores, { deployment, member, incarnation }: MemberRecord): Promise<Date | null> {
  const newest = await stores.manifests.findOne(
    { deployment, member, incarnation, 'verification.state': 'equal', ...IS_SNAPSHOT },
    { sort: { 'optime.ts': -1 }, projection: { createdAt: 1 } },
  );
  return newest?.createdAt ?? null;
}
