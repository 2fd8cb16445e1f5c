/** Step: cut the head, held still at an exact optime, into blocks, and commit them as a snapshot. */
import { randomBytes } from 'node:crypto';
import { BLOCK_BYTES } from '../blockstore/blocks.ts';
import { commitManifest } from '../blockstore/commit.ts';
import { cutHead } from '../blockstore/cut.ts';
import { IS_SNAPSHOT, newestManifest, removeLeftovers } from '../blockstore/manifest.ts';
import { summaryOf } from '../blockstore/snapshots.ts';
import type { LockedHead } from '../head/types.ts';
import { castDriverError } from '../mongo/errors.ts';
import { toStoredPosition } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { SnapshotSummary } from '../shared/messages.ts';
import { formatOptime, type Optime } from '../shared/optime.ts';
import { together } from '../shared/signals.ts';
import type { Stores } from '../stores/connect.ts';
import { revokeExpiredLeases, takeLease, type Lease } from '../stores/leases.ts';
import { noteDifference, readMember, type MemberFence } from '../stores/members.ts';
import type { ManifestRecord, MemberRecord } from '../stores/records.ts';
import type { StepContext } from './context.ts';
import { PartVerifier, type VerificationParts } from './verify-part.ts';

/** The part of a head's owner that a snapshot needs. */
export interface LockableHead {
  /** Waits until every entry up to `minimum` is applied and holds the head still there or later. */
  lock(minimum: Optime, signal: AbortSignal): Promise<LockedHead>;
}

export interface SnapshotParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: LockableHead;
  readonly deployment: string;
  readonly member: string;
  readonly source: MemberRecord['source'];
  /** Id of this daemon. */
  readonly daemon: string;
  /** How a part of the head is compared with the source meanwhile. */
  readonly verification: VerificationParts;
}

/**
 * Takes a snapshot at an optime at or after `minimum`. Run again after any failure it takes a new one, which finds the
 * blocks that are already stored.
 *
 * A part of the head is compared with the source while it is cut. A snapshot of a head that was found to differ is
 * committed, and says so: it is the best there is. The head is marked, and nothing is applied to it any more.
 * @throws LifeboatError `FenceLost`; `SnapshotLockLost`, `HeadLost`, `StoreUnavailable`, `StoreFull` (retryable)
 */
export async function takeSnapshot(
  ctx: StepContext,
  parts: SnapshotParts,
  { minimum }: { readonly minimum: Optime },
): Promise<SnapshotSummary> {
  const { stores, deployment } = parts;
  await readMember(stores, parts.fence);
  await revokeExpiredLeases(stores, deployment);
  await removeLeftovers(stores, deployment);
  const of = { stores, incarnation: parts.fence.incarnation, recorded: parts.source };
  await using verifier = await PartVerifier.open(ctx, parts.verification, of);
  const locked = await parts.head.lock(minimum, ctx.signal);
  let diverged: string | undefined;
  try {
    const beganAt = performance.now();
    const { lease, parent } = await leaseWithParent(parts);
    try {
      const taken = await cutAndCommit(ctx, { ...parts, verifier }, locked, lease, parent, beganAt);
      if (taken.verification.state === 'different') diverged = divergenceOf(taken);
      return taken;
    } catch (error) {
      throw castDriverError(error, 'store', `taking a snapshot of ${deployment}`);
    } finally {
      await lease.end();
    }
  } finally {
    await locked.release(diverged);
  }
}

/** Names the snapshot, which tells the rest: `_id`s stay in the store. */
function divergenceOf({ id, verification }: SnapshotSummary): string {
  return `snapshot ${id} was compared with the source: ${verification.different.join(', ')} differ (\`lifeboat snapshots show ${id}\`)`;
}

/** A lease that holds the newest manifest there is: seen again once the lease was there, it can no longer go. */
async function leaseWithParent(parts: SnapshotParts): Promise<{ lease: Lease; parent: ManifestRecord | null }> {
  const { stores, deployment, member, daemon } = parts;
  const parent = await newestManifest(stores, deployment, member);
  const lease = await takeLease(stores, { purpose: 'snapshot', deployment, daemon, snapshot: parent?._id ?? null });
  try {
    const held = parent
      ? await stores.manifests.findOne({ _id: parent._id, ...IS_SNAPSHOT }, { projection: { _id: 1 } })
      : null;
    return { lease, parent: held ? parent : null };
  } catch (error) {
    await lease.end();
    throw castDriverError(error, 'store', `looking for the newest snapshot of ${deployment}`);
  }
}

async function cutAndCommit(
  ctx: StepContext,
  parts: SnapshotParts & { readonly verifier: PartVerifier },
  locked: LockedHead,
  lease: Lease,
  parent: ManifestRecord | null,
  beganAt: number,
): Promise<SnapshotSummary> {
  const { stores, fence, deployment, member, source } = parts;
  const { position, wallTime } = locked;
  const createdAt = await stores.now();
  const id = snapshotId(deployment, position.appliedThrough.ts);
  const ended = AbortSignal.any([ctx.signal, lease.signal, locked.signal]);
  const [cut, { verification, rotation }] = await together(ended, [
    (signal) =>
      cutHead(stores, locked, {
        snapshot: id,
        lease: lease.number,
        parent,
        signal,
        report: (progress) => ctx.report(progress),
      }),
    (signal) => parts.verifier.verify(locked, signal),
  ]);
  const manifest: ManifestRecord = {
    _id: id,
    formatVersion: 1,
    deployment,
    member,
    incarnation: fence.incarnation,
    source,
    optime: toStoredPosition(position.appliedThrough),
    oplogFrom: toStoredPosition(position.oplogFrom),
    wallTime,
    createdAt,
    durationMs: Math.round(performance.now() - beganAt),
    blockSize: BLOCK_BYTES,
    mongodVersion: locked.mongodVersion,
    exclude: locked.exclude,
    ...cut,
    verification,
  };
  if (!(await locked.stillHeld())) {
    const at = formatOptime(position.appliedThrough.ts);
    throw new LifeboatError('SnapshotLockLost', `the head of ${fence.key} was not held still at ${at} to the end`);
  }
  // Before it is one: whoever finds the snapshot finds this.
  if (verification.state === 'different') await noteDifference(stores, fence, position.appliedThrough);
  await commitManifest(stores, lease, fence, manifest, rotation);
  const { newBlocks, newStoredBytes, reusedBlocks } = cut;
  ctx.count?.('blocksNew', newBlocks);
  ctx.count?.('blocksReused', reusedBlocks);
  ctx.count?.('blockBytesStored', newStoredBytes);
  ctx.logger.info(
    { snapshot: id, newBlocks, newStoredBytes, reusedBlocks, durationMs: manifest.durationMs },
    'snapshot committed',
  );
  const summary = summaryOf(manifest);
  tellVerification(ctx, summary);
  return summary;
}

function tellVerification({ logger }: StepContext, { id: snapshot, verification }: SnapshotSummary): void {
  const { state, reason, ranges, documents, bytes, omissions, different: namespaces } = verification;
  const what = { snapshot, state, reason, ranges, documents, bytes, omissions };
  if (state === 'different') logger.error({ ...what, namespaces }, 'the head differs from its source');
  else logger.info(what, 'compared with the source');
}

/** `<deployment>-<UTC time of the optime, yyyymmddThhmmssZ>-<six hex digits>` */
function snapshotId(deployment: string, optime: Optime): string {
  const time = new Date(optime.t * 1000).toISOString().replaceAll(/[-:]|\.\d+/g, '');
  return `${deployment}-${time}-${randomBytes(3).toString('hex')}`;
}
