/**
 * Deleting a snapshot: its header goes, and a groom frees what only it referred to.
 *
 * 1. It is marked, unless it is pinned. No deletion changes what else is pinned: that is the newest of something, and it
 *    stays. A hold that comes at the same time comes before the mark, which it prevents, or finds no snapshot.
 * 2. Whoever reads a snapshot takes a lease and looks for the snapshot after that. So after the mark either its lease is
 *    seen here, and the mark is taken back, or it sees the mark, and finds no such snapshot.
 * 3. The header is deleted.
 *
 * A mark whose writer died is nobody's: the snapshot is deleted by the next deletion or retention of its deployment, or,
 * when it is read again by then, let off.
 */
import { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { fromStoredPosition, fromTimestamp } from '../mongo/positions.ts';
import { pinsOf, type RetainedSnapshot } from '../retention/plan.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord } from '../stores/records.ts';
import { IS_SNAPSHOT } from './manifest.ts';

export interface DeletionRequest {
  readonly snapshot: string;
  /** How far back every optime of its deployment is to be restorable, in milliseconds. */
  readonly windowMs: number;
}

/** Snapshots of a deployment, as the rules of retention see them, with whose backup its entries are now. */
export interface Retained {
  readonly snapshots: readonly RetainedSnapshot[];
  readonly incarnation: string | null;
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
  const member = await stores.members.findOne({ deployment }, { projection: { incarnation: 1 } });
  return {
    snapshots: found.map(({ _id, incarnation, optime, oplogFrom, wallTime, verification, hold }) => ({
      id: _id,
      incarnation: incarnation.toHexString(),
      optime: fromTimestamp(optime.ts),
      oplogFrom: fromStoredPosition(oplogFrom),
      wallTime,
      good: verification?.state !== 'different',
      held: hold !== undefined,
    })),
    incarnation: member?.incarnation.toHexString() ?? null,
    now: await stores.now(),
  };
}

/**
 * Deletes a snapshot. Done again, it finds that it is done.
 * @throws LifeboatError `UnknownSnapshot`; `SnapshotPinned` with what it is kept for; `SnapshotInUse` while it is read;
 *   `StoreUnavailable` (retryable)
 */
export async function deleteSnapshot(stores: Stores, request: DeletionRequest): Promise<void> {
  const { snapshot } = request;
  try {
    const found = await stores.manifests.findOne({ _id: snapshot }, { projection: { deployment: 1, deleting: 1 } });
    if (found) await finish(stores, snapshot, found.deleting?.run ?? (await mark(stores, found.deployment, request)));
    else await requireTrace(stores, snapshot);
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
      const isRead = await finish(stores, _id, deleting.run).then(
        () => false,
        (error: unknown) => {
          if (error instanceof LifeboatError && error.kind === 'SnapshotInUse') return true;
          throw error;
        },
      );
      if (!isRead) deleted.push(_id);
    }
    return deleted;
  } catch (error) {
    throw castDriverError(error, 'store', `deleting snapshots of ${deployment}`);
  }
}

/** Its parts stay until a groom has freed its blocks: with them it was there, and is deleted. */
async function requireTrace(stores: Stores, snapshot: string): Promise<void> {
  if (await stores.manifestParts.findOne({ '_id.snapshot': snapshot }, { projection: { _id: 1 } })) return;
  throw new LifeboatError('UnknownSnapshot', `there is no snapshot ${snapshot}`);
}

async function mark(stores: Stores, deployment: string, request: DeletionRequest): Promise<ObjectId> {
  const { snapshot, windowMs } = request;
  const run = new ObjectId();
  const keptFor = pinsOf({ ...(await retainedOf(stores, deployment)), windowMs }).get(snapshot);
  if (keptFor) throw pinned(snapshot, keptFor);
  const unmarked = { _id: snapshot, hold: { $exists: false }, ...IS_SNAPSHOT };
  const deleting = { run, since: '$$NOW' };
  const { matchedCount } = await stores.manifests.updateOne(unmarked, [{ $set: { deleting } }]);
  // Held, marked or deleted by somebody since: the next look tells which.
  if (matchedCount === 0) throw inUse(snapshot, 'somebody who was quicker');
  return run;
}

function pinned(snapshot: string, keptFor: readonly string[]): LifeboatError {
  return new LifeboatError('SnapshotPinned', `snapshot ${snapshot} is kept: ${keptFor.join(', ')}`);
}

/** Readers are looked for after the mark that is told by `run`: under another one there may be others. */
async function finish(stores: Stores, snapshot: string, run: ObjectId): Promise<void> {
  const marked = { _id: snapshot, 'deleting.run': run };
  const reader = await readerOf(stores, snapshot);
  if (reader !== undefined) {
    await stores.manifests.updateOne(marked, { $unset: { deleting: 1 } });
    throw inUse(snapshot, reader);
  }
  const { deletedCount } = await stores.manifests.deleteOne(marked);
  if (deletedCount === 1 || !(await stores.manifests.findOne({ _id: snapshot }, { projection: { _id: 1 } }))) return;
  throw inUse(snapshot, 'somebody, or another deletion has taken it up');
}

function inUse(snapshot: string, reader: string): LifeboatError {
  return new LifeboatError('SnapshotInUse', `snapshot ${snapshot} is being read by ${reader}`);
}

/** A restore whose worker died has no lease, and goes on with its snapshot. */
async function readerOf(stores: Stores, snapshot: string): Promise<string | undefined> {
  const lease = await stores.leases.findOne({
    snapshot,
    revoked: false,
    $expr: { $gte: ['$expiresAt', '$$NOW'] },
  });
  if (lease) return `a ${lease.purpose} on ${lease.daemon}`;
  const restore = await stores.restores.findOne({ snapshot, state: 'running' }, { projection: { daemon: 1 } });
  return restore ? `restore ${restore._id} on ${restore.daemon}` : undefined;
}
