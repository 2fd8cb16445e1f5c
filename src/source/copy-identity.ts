/**
 * Which copy of the data a member holds, and for how long its record ids, and so resume tokens, mean the same.
 *
 * Record ids are a member's own. A member that was synced anew has others; so may one that was restarted or rolled back:
 * it goes back to its last stable checkpoint, applies its oplog again from there, and gives new record ids to what that
 * inserts. A document that was inserted before the copy's beginApplying must not change its place, because no entry would
 * bring it again; what came later is brought by its entry. So once a stable checkpoint is at or after beginApplying, a
 * token lasts as long as the copy of the data does; before that only as long as process and term stay the same.
 *
 * `local.replset.initialSyncId` would name a copy of the data, but the role `backup` may not read it; the UUID of the
 * oplog is made anew together with it.
 */
import type { Long, MongoClient, ObjectId, Timestamp, UUID } from 'mongodb';
import { run, type FirstBatch } from '../mongo/commands.ts';
import { fromTimestamp } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, ZERO_OPTIME, type Optime } from '../shared/optime.ts';
import type { ReadFrom } from '../stores/records.ts';

export interface CopyIdentity {
  /** Names the copy of the data. */
  readonly lasting: string;
  /** Names it in this process and election term. */
  readonly passing: string;
  /** A restart or a rollback goes back to this optime or a later one. */
  readonly stable: Optime;
}

/** Asks a member. @throws the driver's errors */
export async function copyIdentity(client: MongoClient): Promise<CopyIdentity> {
  const [hello, status, oplog] = await Promise.all([
    run<{ topologyVersion: { processId: ObjectId } }>(client.db('admin'), { hello: 1 }),
    run<{ term: number | Long; lastStableRecoveryTimestamp?: Timestamp }>(client.db('admin'), { replSetGetStatus: 1 }),
    run<FirstBatch<{ info: { uuid: UUID } }>>(client.db('local'), { listCollections: 1, filter: { name: 'oplog.rs' } }),
  ]);
  const [entry] = oplog.cursor.firstBatch;
  if (!entry) throw new LifeboatError('NotAReplicaSet', 'a member of the source has no oplog');
  const lasting = entry.info.uuid.toHexString();
  const stable = status.lastStableRecoveryTimestamp;
  return {
    lasting,
    passing: `${lasting}/${hello.topologyVersion.processId.toHexString()}/${String(status.term)}`,
    stable: stable ? fromTimestamp(stable) : ZERO_OPTIME,
  };
}

/** How a slice says where it was read. `since`: beginApplying of its sync. */
export function readFrom(host: string, { lasting, passing, stable }: CopyIdentity, since: Optime): ReadFrom {
  return { host, copyId: compareOptimes(stable, since) >= 0 ? lasting : passing };
}

/** True when a token that was read there is good for a member of that host and identity. */
export function tokenHolds(token: ReadFrom, host: string, { lasting, passing }: CopyIdentity): boolean {
  return token.host === host && (token.copyId === lasting || token.copyId === passing);
}
