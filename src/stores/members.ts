/** Changing the record of a member: only by whoever holds its newest claim. */
import type { ObjectId, WithoutId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { fromTimestamp, toStoredPosition } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, type Position } from '../shared/optime.ts';
import type { Stores } from './connect.ts';
import type { MemberRecord } from './records.ts';

/** Who may write for a member: the holder of this claim, for this initial sync. */
export interface MemberFence {
  /** `<deployment>/<member>` */
  readonly key: string;
  readonly incarnation: ObjectId;
  readonly epoch: number;
}

/**
 * Sets fields of a member's record if `fence` is still the newest claim.
 * @throws LifeboatError `FenceLost` when another claim was made or another initial sync begun
 */
export async function updateMember(
  stores: Stores,
  fence: MemberFence,
  fields: Partial<WithoutId<Omit<MemberRecord, 'owner' | 'incarnation'>>>,
): Promise<void> {
  const filter = { _id: fence.key, incarnation: fence.incarnation, 'owner.epoch': fence.epoch };
  try {
    const { matchedCount } = await stores.members.updateOne(filter, { $set: fields });
    if (matchedCount === 0) throw fenceLost(fence.key);
  } catch (error) {
    throw castDriverError(error, 'store', `updating the state of ${fence.key}`);
  }
}

/**
 * The record, if `fence` is still the newest claim.
 * @throws LifeboatError `FenceLost` otherwise
 */
export async function readMember(stores: Stores, fence: MemberFence): Promise<MemberRecord> {
  try {
    const record = await stores.members.findOne({ _id: fence.key });
    if (record?.owner.epoch === fence.epoch && record.incarnation.equals(fence.incarnation)) return record;
    throw fenceLost(fence.key);
  } catch (error) {
    throw castDriverError(error, 'store', `reading the state of ${fence.key}`);
  }
}

/**
 * Notes that a snapshot at a position was found to differ from its source: nothing from there on is good. An earlier note stays.
 * @throws LifeboatError `FenceLost`
 */
export async function noteDifference(stores: Stores, fence: MemberFence, at: Position): Promise<void> {
  const { differs } = await readMember(stores, fence);
  if (differs && compareOptimes(fromTimestamp(differs.ts), at.ts) <= 0) return;
  await updateMember(stores, fence, { differs: toStoredPosition(at) });
}

/** The record of that key, whoever holds its claim, or null. */
export async function findMember(stores: Stores, key: string): Promise<MemberRecord | null> {
  try {
    return await stores.members.findOne({ _id: key });
  } catch (error) {
    throw castDriverError(error, 'store', `reading the state of ${key}`);
  }
}

/** The members that a daemon owns. */
export async function membersOf(stores: Stores, daemon: string): Promise<MemberRecord[]> {
  try {
    return await stores.members.find({ 'owner.daemon': daemon }).sort({ _id: 1 }).toArray();
  } catch (error) {
    throw castDriverError(error, 'store', `reading what daemon ${daemon} owns`);
  }
}

function fenceLost(key: string): LifeboatError {
  return new LifeboatError('FenceLost', `another attempt has taken over ${key}`);
}
