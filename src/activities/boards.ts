/** What the activities of one daemon show together: how far a member is, and what ails a deployment. */
import type { LifeboatError } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';

/** Steps that overlap, the one that is shown first: people wait for the copy while the head is already being built. */
const SHOWN_FIRST = [
  'takeSnapshot',
  'finishSync',
  'seedHead',
  'validateHead',
  'copySource',
  'buildHead',
  'applyEntries',
] as const;

export type ProgressSource = (typeof SHOWN_FIRST)[number];

/** How often progress is written to the store, at most. */
const WRITE_EVERY_MS = 2_000;

/** The progress of one member, of whatever runs for it at once. */
export class ProgressBoard {
  readonly #write: (working: readonly Progress[]) => Promise<void>;
  readonly #running = new Map<ProgressSource, Progress>();
  #timer: NodeJS.Timeout | undefined;

  /** @param write is called at most every two seconds with all that runs, what is shown first before the rest, and must not throw */
  constructor(write: (working: readonly Progress[]) => Promise<void>) {
    this.#write = write;
  }

  report(source: ProgressSource, progress: Progress): void {
    this.#running.set(source, progress);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#write(inOrder(this.#running));
    }, WRITE_EVERY_MS);
  }

  async ended(source: ProgressSource): Promise<void> {
    if (!this.#running.delete(source)) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#write(inOrder(this.#running));
  }
}

/** What runs at once, what people wait for first; following goes on beside all of it. */
export function inOrder(running: ReadonlyMap<string, Progress>): Progress[] {
  const order: readonly string[] = [...SHOWN_FIRST, 'tailOplog'];
  const rank = (name: string): number => order.indexOf(name);
  return [...running].sort(([a], [b]) => rank(a) - rank(b)).map(([, progress]) => progress);
}

/** Trouble that passes by itself. The workflow does not see it: its activity is simply tried again. */
export interface Trouble {
  readonly code: string;
  readonly message: string;
  readonly fix: string;
  readonly since: Date;
}

/** What ails one deployment now, by activity; the oldest is shown. */
export class TroubleBoard {
  readonly #write: (trouble: Trouble | null) => Promise<void>;
  readonly #troubles = new Map<string, Trouble>();
  /** A daemon that died may have left a trouble in the store that is long over. */
  #fresh = true;

  /** @param write must not throw */
  constructor(write: (trouble: Trouble | null) => Promise<void>) {
    this.#write = write;
  }

  async raise(activity: string, { code, message, fix }: LifeboatError): Promise<void> {
    const known = this.#troubles.get(activity);
    if (known?.code === code) return;
    this.#troubles.set(activity, { code, message, fix, since: known?.since ?? new Date() });
    await this.#show();
  }

  async clear(activity: string): Promise<void> {
    if (!this.#troubles.delete(activity) && !this.#fresh) return;
    await this.#show();
  }

  async #show(): Promise<void> {
    this.#fresh = false;
    const [oldest] = [...this.#troubles.values()].sort((a, b) => a.since.getTime() - b.since.getTime());
    await this.#write(oldest ?? null);
  }
}
