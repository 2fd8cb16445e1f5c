/**
 * Deleting a snapshot: its header goes, and a groom frees what only it referred to.
 *
 * 1. It is marked, unless it is pinned. A hold that comes at the same time comes before the mark, which it prevents, or
 *    finds no snapshot.
 * 2. What relies on it is looked for after the mark. Whoever reads a snapshot takes a lease and looks for the snapshot after
 *    that; whoever removes entries writes down which snapshot the others rest on, and looks for it after that. So either
 *    that is seen now, and the mark is taken back, or the mark is seen, which is as good as no snapshot. A lease that has
 *    expired is revoked: only a write ends one, and its holder may still come back.
 * 3. The header is deleted.
 *
 * A mark whose writer died is nobody's: the next retention or groom ends that deletion or, when the snapshot is relied on by
 * then, takes the mark back.
 */
import { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, fromTimestamp } from '../mongo/positions.ts';
import { pinsOf, type RetainedSnapshot } from '../retention/plan.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { Optime } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord, StoredPosition } from '../stores/records.ts';
import { IS_SNAPSHOT, isGood } from './manifest.ts';

export interface DeletionRequest {
  readonly snapshot: string;
  /** How far back every optime of its deployment is to be restorable, in milliseconds. */
  readonly windowMs: number;
}

/** Snapshots of a deployment, as the rules of retention see them, with whose backup its entries are now. */
export interface Retained {
  readonly snapshots: readonly RetainedSnapshot[];
  readonly incarnation: string | null;
  /** For which entries are kept, by whoever applies them, in milliseconds: his configuration may be another. */
  readonly windowMs: number;
  /** Which the stored entries rest on. */
  readonly bases: readonly string[];
  /** Where a replay of them ends. */
  readonly stops: readonly Optime[];
  readonly now: Date;
}

type Told = Pick<ManifestRecord, '_id' | 'incarnation' | 'optime' | 'oplogFrom' | 'wallTime' | 'verification' | 'hold'>;

const TOLD = { incarnation: 1, optime: 1, oplogFrom: 1, wallTime: 1, 'verification.state': 1, hold: 1 } as const;

/** What there is of a deployment; what is marked is not there. */
export async function retainedOf(stores: Stores, deployment: string): Promise<Retained> {
  const found = await stores.manifests
    .find({ deployment, ...IS_SNAPSHOT })
    .project<Told>(TOLD)
    .toArray();
  const told = { incarnation: 1, keptFor: 1, replayStops: 1, differs: 1, 'former.bases': 1 };
  const member = await stores.members.findOne({ deployment }, { projection: told });
  const differsOf = (incarnation: ObjectId): StoredPosition | undefined =>
    member?.incarnation.equals(incarnation) ? member.differs : undefined;
  return {
    snapshots: found.map(({ _id, incarnation, optime, oplogFrom, wallTime, verification, hold }) => ({
      id: _id,
      incarnation: incarnation.toHexString(),
      optime: fromTimestamp(optime.ts),
      oplogFrom: fromStoredPosition(oplogFrom),
      wallTime,
      good: isGood({ optime, verification }, differsOf(incarnation)),
      held: hold !== undefined,
    })),
    incarnation: member?.incarnation.toHexString() ?? null,
    windowMs: member?.keptFor?.windowMs ?? 0,
    stops: (member?.replayStops ?? []).map(({ ts }) => fromTimestamp(ts)),
    bases: [...(member?.keptFor?.bases ?? []), ...(member?.former ?? []).flatMap(({ bases }) => bases)],
    now: await stores.now(),
  };
}

/** How often it is looked at anew, when somebody else was quicker. */
const MOST_LOOKS = 5;

/**
 * Deletes a snapshot.
 * @throws LifeboatError `UnknownSnapshot`; `SnapshotPinned` with what it is kept for; `SnapshotInUse` while it is read;
 *   `StoreUnavailable` (retryable)
 */
