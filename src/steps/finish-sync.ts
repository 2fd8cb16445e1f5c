/** Step: at the stop point of an initial sync, make the head whole: indexes, views, nothing left over. */
import { buildDeferred } from '../head/indexes.ts';
import { removeLeftovers } from '../head/leftovers.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { HeadOwner } from '../head/owner.ts';
import { reached } from '../head/state.ts';
import { LifeboatError } from '../shared/errors.ts';
import { Meter } from '../shared/meter.ts';
import { formatOptime } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import { listCollectionsToBuild } from '../syncstore/collections.ts';
import { removeSync } from '../syncstore/remove.ts';
import { unloadedHead } from './unloaded-head.ts';
import type { StepContext } from './context.ts';

export interface FinishParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
}

/**
 * With the head at the plan's stop point: builds the indexes, removes what the replay left over, marks the head
 * consistent and the plan validated, and removes the slices. Each may have been done by a run before.
 * @throws LifeboatError `IndexBuildFailed`, `FenceLost`; `HeadMissing`, `HeadUnfinished` (see unloadedHead); `HeadLost`,
 *   `HeadStrained`, `DiskFull`, `StoreUnavailable` (retryable)
 */
export async function finishSync(ctx: StepContext, parts: FinishParts): Promise<void> {
  const { stores, fence } = parts;
  const { sync } = await readMember(stores, fence);
  if (!sync) throw new LifeboatError('HeadInconsistent', `the initial sync of ${fence.key} has not begun`);
  const attempt = parts.head.attempt('apply');
  if (sync.stage !== 'validated') {
    const { collections } = await listCollectionsToBuild(stores, fence.incarnation);
    const listed = new Set(collections.map(({ _id }) => Buffer.from(_id.uuid.buffer).toString('hex')));
    await attempt.turn((head) => makeWhole(ctx, head, listed), ctx.signal);
    await updateMember(stores, fence, { sync: { ...sync, stage: 'validated' } });
  }
  // The slices are the last that could build it again.
  const isLoaded = await attempt.turn((head) => Promise.resolve(head.record.position !== null), ctx.signal);
  if (!isLoaded) throw unloadedHead(fence, { stage: 'validated' });
  await removeSync(stores, fence.incarnation);
}

async function makeWhole(ctx: StepContext, head: OpenHead, listed: ReadonlySet<string>): Promise<void> {
  const { record } = head;
  if (record.stage === 'consistent') return;
  const { position } = record;
  const until = position?.inconsistentUntil;
  if (record.stage !== 'catching-up' || !until || !reached(position.appliedThrough, until)) {
    const where = position ? `stands at ${formatOptime(position.appliedThrough.ts)}` : 'holds nothing';
    throw new LifeboatError('HeadUnfinished', `the head of ${head.label} ${where}, before its stop point`);
  }
  const leftovers = await removeLeftovers(head, listed);
  const total = head.deferred.entries.reduce((sum, [, specs]) => sum + specs.length, 0);
  const meter = new Meter('indexes', 'indexes', total);
  const built = (indexes: number): void => ctx.report(meter.add(indexes));
  await buildDeferred(head.socket, head.catalog, head.deferred, built, ctx.signal);
  const consistent = { ...position, inconsistentUntil: null };
  await head.save({ ...record, stage: 'consistent', position: consistent }, { journaled: true });
  const optime = formatOptime(position.appliedThrough.ts);
  ctx.logger.info({ optime, indexes: meter.now().done, leftovers }, 'head is consistent');
}
