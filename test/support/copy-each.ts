/** The copying of a source by hand, collection by collection, so that a test can stand between two slices. */
import { fromStoredPosition } from '../../src/mongo/positions.ts';
import { ByteBudget } from '../../src/shared/budget.ts';
import type { Source } from '../../src/source/connect.ts';
import { pinPreferred, SharedMember } from '../../src/source/pinning.ts';
import { copyCollection } from '../../src/steps/copy-collection.ts';
import type { Stores } from '../../src/stores/connect.ts';
import { readMember, type MemberFence } from '../../src/stores/members.ts';
import { pendingCollections } from '../../src/syncstore/collections.ts';

export interface CopyParts {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
}

/** Every reply is a slice. */
const SLICE_BYTES = 1;
const AT_ONCE = 4;

/**
 * Copies of each listed collection what is not copied yet: one slice more, or all. What was copied is noted by nobody but
 * in its slices; copySource, run after this, finds them and the stop point.
 */
export async function copyEach({ stores, source, fence }: CopyParts, what: 'one slice' | 'all'): Promise<void> {
  const { sync } = await readMember(stores, fence);
  if (!sync) throw new Error('the initial sync has no plan');
  const { signal } = new AbortController();
  await using member = new SharedMember(
    sync.readFrom,
    () => pinPreferred(source, sync.readFrom, signal),
    () => Promise.resolve(),
  );
  const shared = {
    stores,
    incarnation: fence.incarnation,
    epoch: fence.epoch,
    member,
    beginApplying: fromStoredPosition(sync.beginApplying).ts,
    sliceBytes: SLICE_BYTES,
    budget: new ByteBudget(64 * 1024 * 1024),
    fresh: undefined,
    pace: source.pace,
    signal,
    checkFence: () => Promise.resolve(),
    plannedReader: () => Promise.resolve(sync.readFrom),
    stored: () => undefined,
  };
  const queue = (await pendingCollections(stores, fence.incarnation)).values();
  const work = async (): Promise<void> => {
    for (const collection of queue) {
      let asked = 0;
      // It is asked before a reading is begun, and after each slice.
      const timeIsUp = (): boolean => what === 'one slice' && asked++ > 0;
      await copyCollection({ ...shared, timeIsUp }, collection, what === 'all');
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
