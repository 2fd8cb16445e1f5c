/**
 * The one write that makes a snapshot: its header, in a transaction with the lease and the claim it was taken under, and
 * with how far its head is compared with the source.
 */
import { ReadConcern, WriteConcern } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { Lease } from '../stores/leases.ts';
import type { MemberFence } from '../stores/members.ts';
import type { ManifestRecord, RotationRecord } from '../stores/records.ts';

/**
 * Commits a manifest and ends its lease.
 *
 * A transaction's write to the lease collides with a revocation, so that of the two only one comes about. The member's
 * record is only read: a claim that is made at the same time comes after this snapshot, which is still true.
 * @throws LifeboatError `FenceLost` when the lease was revoked or the member claimed anew; nothing is committed then
 */
export async function commitManifest(
  stores: Stores,
  lease: Lease,
  fence: MemberFence,
  manifest: ManifestRecord,
  rotation: Omit<RotationRecord, 'through'>,
): Promise<void> {
  const { _id, ...compared } = { ...rotation, through: manifest._id };
  await lease.settle();
  try {
    await stores.client.withSession(async (session) => {
      try {
        await session.withTransaction(
          async () => {
            await lease.endIn(session);
            const claim = { _id: fence.key, incarnation: fence.incarnation, 'owner.epoch': fence.epoch };
            if (!(await stores.members.findOne(claim, { session, projection: { _id: 1 } }))) {
              throw new LifeboatError('FenceLost', `another attempt has taken over ${fence.key}`);
            }
            await stores.manifests.insertOne(manifest, { session });
            await stores.rotations.replaceOne({ _id }, compared, { session, upsert: true });
          },
          { readConcern: new ReadConcern('snapshot'), writeConcern: new WriteConcern('majority') },
        );
      } catch (error) {
        // A commit whose answer was lost may have come about all the same.
        if (await stores.manifests.findOne({ _id: manifest._id })) return;
        throw error;
      }
    });
  } catch (error) {
    throw castDriverError(error, 'store', `committing snapshot ${manifest._id}`);
  }
}