export async function deleteSnapshot(stores: Stores, request: DeletionRequest): Promise<void> {
  const { snapshot } = request;
  try {
    for (let looks = 0; looks < MOST_LOOKS; looks += 1) {
      const found = await stores.manifests.findOne({ _id: snapshot }, { projection: { deployment: 1, deleting: 1 } });
      if (!found) throw new LifeboatError('UnknownSnapshot', `there is no snapshot ${snapshot}`);
      const run = found.deleting?.run ?? (await mark(stores, found.deployment, request));
      if (run && (await finish(stores, snapshot, run))) return;
    }
    throw inUse(snapshot, 'somebody, again and again');
  } catch (error) {
    throw castDriverError(error, 'store', `deleting snapshot ${snapshot}`);
  }
}

/** Ends what other runs have begun. Says what was deleted. */
export async function finishDeletions(stores: Stores, deployment: string): Promise<readonly string[]> {
  const deleted: string[] = [];
  try {
    const marked = await stores.manifests
      .find({ deployment, deleting: { $exists: true } })
      .project<Required<Pick<ManifestRecord, '_id' | 'deleting'>>>({ deleting: 1 })
      .toArray();
    for (const { _id, deleting } of marked) {
      try {
        if (await finish(stores, _id, deleting.run)) deleted.push(_id);
      } catch (error) {
        if (!isLifeboatError(error, 'SnapshotInUse') && !isLifeboatError(error, 'SnapshotPinned')) throw error;
      }
    }
    return deleted;
  } catch (error) {
    throw castDriverError(error, 'store', `deleting snapshots of ${deployment}`);
  }
}

/** The mark, or undefined when somebody was quicker: held, marked or deleted it. */
async function mark(
  stores: Stores,
  deployment: string,
  { snapshot, windowMs }: DeletionRequest,
): Promise<ObjectId | undefined> {
  const retained = await retainedOf(stores, deployment);
  const keptFor = pinsOf({ ...retained, windowMs: Math.max(windowMs, retained.windowMs) }).get(snapshot);
  if (keptFor) throw pinned(snapshot, keptFor);
  const run = new ObjectId();
  const unmarked = { _id: snapshot, hold: { $exists: false }, ...IS_SNAPSHOT };
  const { matchedCount } = await stores.manifests.updateOne(unmarked, [
    { $set: { deleting: { run, since: '$$NOW' } } },
  ]);
  return matchedCount === 1 ? run : undefined;
}

function pinned(snapshot: string, keptFor: readonly string[]): LifeboatError {
  return new LifeboatError('SnapshotPinned', `snapshot ${snapshot} is kept: ${keptFor.join(', ')}`);
}

/**
 * Deletes the header under that mark, after which all that relies on it is looked for; false when the mark is another by now.
 * @throws LifeboatError `SnapshotInUse`, `SnapshotPinned`; the mark is taken back then
 */
async function finish(stores: Stores, snapshot: string, run: ObjectId): Promise<boolean> {
  const marked = { _id: snapshot, 'deleting.run': run };
  const refusal = await refusalOf(stores, snapshot);
  if (refusal) {
    await stores.manifests.updateOne(marked, { $unset: { deleting: 1 } });
    throw refusal;
  }
  const { deletedCount } = await stores.manifests.deleteOne(marked);
  return deletedCount === 1;
}

async function refusalOf(stores: Stores, snapshot: string): Promise<LifeboatError | undefined> {
  await stores.leases.updateMany(
    { snapshot, revoked: false, $expr: { $lt: ['$expiresAt', '$$NOW'] } },
    { $set: { revoked: true } },
  );
  const lease = await stores.leases.findOne({ snapshot, revoked: false });
  if (lease) return inUse(snapshot, `a ${lease.purpose} on ${lease.daemon}`);
  // One whose worker died has no lease, and goes on with its snapshot.
  const restore = await stores.restores.findOne({ snapshot, state: 'running' }, { projection: { daemon: 1 } });
  if (restore) return inUse(snapshot, `restore ${restore._id} on ${restore.daemon}`);
  const isBase = { $or: [{ 'keptFor.bases': snapshot }, { 'former.bases': snapshot }] };
  const base = await stores.members.findOne(isBase, { projection: { _id: 1 } });
  return base ? pinned(snapshot, ['restores to a point in time']) : undefined;
}

function inUse(snapshot: string, reader: string): LifeboatError {
  return new LifeboatError('SnapshotInUse', `snapshot ${snapshot} is being read by ${reader}`);
}
