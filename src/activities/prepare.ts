/** The checks before a backup runs: each thing that can be wrong is told by its own name, before anything is written. */
import { ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { MemberClaim } from '../shared/messages.ts';
import { refuseStoreOnSource, requireRecordedSet, type Source } from '../source/connect.ts';
import { createMember, fenceOf } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import { refusePurging } from '../steps/purge.ts';
import { entriesGoOnFrom, seedsOf } from '../steps/seed-head.ts';
import type { MemberRecord } from '../stores/records.ts';
import type { StepContext } from '../steps/context.ts';
import type { Daemon } from './daemon.ts';
import type { Prepared, SyncStage } from './types.ts';

/**
 * Makes ready what a run of the lifecycle needs: source, stores, the member's record and its head.
 * @throws LifeboatError what openSource throws, `StoreOnSource`, `WrongReplicaSet`, `MongodMissing`,
 *   `UnsupportedVersion`, `HeadForeign`, `HeadMissing`, `FenceLost`
 */
export async function prepareMember(
  ctx: StepContext,
  daemon: Daemon,
  { deployment, member }: { readonly deployment: string; readonly member: MemberClaim | null },
): Promise<Prepared> {
  const stores = await daemon.stores();
  // What ailed the source when it was last opened may be mended now, or new.
  await daemon.closeSource(deployment);
  const source = await daemon.source(deployment);
  refuseStoreOnSource(source, stores);
  await refusePurging(stores, deployment);
  await daemon.mongodFor(source.identity.version);
  ctx.signal.throwIfAborted();
  const identity = recorded(source);
  const claim =
    member ?? (await createMember(stores, { deployment, source: identity, daemon: daemon.id, phase: 'initial-sync' }));
  const fence = fenceOf(claim);
  const record = await readMember(stores, fence);
  // Before its initial sync has begun, a backup is of whatever set its URI reaches.
  if (record.sync) requireRecordedSet(source, record.source);
  await updateMember(stores, fence, { source: identity });
  const stage = await stageOf(stores, fence, record);
  const whole = await isHeadWhole(daemon, stores, fence);
  if (stage === 'sync' || whole) return { member: claim, stage, seed: false };
  const seeds = await seedsOf(stores, record);
  if ('snapshots' in seeds) return { member: claim, stage, seed: true };
  throw new LifeboatError('HeadMissing', `the head of ${claim.key} is not on daemon ${daemon.id}: ${seeds.missing}`);
}

/**
 * Whether the head is here, with a position that the stored entries go on from. One that was taken over and comes back
 * may stand before all of them.
 */
export async function isHeadWhole(daemon: Daemon, stores: Stores, fence: MemberFence): Promise<boolean> {
  try {
    const { position } = (await daemon.heads.of(stores, fence)).state();
    return position !== null && (await entriesGoOnFrom(stores, fence, position.oplogFrom));
  } catch (error) {
    if (isLifeboatError(error, 'HeadFilling')) return false;
    throw error;
  }
}

function recorded({ identity }: Source): MemberRecord['source'] {
  return { ...identity, replicaSetId: ObjectId.createFromHexString(identity.replicaSetId) };
}

async function stageOf(
  stores: Stores,
  { key, incarnation }: MemberFence,
  { sync, deployment }: MemberRecord,
): Promise<SyncStage> {
  if (sync?.stage !== 'validated') return 'sync';
  try {
    const snapshot = await stores.manifests.findOne({ deployment, incarnation }, { projection: { _id: 1 } });
    return snapshot ? 'routine' : 'first-snapshot';
  } catch (error) {
    throw castDriverError(error, 'store', `looking for the first snapshot of ${key}`);
  }
}
