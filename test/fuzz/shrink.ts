/**
 * Making a workload that fails smaller. Clients interleave as they will, so that a smaller one may fail only now and then:
 * each is tried a few times before it counts as one that does not.
 */
import type { Operation, Workload } from './operations.ts';

const TRIES = 2;

/** One thing that can be left out of a workload: where it stands. */
type Part =
  | { readonly of: 'before' | 'stops'; readonly at: number }
  | { readonly of: 'duringSync' | 'routine'; readonly client: number; readonly at: number }
  | { readonly of: 'disturbance' };

function partsOf({ before, clients, stops, disturbance }: Workload): Part[] {
  return [
    ...(disturbance.cutWithinMs === null ? [] : [{ of: 'disturbance' } as const]),
    ...stops.map((_, at): Part => ({ of: 'stops', at })),
    ...(['routine', 'duringSync'] as const).flatMap((of) =>
      clients.flatMap((steps, client) => steps[of].map((_, at): Part => ({ of, client, at }))),
    ),
    ...before.map((_, at): Part => ({ of: 'before', at })),
  ];
}

/** A workload without some of its parts. Pure. */
export function without(workload: Workload, parts: readonly Part[]): Workload {
  const gone = new Set(parts.map((part) => JSON.stringify(part)));
  const has = (part: Part): boolean => !gone.has(JSON.stringify(part));
  return {
    ...workload,
    before: workload.before.filter((_: Operation, at) => has({ of: 'before', at })),
    stops: workload.stops.filter((_, at) => has({ of: 'stops', at })),
    clients: workload.clients.map(({ duringSync, routine }, client) => ({
      duringSync: duringSync.filter((_, at) => has({ of: 'duringSync', client, at })),
      routine: routine.filter((_, at) => has({ of: 'routine', client, at })),
    })),
    disturbance: has({ of: 'disturbance' })
      ? workload.disturbance
      : { cutWithinMs: null, twins: 0, killHeadWithinMs: null },
  };
}

/**
 * The smallest workload that was found to fail within about `ms`: delta debugging, by halves, quarters and so on.
 * @param fails does a workload
 */
export async function shrink(
  workload: Workload,
  ms: number,
  fails: (candidate: Workload) => Promise<boolean>,
): Promise<Workload> {
  const deadline = Date.now() + ms;
  const failsOnce = async (candidate: Workload): Promise<boolean> => {
    for (let tries = 0; tries < TRIES && Date.now() < deadline; tries += 1) if (await fails(candidate)) return true;
    return false;
  };
  let smallest = workload;
  let size = Math.ceil(partsOf(workload).length / 2);
  while (Date.now() < deadline) {
    let found = false;
    for (let from = 0; from < partsOf(smallest).length && Date.now() < deadline;) {
      const candidate = without(smallest, partsOf(smallest).slice(from, from + size));
      if (await failsOnce(candidate)) {
        smallest = candidate;
        found = true;
      } else from += size;
    }
    if (size === 1 && !found) break;
    size = Math.max(1, Math.floor(size / 2));
  }
  return smallest;
}
