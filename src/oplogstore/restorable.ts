/** Which moments can be restored: from which snapshot the stored entries lead how far. Pure; design decision 8. */
import { compareOptimes, minOptime, type Optime, type Position } from '../shared/optime.ts';
import type { RestorableRange } from '../shared/messages.ts';
import type { Chain } from './points.ts';

/** What is asked of a committed snapshot here. */
export interface ReplayBase {
  readonly id: string;
  /** Of the initial sync whose entries lead on from it, hex. */
  readonly incarnation: string;
  readonly optime: Optime;
  /** The first entry that a replay from the snapshot needs. */
  readonly oplogFrom: Position;
  /** False of one that was found to differ from its source: it is no moment of it, and nothing is replayed on top of it. */
  readonly good: boolean;
}

/** The stored entries of one initial sync, and what keeps a replay of them from going on. */
export interface ReplayChain extends Chain {
  /** Optimes behind which the next entry cannot be replayed. A snapshot behind it is a base again. */
  readonly stops: readonly Optime[];
}

/** Chains by their incarnation, hex; one without entries is left out. */
export type ReplayChains = ReadonlyMap<string, ReplayChain>;

/** The last optime that can be restored from a good snapshot; its own when no entry leads on from it. */
function reachOf({ incarnation, optime, oplogFrom }: ReplayBase, chains: ReplayChains): Optime {
  const chain = chains.get(incarnation);
  const leadsOn =
    chain && compareOptimes(chain.first.ts, oplogFrom.ts) <= 0 && compareOptimes(chain.last.ts, optime) >= 0;
  if (!leadsOn) return optime;
  return chain.stops.filter((stop) => compareOptimes(stop, optime) >= 0).reduce(minOptime, chain.last.ts);
}

/** Every optime that can be restored, in ranges from old to new; what lies between two of them cannot. */
export function restorableRanges(snapshots: readonly ReplayBase[], chains: ReplayChains): RestorableRange[] {
  const ranges: (RestorableRange & { readonly incarnation: string })[] = [];
  const good = snapshots.filter((one) => one.good);
  for (const snapshot of good.toSorted((a, b) => compareOptimes(a.optime, b.optime))) {
    const { incarnation, optime: from } = snapshot;
    const to = reachOf(snapshot, chains);
    const before = ranges.at(-1);
    // Of two initial syncs each has its own history: only within one does a range lead over into the next.
    if (before?.incarnation === incarnation && compareOptimes(from, before.to) <= 0) {
      const end = compareOptimes(before.to, to) >= 0 ? before.to : to;
      ranges[ranges.length - 1] = { ...before, to: end };
    } else {
      ranges.push({ incarnation, from, to });
    }
  }
  return ranges.map(({ from, to }) => ({ from, to }));
}

/** The newest good snapshot from which an optime can be reached. */
export function baseFor<S extends ReplayBase>(
  optime: Optime,
  snapshots: readonly S[],
  chains: ReplayChains,
): S | undefined {
  return snapshots
    .filter((one) => one.good && compareOptimes(one.optime, optime) <= 0)
    .filter((one) => compareOptimes(optime, reachOf(one, chains)) <= 0)
    .reduce<S | undefined>(
      (best, one) => (best && compareOptimes(best.optime, one.optime) > 0 ? best : one),
      undefined,
    );
}

/** The restorable optimes next to one that is not: before it and behind it. */
export function nearestTo(
  optime: Optime,
  ranges: readonly RestorableRange[],
): { readonly before: Optime | null; readonly after: Optime | null } {
  const before = ranges.map(({ to }) => to).filter((to) => compareOptimes(to, optime) < 0);
  const after = ranges.map(({ from }) => from).filter((from) => compareOptimes(from, optime) > 0);
  return {
    before: before.toSorted(compareOptimes).at(-1) ?? null,
    after: after.toSorted(compareOptimes)[0] ?? null,
  };
}
