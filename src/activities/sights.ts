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
  /** How many activities are at work. */
  active: number;
  /** Aborted when the last of them ends. */
  rest: AbortController;
}

export class Sights {
  /** By the id of the workflow. */
  readonly #works = new Map<string, Work>();

  /** What notes how an activity of that workflow goes, which begins now. */
  observer(workflow: string, activity: string): EdgeObserver {
    const work = this.#work(workflow);
    const { running, troubles } = work;
    work.active += 1;
    return {
      progress: (progress) => void running.set(activity, progress),
      well: () => void troubles.delete(activity),
      troubled: ({ code, message, fix }: LifeboatError) => {
        const since = troubles.get(activity)?.since ?? new Date().toISOString();
        troubles.set(activity, { code, message, fix, since });
      },
      ended: () => {
        running.delete(activity);
        work.active -= 1;
        if (work.active > 0) return;
        work.rest.abort();
        work.rest = new AbortController();
        if (troubles.size === 0 && this.#works.get(workflow) === work) this.#works.delete(workflow);
      },
    };
  }

  of(workflow: string): Sight {
    const work = this.#works.get(workflow);
    if (!work) return { working: [], trouble: null };
    const [oldest] = [...work.troubles.values()].sort((a, b) => (a.since < b.since ? -1 : 1));
    return { working: inOrder(work.running), trouble: oldest ?? null };
  }

  /**
   * The sight after `maxMs`, or sooner when something else is done, or ails it, than what `shown` says, or when the last
   * activity ends: the workflow may have nothing more to wait for.
   */
  async next(workflow: string, shown: Sight | null, maxMs: number, signal: AbortSignal): Promise<Sight> {
    const from = performance.now();
    const rest = this.#works.get(workflow)?.rest.signal;
    const wake = rest ? AbortSignal.any([signal, rest]) : signal;
    for (;;) {
      const sight = this.of(workflow);
      const passedMs = performance.now() - from;
      const isNews = shown === null || gist(sight) !== gist(shown);
      if (rest?.aborted || passedMs >= maxMs || (isNews && passedMs >= Math.min(maxMs, LEAST_MS))) return sight;
      await delay(LOOK_EVERY_MS, undefined, { signal: wake }).catch(() => undefined);
      signal.throwIfAborted();
    }
  }

  #work(workflow: string): Work {
    const known = this.#works.get(workflow);
    if (known) return known;
    const work: Work = { running: new Map(), troubles: new Map(), active: 0, rest: new AbortController() };
    this.#works.set(workflow, work);
    return work;
  }
}

function gist({ working, trouble }: Sight): string {
  return [trouble?.code ?? '-', ...working.map(({ stage }) => stage)].join(' ');
}
