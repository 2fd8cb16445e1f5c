/** The snapshots there are, as everybody else sees them. A snapshot is one whose manifest header is committed. */
import { fromTimestamp } from '../mongo/positions.ts';
import { castDriverError } from '../mongo/errors.ts';
import type { SnapshotSummary, SnapshotVerification } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord, StoredFinding, StoredOmission, StoredVerification } from '../stores/records.ts';
import { IS_SNAPSHOT } from './manifest.ts';

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
    verification: verificationOf(manifest.verification),
    hold: manifest.hold ? { reason: manifest.hold.reason, since: manifest.hold.since.toISOString() } : null,
  };
}

/** Of a snapshot that a version took which compared nothing, just that. */
function verificationOf(stored: StoredVerification | undefined): SnapshotVerification {
  if (!stored) return NOT_VERIFIED;
  const { different, notCompared, durationMs, ...told } = stored;
  return { ...told, different: [...new Set(different.map(({ namespace }) => namespace))] };
}

const NOT_VERIFIED: SnapshotVerification = {
  state: 'not-compared',
  reason: 'the version that took it compared nothing',
  round: 0,
  snapshot: 0,
  within: 0,
  roundEnded: false,
  totalBytes: null,
  roundBytes: 0,
  ranges: 0,
  documents: 0,
  bytes: 0,
  definitions: false,
  ageSeconds: null,
  omissions: 0,
  different: [],
};

/** What of a snapshot could not be compared with the source, and what differs: the latter holds `_id`s. */
export interface VerificationFindings {
  readonly notCompared: readonly StoredOmission[];
  readonly different: readonly StoredFinding[];
}

/** Snapshots of one deployment, or of all, oldest first. */
export async function listSnapshots(stores: Stores, deployment?: string): Promise<SnapshotSummary[]> {
  const filter = deployment === undefined ? IS_SNAPSHOT : { deployment, ...IS_SNAPSHOT };
  return reading('listing the snapshots', async () => {
    const manifests = await stores.manifests
      .find(filter)
      .sort({ deployment: 1, 'optime.ts': 1, createdAt: 1 })
      .toArray();
    return manifests.map(summaryOf);
  });
}

/** A snapshot, and what its comparison found, for those who may see the data. */
export interface SnapshotWithFindings {
  readonly summary: SnapshotSummary;
  /** Patterns of what is not in it. */
  readonly exclude: readonly string[];
  readonly findings: VerificationFindings;
}

/** The snapshot of that id with what its comparison found, or undefined. */
export async function findWithFindings(stores: Stores, id: string): Promise<SnapshotWithFindings | undefined> {
  return reading(`looking for snapshot ${id}`, async () => {
    const manifest = await stores.manifests.findOne({ _id: id, ...IS_SNAPSHOT });
    if (!manifest) return undefined;
    const { exclude = [], verification: findings = { notCompared: [], different: [] } } = manifest;
    return { summary: summaryOf(manifest), exclude, findings };
  });
}

/** The snapshot of that id, or undefined. */
export async function findSnapshot(stores: Stores, id: string): Promise<SnapshotSummary | undefined> {
  return (await findWithFindings(stores, id))?.summary;
}

/** The snapshot of the newest optime of a deployment, or undefined. */
export async function latestSnapshot(stores: Stores, deployment: string): Promise<SnapshotSummary | undefined> {
  return reading(`looking for the newest snapshot of ${deployment}`, async () => {
    const manifest = await stores.manifests.findOne(
      { deployment, ...IS_SNAPSHOT },
      { sort: { 'optime.ts': -1, createdAt: -1 } },
    );
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
