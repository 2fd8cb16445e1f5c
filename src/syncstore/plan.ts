/** The plan of an initial sync, inside the record of its member. */
import type { MatchKeysAndValues, ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import type { MemberRecord, StoredPosition, SyncPlan } from '../stores/records.ts';

/** Each of these changes what is asked for before: a twin that wakes up late finds it set, and leaves it. */
async function change(
  stores: Stores,
  fence: MemberFence,
  when: Record<string, unknown>,
  fields: MatchKeysAndValues<MemberRecord>,
): Promise<MemberRecord> {
  const filter = { _id: fence.key, incarnation: fence.incarnation, 'owner.epoch': fence.epoch, ...when };
  try {
    await stores.members.updateOne(filter, { $set: fields });
  } catch (error) {
    throw castDriverError(error, 'store', `updating the plan of ${fence.key}`);
  }
  return readMember(stores, fence);
}

/** Saves a plan if there is none; gives the one there is now. */
export async function savePlan(stores: Stores, fence: MemberFence, plan: SyncPlan): Promise<SyncPlan> {
  const { sync } = await change(stores, fence, { sync: null }, { sync: plan });
  return sync ?? plan;
}

/** Notes that all collections are listed, in that listing. */
export async function planListed(
  stores: Stores,
  fence: MemberFence,
  plan: SyncPlan,
  listing: ObjectId,
): Promise<SyncPlan> {
  const fields = { 'sync.stage': 'copy', 'sync.listing': listing } as const;
  const { sync } = await change(stores, fence, { 'sync.stage': 'list' }, fields);
  return sync ?? plan;
}

/** Notes that everything is copied, and from which optime on the head is consistent. */
export async function planCopied(stores: Stores, fence: MemberFence, stop: StoredPosition): Promise<void> {
  await change(stores, fence, { 'sync.stop': null }, { 'sync.stop': stop });
}

/** Notes which member is copied from. */
export async function planReadFrom(stores: Stores, fence: MemberFence, host: string): Promise<void> {
  await change(stores, fence, { 'sync.stop': null }, { 'sync.readFrom': host });
}

/** Notes that the head is whole and consistent. A plan that is validated stays so. */
export async function planBuilt(stores: Stores, fence: MemberFence): Promise<void> {
  await change(stores, fence, { 'sync.stage': { $in: ['copy', 'build'] } }, { 'sync.stage': 'built' });
}

/** Notes that the head is gone, before it was validated: it is to be built once more from what was copied. */
export async function planUnbuilt(stores: Stores, fence: MemberFence): Promise<void> {
  await change(stores, fence, { 'sync.stage': 'built' }, { 'sync.stage': 'copy' });
}

/** Notes that the head was found, or made, equal to its source. False when it is being built once more meanwhile. */
export async function planValidated(stores: Stores, fence: MemberFence): Promise<boolean> {
  const { sync } = await change(stores, fence, { 'sync.stage': 'built' }, { 'sync.stage': 'validated' });
  return sync?.stage === 'validated';
}
