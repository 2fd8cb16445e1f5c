/** `backup status`: what the stores say of a backup, whether or not a worker runs. */
import { listSnapshots } from '../blockstore/snapshots.ts';
import { castDriverError } from '../mongo/errors.ts';
import { fromTimestamp } from '../mongo/positions.ts';
import { restorableRanges } from '../oplogstore/restorable.ts';
import { readRestorable } from '../restore/point.ts';
import { errorKind, LifeboatError } from '../shared/errors.ts';
import type {
  BackupStatus,
  MemberStatus,
  Phase,
  Problem,
  Progress,
  RestorableRange,
  SnapshotSummary,
} from '../shared/messages.ts';
import { compareOptimes } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { daemonState } from '../stores/daemons.ts';
import type { DaemonRecord, DeploymentRecord, MemberRecord, StoredProblem } from '../stores/records.ts';

/**
 * The status of one backup.
 * @throws LifeboatError `NoBackup` when none was ever started for it; `StoreUnavailable`
 */
export async function readStatus(stores: Stores, deployment: string): Promise<BackupStatus> {
  return reading(`reading the status of ${deployment}`, async () => {
    const record = await stores.deployments.findOne({ _id: deployment });
    if (!record) throw new LifeboatError('NoBackup', `there is no backup of ${deployment}`);
    const members = await stores.members.find({ deployment }).sort({ _id: 1 }).toArray();
    const snapshots = await listSnapshots(stores, deployment);
    const { snapshots: bases, chains } = await readRestorable(stores, deployment);
    const status = statusOf(record, members, snapshots, restorableRanges(bases, chains));
    return withSilence(status, members, await stores.daemons.find({}).toArray(), await stores.now());
  });
}

/** The status of every backup that was ever started, by name. */
export async function readStatuses(stores: Stores): Promise<BackupStatus[]> {
  return reading('reading the status of all backups', async () => {
    const deployments = await stores.deployments.find({}).sort({ _id: 1 }).toArray();
    const members = await stores.members.find({}).sort({ _id: 1 }).toArray();
    const snapshots = await listSnapshots(stores);
    const daemons = await stores.daemons.find({}).toArray();
    const now = await stores.now();
    return Promise.all(
      deployments.map(async (record) => {
        const isOwn = ({ deployment }: { readonly deployment: string }): boolean => deployment === record._id;
        const own = members.filter(isOwn);
        const { snapshots: bases, chains } = await readRestorable(stores, record._id);
        const status = statusOf(record, own, snapshots.filter(isOwn), restorableRanges(bases, chains));
        return withSilence(status, own, daemons, now);
      }),
    );
  });
}

/** Puts the records of one deployment together. `snapshots` are its own, oldest first. */
export function statusOf(
  record: DeploymentRecord,
  members: readonly MemberRecord[],
  snapshots: readonly SnapshotSummary[],
  restorable: readonly RestorableRange[],
): BackupStatus {
  return {
    deployment: record._id,
    kind: record.kind,
    phase: record.phase,
    since: record.phaseSince.toISOString(),
    members: members.map(memberStatusOf),
    lastSnapshot: snapshots.at(-1) ?? null,
    restorable,
    problem: record.problem === null ? oldestWarning(record.phase, members) : problemOf(record.problem),
  };
}

/** A backup that should run, on a daemon that is not heard of: only others can tell. */
function withSilence(
  status: BackupStatus,
  members: readonly MemberRecord[],
  daemons: readonly DaemonRecord[],
  now: Date,
): BackupStatus {
  if (status.problem || !['initial-sync', 'routine'].includes(status.phase)) return status;
  const owners = new Set(members.map(({ owner }) => owner.daemon));
  const away = daemons.find((daemon) => owners.has(daemon._id) && daemonState(daemon, now) !== 'here');
  if (!away) return status;
  const { code, fix } = errorKind('DaemonSilent');
  const since = away.seenAt.toISOString();
  const message = `daemon ${away._id} on ${away.host}, which runs this backup, was last heard of at ${since}`;
  return { ...status, problem: { code, message, fix, since } };
}

function memberStatusOf(member: MemberRecord): MemberStatus {
  return {
    name: member.member,
    phase: member.phase,
    appliedThrough: member.head === null ? null : fromTimestamp(member.head.appliedThrough.ts),
    lagSeconds: lagSeconds(member),
    daemon: member.owner.daemon,
    progress: member.progress === null ? null : progressOf(member.progress),
    alongside: member.progress === null ? [] : (member.alongside ?? []).map(progressOf),
  };
}

/** Whole seconds of the source's own clock between the newest optime seen on it and what is applied; null while either is unknown. */
export function lagSeconds({ seen, head }: MemberRecord): number | null {
  if (seen === null || head === null) return null;
  const [newest, applied] = [fromTimestamp(seen.position.ts), fromTimestamp(head.appliedThrough.ts)];
  return compareOptimes(newest, applied) <= 0 ? 0 : newest.t - applied.t;
}

function progressOf({ stage, done, total, unit, perSecond, etaSeconds, limitPerSecond }: Progress): Progress {
  const limited = limitPerSecond === undefined ? {} : { limitPerSecond };
  return { stage, done, total, unit, perSecond, etaSeconds, ...limited };
}

/** The warning that has been there for longest. A backup that is over, or begins anew, has none. */
function oldestWarning(phase: Phase, members: readonly MemberRecord[]): Problem | null {
  if (phase === 'stopped' || phase === 'resync-needed') return null;
  const all = members.flatMap(({ warnings }) => warnings);
  const [oldest] = all.toSorted((a, b) => a.since.getTime() - b.since.getTime());
  return oldest ? { ...problemOf(oldest), warning: true } : null;
}

function problemOf({ code, message, fix, since }: StoredProblem): Problem {
  return { code, message, fix, since: since.toISOString() };
}

async function reading<T>(what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw castDriverError(error, 'store', what);
  }
}
