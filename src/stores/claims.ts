/**
 * Claims: which daemon does the work on a deployment, and which epoch its writes show.
 *
 * An owner is sticky, because the head lies on its disk. Each run of the lifecycle raises the epoch, so that whatever
 * an earlier run left behind finds its writes refused.
 */
import { MongoServerError, ObjectId, type Document } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Claim, MemberClaim, Phase } from '../shared/messages.ts';
import { daemonTaskQueue, memberKey } from '../shared/names.ts';
import type { Stores } from './connect.ts';
import { findDaemon, isGone } from './daemons.ts';
import type { MemberFence } from './members.ts';
import type { FormerSync, MemberRecord } from './records.ts';

const DUPLICATE_KEY = 11000;

/** What a claim asks for. `claimant` is the daemon that runs the claim and takes what has no owner. */
export interface BackupClaimRequest {
  readonly deployment: string;
  readonly claimant: string;
  /**
   * Start over: the incarnation (hex) to be replaced by a new one. When the record already holds another, the
   * replacement was made by an earlier attempt of this claim and is kept.
   */
  readonly replace?: string;
  /** When the claimant may take over from an owner that is gone. Without it the owner stays. */
  readonly takeover?: TakeoverTerms;
  /** Only a takeover is asked for: while the owner is not gone its claim stays as it is, epoch and all. */
  readonly onlyTakeover?: boolean;
}

export interface TakeoverTerms {
  /** How long the owner must have been silent, in milliseconds; Infinity: until an operator retires it. */
  readonly afterMs: number;
  /**
   * Whether the claimant can do the work. Asked only once the owner is gone.
   * @param needsHead false when the head may be lost: its owner was retired, or the claim starts over
   */
  readonly ready: (member: MemberRecord, of: { readonly needsHead: boolean }) => Promise<boolean>;
}

/** The fence that a claim stands for. */
export function fenceOf(claim: MemberClaim): MemberFence {
  return { key: claim.key, incarnation: ObjectId.createFromHexString(claim.incarnation), epoch: claim.epoch };
}

/** The claim that a record stands for. */
export function claimOf(record: MemberRecord): MemberClaim {
  return {
    key: record._id,
    member: record.member,
    incarnation: record.incarnation.toHexString(),
    epoch: record.owner.epoch,
  };
}

/**
 * Claims a deployment for a run of its lifecycle: raises the epoch, so that every earlier claim loses its fence.
 * Of two claims at once one wins each epoch; the other reads again and takes the next.
 */
export async function claimBackup(stores: Stores, request: BackupClaimRequest): Promise<Claim> {
  return storing(`claiming ${request.deployment}`, async () => {
    for (;;) {
      const record = await stores.members.findOne({ deployment: request.deployment });
      if (!record) return placed(request.claimant, null);
      const replacing = request.replace !== undefined && record.incarnation.toHexString() === request.replace;
      const daemon = await nextOwner(stores, record, request, replacing);
      const moves = daemon !== record.owner.daemon;
      if (request.onlyTakeover && !moves) return placed(daemon, claimOf(record));
      const claimedAt = await stores.now();
      const raised = await stores.members.findOneAndUpdate(
        {
          _id: record._id,
          incarnation: record.incarnation,
          'owner.epoch': record.owner.epoch,
          // Of what goes into `former` nothing has changed since it was read.
          ...(replacing ? asItIs(record, ['keptFor', 'replayStops', 'otherHistory', 'differs', 'former']) : {}),
        },
        {
          $set: {
            owner: { daemon, epoch: record.owner.epoch + 1, claimedAt },
            ...(replacing
              ? {
                  incarnation: newIncarnation(claimedAt, record.incarnation),
                  phase: 'initial-sync',
                  sync: null,
                  head: null,
                  seen: null,
                  progress: null,
                  oplog: null,
                  warnings: [],
                  former: formerOf(record),
                }
              : // Of the new owner's head nothing is known yet.
                moves
                ? { head: null, progress: null }
                : {}),
          },
          ...(replacing ? { $unset: { keptFor: 1, replayStops: 1, otherHistory: 1, differs: 1 } } : {}),
        },
        { returnDocument: 'after' },
      );
      if (raised) return placed(daemon, claimOf(raised));
    }
  });
}

/** The initial syncs whose entries outlive a resync: those on which restores to a moment rest. */
function formerOf(record: MemberRecord): readonly FormerSync[] {
  const { incarnation, keptFor, replayStops = [], otherHistory, differs, former = [] } = record;
  const bases = keptFor?.bases ?? [];
  if (bases.length === 0 || otherHistory) return former;
  return [...former, { incarnation, bases, replayStops, ...(differs ? { differs } : {}) }];
}

/** A filter by which fields are as they were read. */
function asItIs(record: MemberRecord, names: readonly (keyof MemberRecord)[]): Document {
  return Object.fromEntries(names.map((name) => [name, record[name] ?? { $exists: false }]));
}

/**
 * The id of a new initial sync. Later ones are larger, because a head's directory tells by that which of two is newer:
 * the seconds in it are the blockstore's, and past those of the one it replaces, whatever clock made that.
 */
