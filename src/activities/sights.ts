/**
 * What the activities of one workflow in this process are seen to do. A workflow learns nothing of an activity before
 * its end; this is where it can ask, so that the Temporal UI shows how far the work is.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { LifeboatError } from '../shared/errors.ts';
import type { Problem, Progress } from '../shared/messages.ts';
import { inOrder } from './boards.ts';
import type { EdgeObserver } from './edge.ts';
import type { Sight } from './types.ts';

const LOOK_EVERY_MS = 1_000;
/** A change is told no sooner than this after the last telling: each of them makes a history longer. */
const LEAST_MS = 30_000;

interface Work {
  readonly running: Map<string, Progress>;
  readonly troubles: Map<string, Problem>;
}

export class Sights {
  /** By the id of the workflow. */
  readonly #works = new Map<string, Work>();

  /** What notes how an activity of that workflow goes. */
  observer(workflow: string, activity: string): EdgeObserver {
    return {
      progress: (progress) => void this.#work(workflow).running.set(activity, progress),
      well: () => void this.#works.get(workflow)?.troubles.delete(activity),
      troubled: ({ code, message, fix }: LifeboatError) => {
        const { troubles } = this.#work(workflow);
        const since = troubles.get(activity)?.since ?? new Date().toISOString();
        troubles.set(activity, { code, message, fix, since });
      },
      ended: () => {
        const work = this.#works.get(workflow);
        work?.running.delete(activity);
        if (work?.running.size === 0 && work.troubles.size === 0) this.#works.delete(workflow);
      },
    };
  }

  of(workflow: string): Sight {
    const work = this.#works.get(workflow);
    if (!work) return { working: [], trouble: null };
    const [oldest] = [...work.troubles.values()].sort((a, b) => (a.since < b.since ? -1 : 1));
    return { working: inOrder(work.running), trouble: oldest ?? null };
  }

  /** The sight after `maxMs`, or sooner when something else is done, or ails it, than what `shown` says. */
  async next(workflow: string, shown: Sight | null, maxMs: number, signal: AbortSignal): Promise<Sight> {
    const from = performance.now();
    for (;;) {
      const sight = this.of(workflow);
      const passedMs = performance.now() - from;
      const isNews = shown === null || gist(sight) !== gist(shown);
      if (passedMs >= maxMs || (isNews && passedMs >= Math.min(maxMs, LEAST_MS))) return sight;
      await delay(LOOK_EVERY_MS, undefined, { signal });
    }
  }

  #work(workflow: string): Work {
    const known = this.#works.get(workflow);
    if (known) return known;
    const work: Work = { running: new Map(), troubles: new Map() };
    this.#works.set(workflow, work);
    return work;
  }
}

function gist({ working, trouble }: Sight): string {
  return [trouble?.code ?? '-', ...working.map(({ stage }) => stage)].join(' ');
}
