/** The record of a restore: what was asked for, how far it is, how it went. */
import { MongoServerError, type Filter } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { fromTimestamp, toTimestamp } from '../mongo/positions.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import type { Progress, RestoreSummary } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { RestoreRecord } from '../stores/records.ts';

/** Progress is written at most this often, in milliseconds. */
const WRITE_EVERY_MS = 2_000;

const DUPLICATE_KEY = 11000;

type Asked = Pick<RestoreRecord, '_id' | 'deployment' | 'snapshot' | 'until' | 'destination' | 'daemon'>;

export function summaryOfRestore({ _id: id, destination, summary }: RestoreRecord): RestoreSummary | null {
  if (!summary) return null;
  const { optime, bytes, entriesReplayed, durationMs, verified } = summary;
  return { id, destination, optime: fromTimestamp(optime), bytes, entriesReplayed, durationMs, verified };
}

export function storedSummary(
  summary: Omit<RestoreSummary, 'id' | 'destination'>,
): NonNullable<RestoreRecord['summary']> {
  const { optime, bytes, entriesReplayed, durationMs, verified } = summary;
  return { optime: toTimestamp(optime), bytes, entriesReplayed, durationMs, verified };
}

/** The filter of a restore's record: one of that id, from there to there. */
export function thatRestore({
  _id,
  snapshot,
  until,
  destination,
}: Pick<Asked, '_id' | 'snapshot' | 'until' | 'destination'>): Filter<RestoreRecord> {
  return { _id, snapshot, until: until ?? { $exists: false }, destination };
}

/** One run of a restore's step: the only one that may write the record until a later run begins. */
export class RestoreRun {
  readonly #stores: Stores;
  #record: RestoreRecord;
  #writtenAt = 0;
  #writing: Promise<void> = Promise.resolve();
  readonly #superseded = new AbortController();
  /** What ailed the run before this one; shown until this one gets on. */
  readonly problemBefore: RestoreRecord['problem'];

  private constructor(stores: Stores, record: RestoreRecord) {
    this.#stores = stores;
    this.#record = record;
    this.problemBefore = record.problem;
  }

  /** As this run last wrote it. */
  get record(): RestoreRecord {
    return this.#record;
  }

  /** Aborted, with a `FenceLost` as its reason, when a write of progress found a later run. */
  get signal(): AbortSignal {
    return this.#superseded.signal;
  }

  /**
   * Makes the record, or goes on with the one that is there.
   * @throws LifeboatError `BadInput` when the id belongs to another restore
   */
  static async begin(stores: Stores, asked: Asked): Promise<RestoreRun> {
    const { _id, deployment, daemon } = asked;
    try {
      const now = await stores.now();
      const record = await stores.restores.findOneAndUpdate(
        thatRestore(asked),
        {
          $setOnInsert: {
            deployment,
            startedAt: now,
            endedAt: null,
            state: 'running',
            stage: 'files',
            progress: null,
            problem: null,
            summary: null,
          },
          $set: { daemon },
          $currentDate: { seenAt: true },
          $inc: { attempt: 1 },
        },
        { upsert: true, returnDocument: 'after' },
      );
      if (!record) throw new LifeboatError('Internal', `restore ${_id} left no record`);
      const run = new RestoreRun(stores, record);
      // Its problem stays until there is progress: a restore that fails again and again would else seem to be well.
      if (record.state !== 'done') await run.set({ state: 'running', endedAt: null });
      return run;
    } catch (error) {
      if (error instanceof MongoServerError && error.code === DUPLICATE_KEY) {
        throw new LifeboatError('BadInput', `restore ${_id} is of another snapshot, another time or to another place`);
      }
      throw castDriverError(error, 'store', `beginning restore ${_id}`);
    }
  }

  /** @throws LifeboatError `FenceLost` when a later run has begun */
  async set(fields: Partial<Omit<RestoreRecord, '_id' | 'attempt'>>): Promise<void> {
    // A write of progress that is still on its way must not come after this one.
    await this.#writing;
    await this.#write(fields);
  }

  async #write(fields: Partial<Omit<RestoreRecord, '_id' | 'attempt'>>): Promise<void> {
    const { _id, attempt } = this.#record;
    try {
      const { matchedCount } = await this.#stores.restores.updateOne(
        { _id, attempt },
        { $set: fields, $currentDate: { seenAt: true } },
      );
      if (matchedCount === 0) throw new LifeboatError('FenceLost', `another run has taken over restore ${_id}`);
      this.#record = { ...this.#record, ...fields };
    } catch (error) {
      throw castDriverError(error, 'store', `updating restore ${_id}`);
    }
  }

  /** Writes progress now and then. A store that does not answer is no failure here: the work itself will meet it. */
  report(progress: Progress): void {
    const now = performance.now();
    if (now - this.#writtenAt < WRITE_EVERY_MS) return;
    this.#writtenAt = now;
    this.#writing = this.#write({ progress, problem: null }).catch((error: unknown) => {
      if (isLifeboatError(error, 'FenceLost')) this.#superseded.abort(error);
    });
  }
}
