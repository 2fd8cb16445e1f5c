/** Step: at the stop point of an initial sync, make the head whole: indexes, views, nothing left over. */
import { buildDeferred } from '../head/indexes.ts';
import { removeLeftovers } from '../head/leftovers.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { HeadOwner } from '../head/owner.ts';
import { positionIn, reached } from '../head/state.ts';
import { LifeboatError } from '../shared/errors.ts';
import { Meter } from '../shared/meter.ts';
import { formatOptime } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { readMember, updateMember, type MemberFence } from '../stores/members.ts';
import { listCollectionsToBuild } from '../syncstore/collections.ts';
import { removeSync } from '../syncstore/remove.ts';
import type { StepContext } from './context.ts';

export interface FinishParts {
  readonly stores: Stores;
  readonly fence: MemberFence;
  readonly head: HeadOwner;
}

/**
 * With the head at the plan's stop point: builds the indexes, removes what the replay left over, marks the head
 * consistent and the plan validated, and removes the slices. Each may have been done by a run before.
 * @throws LifeboatError `IndexBuildFailed`, `FenceLost`; `HeadInconsistent`, `HeadLost`, `DiskFull`, `StoreUnavailable`
 *   (retryable)
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
  await removeSync(stores, fence.incarnation);
}

async function makeWhole(ctx: StepContext, head: OpenHead, listed: ReadonlySet<string>): Promise<void> {
  const { record } = head;
  if (record.stage === 'consistent') return;
  const position = positionIn(record);
  const { appliedThrough, inconsistentUntil } = position;
  if (record.stage !== 'catching-up' || !inconsistentUntil || !reached(appliedThrough, inconsistentUntil)) {
    const where = formatOptime(appliedThrough.ts);
    throw new LifeboatError('HeadInconsistent', `the head of ${head.label} stands at ${where}, before its stop point`);
  }
  const leftovers = await removeLeftovers(head, listed);
  const total = head.deferred.entries.reduce((sum, [, specs]) => sum + specs.length, 0);
  const meter = new Meter('indexes', 'indexes', total);
  await buildDeferred(head.socket, head.catalog, head.deferred, (indexes) => {
    ctx.report(meter.add(indexes));
  });
  const consistent = { ...position, inconsistentUntil: null };
  await head.save({ ...record, stage: 'consistent', position: consistent }, { journaled: true });
  ctx.logger.info(
    { optime: formatOptime(appliedThrough.ts), indexes: meter.now().done, leftovers },
    'head is consistent',
  );
}
