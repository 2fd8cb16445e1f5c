/** The snapshots there are, as everybody else sees them. A snapshot is one whose manifest header is committed. */
import { fromTimestamp } from '../mongo/positions.ts';
import { castDriverError } from '../mongo/errors.ts';
import type { SnapshotSummary } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord } from '../stores/records.ts';

/** What a manifest header says of its snapshot. */
export function summaryOf(manifest: ManifestRecord): SnapshotSummary {
  return {
    id: manifest._id,
    deployment: manifest.deployment,
    optime: fromTimestamp(manifest.optime.ts),
    wallTime: manifest.wallTime.toISOString(),
    logicalBytes: manifest.logicalBytes,
    newBlocks: manifest.newBlocks,
    newStoredBytes: manifest.newStoredBytes,
    reusedBlocks: manifest.reusedBlocks,
    durationMs: manifest.durationMs,
  };
}

/** Snapshots of one deployment, or of all, oldest first. */
export async function listSnapshots(stores: Stores, deployment?: string): Promise<SnapshotSummary[]> {
  const filter = deployment === undefined ? {} : { deployment };
  return reading('listing the snapshots', async () => {
    const manifests = await stores.manifests
      .find(filter)
      .sort({ deployment: 1, 'optime.ts': 1, createdAt: 1 })
      .toArray();
    return manifests.map(summaryOf);
  });
}

/** The snapshot of that id, or undefined. */
export async function findSnapshot(stores: Stores, id: string): Promise<SnapshotSummary | undefined> {
  return reading(`looking for snapshot ${id}`, async () => {
    const manifest = await stores.manifests.findOne({ _id: id });
    return manifest ? summaryOf(manifest) : undefined;
  });
}

/** The snapshot of the newest optime of a deployment, or undefined. */
export async function latestSnapshot(stores: Stores, deployment: string): Promise<SnapshotSummary | undefined> {
  return reading(`looking for the newest snapshot of ${deployment}`, async () => {
    const manifest = await stores.manifests.findOne({ deployment }, { sort: { 'optime.ts': -1, createdAt: -1 } });
    return manifest ? summaryOf(manifest) : undefined;
  });
}

async function reading<T>(what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw castDriverError(error, 'store', what);
  }
}
