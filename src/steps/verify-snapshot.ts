/** Step: read the blocks of a snapshot, all or a sample, and check each against its hash. */
import { BLOCKS_AT_ONCE, readBlocks, READS_IN_FLIGHT } from '../blockstore/read-blocks.ts';
import { TaskGroup } from '../blockstore/gate.ts';
import { checkedRuns, placesOf, readManifest, type BlockPlace } from '../blockstore/manifest.ts';
import { Meter } from '../shared/meter.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { VerifyResult } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import { takeLease } from '../stores/leases.ts';
import type { ManifestRecord } from '../stores/records.ts';
import type { StepContext } from './context.ts';

export interface VerifyParts {
  readonly stores: Stores;
  /** Id of this daemon. */
  readonly daemon: string;
}

/** More would only repeat the same bad news, and the result travels through Temporal. */
const MOST_PROBLEMS = 100;

export interface VerifyRequest {
  readonly snapshot: string;
  /** The share of its blocks that is read, above 0 and up to 1; without it, all. */
  readonly sample?: number;
}

/**
 * Reads all of a snapshot, or a sample of its blocks, and its whole manifest in any case. Damage is a result, not an error: each problem (at most 100) names snapshot, file and offset.
 * @throws LifeboatError `UnknownSnapshot`, `FenceLost`; `StoreUnavailable` (retryable)
 */
export async function verifySnapshot(
  ctx: StepContext,
  { stores, daemon }: VerifyParts,
  { snapshot, sample }: VerifyRequest,
): Promise<VerifyResult> {
  const { deployment } = await readManifest(stores, snapshot);
  await using lease = await takeLease(stores, { purpose: 'verify', deployment, daemon, snapshot });
  // Once more: only a snapshot that is there after the lease is held by it.
  const manifest = await readManifest(stores, snapshot);
  const signal = AbortSignal.any([ctx.signal, lease.signal]);
  const result = await verifyBlocks(ctx, { stores, manifest, sample: new Sample(sample ?? 1), signal });
  ctx.logger.info({ snapshot, blocks: result.blocksChecked, problems: result.problems.length }, 'snapshot verified');
  return result;
}

/** Which blocks are read: every so many-th, from a beginning drawn by lot, so that each is in one sample or another. */
class Sample {
  readonly share: number;
  #due = Math.random();

  constructor(share: number) {
    this.share = share;
  }

  takesNext(): boolean {
    if (this.share === 1) return true;
    this.#due += this.share;
    if (this.#due < 1) return false;
    this.#due -= 1;
    return true;
  }
}

interface Verification {
  readonly stores: Stores;
  readonly manifest: ManifestRecord;
  readonly sample: Sample;
  readonly signal: AbortSignal;
}

async function verifyBlocks(
  ctx: StepContext,
  { stores, manifest, sample, signal }: Verification,
): Promise<VerifyResult> {
  const meter = new Meter('verify', 'blocks', Math.round(manifest.blocks * sample.share));
  const reads = new TaskGroup(READS_IN_FLIGHT);
  const problems: LifeboatError[] = [];
  const note = (problem: LifeboatError): void => {
    if (problems.length < MOST_PROBLEMS) problems.push(problem);
  };
  let blocksChecked = 0;
  let bytesChecked = 0;
  const check = async (places: readonly BlockPlace[]): Promise<void> => {
    for (const bytes of await readBlocks(stores, manifest._id, places, signal)) {
      if (bytes instanceof LifeboatError) note(bytes);
      else bytesChecked += bytes.length;
    }
    blocksChecked += places.length;
    ctx.report(meter.add(places.length));
  };
  try {
    let group: BlockPlace[] = [];
    for await (const run of checkedRuns(stores, manifest)) {
      if (run instanceof LifeboatError) {
        note(run);
        continue;
      }
      for (const place of placesOf(run, manifest.blockSize)) {
        if (!sample.takesNext() || group.push(place) < BLOCKS_AT_ONCE) continue;
        const full = group;
        group = [];
        await reads.add(() => check(full));
      }
    }
    if (group.length > 0) await reads.add(() => check(group));
    await reads.settle();
  } finally {
    await reads.quiet();
  }
  signal.throwIfAborted();
  return {
    ok: problems.length === 0,
    blocksChecked,
    bytesChecked,
    problems: problems.map(({ code, message }) => ({ code, message })),
  };
}