export function newIncarnation(now: Date, replaced?: ObjectId): ObjectId {
  const seconds = Math.floor(now.getTime() / 1000);
  const after = replaced ? Math.floor(replaced.getTimestamp().getTime() / 1000) + 1 : 0;
  const bytes = Buffer.from(new ObjectId().id);
  bytes.writeUInt32BE(Math.max(seconds, after), 0);
  return new ObjectId(bytes);
}

/** Who owns the member next: a claim goes to another daemon only by the terms of a takeover, also when it starts over. */
async function nextOwner(
  stores: Stores,
  record: MemberRecord,
  { claimant, takeover }: BackupClaimRequest,
  replacing: boolean,
): Promise<string> {
  const { daemon } = record.owner;
  if (daemon === claimant) return daemon;
  if (!takeover) return daemon;
  const [owner, witness] = await Promise.all([
    stores.daemons.findOne({ _id: daemon }),
    stores.daemons.findOne({ _id: claimant }),
  ]);
  if (!isGone(owner, witness, await stores.now(), takeover.afterMs)) return daemon;
  const needsHead = !replacing && owner?.retiredAt === undefined;
  return (await takeover.ready(record, { needsHead })) ? claimant : daemon;
}

/** What is known of a new member. */
export interface NewMember {
  readonly deployment: string;
  readonly source: MemberRecord['source'];
  readonly daemon: string;
  readonly phase: Phase;
}

/**
 * Makes the record of a member that is backed up for the first time. One that is already there, made by an earlier
 * attempt on this daemon, is claimed anew.
 * @throws LifeboatError `FenceLost` when another daemon owns it
 */
export async function createMember(stores: Stores, member: NewMember): Promise<MemberClaim> {
  const { deployment, source, daemon, phase } = member;
  const claimedAt = await storing(`claiming ${deployment}`, () => stores.now());
  const record: MemberRecord = {
    _id: memberKey(deployment, source.setName),
    deployment,
    member: source.setName,
    phase,
    source,
    incarnation: newIncarnation(claimedAt),
    owner: { daemon, epoch: 1, claimedAt },
    sync: null,
    head: null,
    seen: null,
    progress: null,
    oplog: null,
    warnings: [],
  };
  try {
    await stores.members.insertOne(record);
    return claimOf(record);
  } catch (error) {
    if (!(error instanceof MongoServerError) || error.code !== DUPLICATE_KEY) {
      throw castDriverError(error, 'store', `claiming ${deployment}`);
    }
  }
  const claim = await claimBackup(stores, { deployment, claimant: daemon });
  if (claim.member && claim.daemon === daemon) return claim.member;
  throw new LifeboatError('FenceLost', `daemon ${claim.daemon} owns ${deployment}`);
}

/**
 * Where work on the head of a running backup goes; raises nothing.
 * @throws LifeboatError `NoBackup`, or `BackupNotRunning` when its phase is not routine
 */
export async function claimHead(stores: Stores, deployment: string): Promise<Claim> {
  return storing(`looking for the backup of ${deployment}`, async () => {
    const record = await stores.members.findOne({ deployment });
    if (!record) throw new LifeboatError('NoBackup', `there is no backup of ${deployment}`);
    await requireRoutine(stores, deployment);
    return placed(record.owner.daemon, claimOf(record));
  });
}

/**
 * Passes when the backup is in routine operation.
 * @throws LifeboatError `BackupNotRunning`
 */
export async function requireRoutine(stores: Stores, deployment: string): Promise<void> {
  const phase = await storing(`reading the phase of ${deployment}`, async () => {
    const record = await stores.deployments.findOne({ _id: deployment });
    return record?.phase;
  });
  if (phase === 'routine') return;
  throw new LifeboatError(
    'BackupNotRunning',
    `the backup of ${deployment} is not in routine operation (${phase ?? 'stopped'})`,
  );
}

/**
 * Where work goes that any daemon can do: to the one that was asked for, else to the claimant.
 * @throws LifeboatError `DaemonUnknown`, `DaemonRetired`
 */
export async function claimDaemon(stores: Stores, claimant: string, requested?: string): Promise<Claim> {
  if (requested === undefined || requested === claimant) return placed(claimant, null);
  const { retiredAt } = await findDaemon(stores, requested);
  if (retiredAt) throw new LifeboatError('DaemonRetired', `daemon ${requested} was retired`);
  return placed(requested, null);
}

/** The daemon that owns a deployment, or undefined while none does. @throws LifeboatError `StoreUnavailable` */
export async function ownerOf(stores: Stores, deployment: string): Promise<string | undefined> {
  const record = await storing(`looking for the owner of ${deployment}`, () => stores.members.findOne({ deployment }));
  return record?.owner.daemon;
}

/** A claim that raises nothing. */
export function placed(daemon: string, member: MemberClaim | null): Claim {
  return { daemon, taskQueue: daemonTaskQueue(daemon), member };
}

async function storing<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castDriverError(error, 'store', what);
  }
}
