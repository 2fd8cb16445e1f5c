/** Steps: what a groom would free, and the groom itself. */
import { finishDeletions } from '../blockstore/delete-snapshot.ts';
import { runGroom, takeCensus } from '../blockstore/groom.ts';
import { removeLeftovers } from '../blockstore/manifest.ts';
import { castDriverError } from '../mongo/errors.ts';
import { deploymentOfSnapshot } from '../shared/names.ts';
import type { GroomCensus } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { StepContext } from './context.ts';

export interface GroomOutcome {
  readonly deletedBlocks: number;
  readonly reclaimedBytes: number;
  /** What the files of the blockstore have free for blocks to come: a file does not shrink by itself. */
  readonly reusableBytes: number;
}

/** What there is, living and dead; changes nothing. */
export async function planGroom(ctx: StepContext, stores: Stores): Promise<GroomCensus> {
  return takeCensus({ stores, signal: ctx.signal, report: ctx.report.bind(ctx) });
}

/**
 * Frees what nothing refers to. Run again under the same `run` it goes on.
 * @throws LifeboatError `ManifestDamaged`; `StoreUnavailable` (retryable)
 */
export async function groom(
  ctx: StepContext,
  stores: Stores,
  { run }: { readonly run: string },
): Promise<GroomOutcome> {
  for (const deployment of await deploymentsOf(stores)) {
    const ended = await finishDeletions(stores, deployment);
    if (ended.length > 0) ctx.logger.info({ deployment, snapshots: ended }, 'deletions that had not ended');
    await removeLeftovers(stores, deployment);
  }
  const parts = { stores, signal: ctx.signal, report: ctx.report.bind(ctx) };
  const { deletedBlocks, reclaimedBytes } = await runGroom(parts, run);
  const outcome = { deletedBlocks, reclaimedBytes, reusableBytes: await reusableBytes(stores) };
  ctx.logger.info(outcome, 'blockstore groomed');
  return outcome;
}

/** All of which a manifest, or a part of one, is there, but for those that are purged: a purge needs the parts. */
async function deploymentsOf(stores: Stores): Promise<readonly string[]> {
  try {
    const [purged, ofSnapshots, ids] = await Promise.all([
      stores.deployments.distinct('_id', { 'purge.run': { $exists: true } }),
      stores.manifests.distinct('deployment'),
      stores.manifestParts.distinct('_id.snapshot') as Promise<string[]>,
    ]);
    const ofParts = ids.flatMap((id) => deploymentOfSnapshot(id) ?? []);
    const found = new Set([...ofSnapshots, ...ofParts]);
    for (const name of purged) found.delete(name);
    return [...found];
  } catch (error) {
    throw castDriverError(error, 'store', 'looking for the deployments of which anything is stored');
  }
}

interface StorageStats {
  readonly storageStats?: { readonly freeStorageSize?: number };
}

async function reusableBytes(stores: Stores): Promise<number> {
  try {
    const [stats] = await stores.blocks.aggregate<StorageStats>([{ $collStats: { storageStats: {} } }]).toArray();
    return stats?.storageStats?.freeStorageSize ?? 0;
  } catch (error) {
    throw castDriverError(error, 'store', 'asking for the size of the blockstore');
  }
}
