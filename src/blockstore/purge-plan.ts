/** The plan of a purge, made of what was found in the stores. Pure: it is shown before anything is removed. */
import type { PurgePlan } from '../shared/messages.ts';
import type { Optime } from '../shared/optime.ts';

export interface PurgeFacts {
  readonly deployment: string;
  /** Oldest first. */
  readonly snapshots: readonly { readonly optime: Optime; readonly logicalBytes: number }[];
  readonly referredBlocks: number;
  readonly onlyBlocks: number;
  /** Of some blocks that only this deployment refers to: how many, their bytes as stored, and of how many they are some. */
  readonly samples: readonly { readonly blocks: number; readonly bytes: number; readonly of: number }[];
  readonly slices: { readonly count: number; readonly bytes: number };
  readonly batches: { readonly count: number; readonly bytes: number };
  readonly heads: PurgePlan['heads'];
  readonly restores: number;
  readonly leases: readonly { readonly purpose: string; readonly daemon: string; readonly snapshot: string | null }[];
}

export function purgePlanOf(facts: PurgeFacts): PurgePlan {
  const { deployment, snapshots, referredBlocks, onlyBlocks, samples, slices, batches } = facts;
  const freedBytes = samples.reduce(
    (sum, { blocks, bytes, of }) => sum + (blocks === 0 ? 0 : (bytes / blocks) * of),
    0,
  );
  return {
    deployment,
    snapshots: {
      count: snapshots.length,
      logicalBytes: snapshots.reduce((sum, { logicalBytes }) => sum + logicalBytes, 0),
      oldest: snapshots[0]?.optime ?? null,
      newest: snapshots.at(-1)?.optime ?? null,
    },
    blocks: {
      referred: referredBlocks,
      shared: referredBlocks - onlyBlocks,
      freed: onlyBlocks,
      freedBytes: Math.round(freedBytes),
      estimated: samples.some(({ blocks, of }) => blocks < of),
    },
    syncStore: { slices: slices.count, bytes: slices.bytes },
    oplogStore: { batches: batches.count, bytes: batches.bytes },
    heads: facts.heads,
    restores: facts.restores,
    waitsFor: facts.leases.map(({ purpose, daemon, snapshot }) => ({ purpose, daemon, snapshot })),
  };
}
