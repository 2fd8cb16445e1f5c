/** Step: at the stop point of an initial sync, make the head whole: indexes, views, nothing left over. */
import { buildDeferred } from '../head/indexes.ts';
import { removeLeftovers } from '../head/leftovers.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { HeadOwner } from '../head/owner.ts';
import { NO_WALL, reached } from '../head/state.ts';
import { wallOfEntry } from '../oplogstore/batches.ts';
import { LifeboatError } from '../shared/errors.ts';
import { Meter } from '../shared/meter.ts';
import { formatOptime, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, type MemberFence } from '../stores/members.ts';
import { listCollectionsToBuild } from '../syncstore/collections.ts';
import { planBuilt } from '../syncstore/plan.ts';
import type { StepContext } from './context.ts';

export interface FinishParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
}

/**
 * With the head at the plan's stop point: builds the indexes, removes what the replay left over, marks the head
 * consistent and the plan built. The slices stay until the head is validated. All of it may have been done by a run before.
 * @throws LifeboatError `IndexBuildFailed`, `FenceLost`; `HeadUnfinished`; `HeadLost`, `HeadStrained`, `DiskFull`,
 *   `StoreUnavailable` (retryable)
 */
export async function finishSync(ctx: StepContext, parts: FinishParts): Promise<void> {
  const { stores, fence } = parts;
  const { sync } = await readMember(stores, fence);
  if (!sync) throw new LifeboatError('HeadInconsistent', `the initial sync of ${fence.key} has not begun`);
  if (sync.stage === 'built' || sync.stage === 'validated') return;
  const attempt = parts.head.attempt('apply');
  const { collections } = await listCollectionsToBuild(stores, fence.incarnation, sync.listing);
  const listed = new Set(collections.map(({ _id }) => Buffer.from(_id.uuid.buffer).toString('hex')));
  const wallAt = (position: Position): Promise<Date> => wallOfEntry(stores, fence.incarnation, position, ctx.signal);
  await attempt.turn((head) => makeWhole(ctx, head, listed, wallAt), ctx.signal);
  await planBuilt(stores, fence);
}

/** @param wallAt the wall time of a stored entry */
async function makeWhole(
  ctx: StepContext,
  head: OpenHead,
  listed: ReadonlySet<string>,
  wallAt: (position: Position) => Promise<Date>,
): Promise<void> {
  const { record } = head;
  if (record.stage === 'consistent') return;
  const { position } = record;
  const until = position?.inconsistentUntil;
  if (record.stage !== 'catching-up' || !until || !reached(position.appliedThrough, until)) {
    const where = position ? `stands at ${formatOptime(position.appliedThrough.ts)}` : 'holds nothing';
    throw new LifeboatError('HeadUnfinished', `the head of ${head.label} ${where}, before its stop point`);
  }
  // While nothing was applied, nothing has told the head the time of the entry that it stands at.
  const wall = record.wall.getTime() > NO_WALL.getTime() ? record.wall : await wallAt(position.appliedThrough);
  const leftovers = await removeLeftovers(head, listed);
  const total = head.deferred.entries.reduce((sum, [, specs]) => sum + specs.length, 0);
  const meter = new Meter('indexes', 'indexes', total);
  const built = (indexes: number): void => ctx.report(meter.add(indexes));
  await buildDeferred(head, built, ctx.signal);
  const consistent = { ...position, inconsistentUntil: null };
  await head.save(
    { ...record, stage: 'consistent', position: consistent, wall, awaitsValidation: true },
    { journaled: true },
  );
  const optime = formatOptime(position.appliedThrough.ts);
  ctx.logger.info({ optime, indexes: meter.now().done, leftovers }, 'head is consistent');
}
