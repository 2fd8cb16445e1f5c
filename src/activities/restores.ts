/** What an activity adds to the step of a restore: whose snapshot it is, and how a restore ended that did not succeed. */
import { MongoServerError } from 'mongodb';
import { findSnapshot } from '../blockstore/snapshots.ts';
import { castDriverError } from '../mongo/errors.ts';
import { toStoredPosition } from '../mongo/positions.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Problem } from '../shared/messages.ts';
import { thatRestore } from '../restore/record.ts';
import type { Stores } from '../stores/connect.ts';
import type { RestoreWork } from './types.ts';

const DUPLICATE_KEY = 11000;

/** @throws LifeboatError `UnknownSnapshot` when there is none of that id, or it is of another deployment */
export async function requireSnapshotOf(stores: Stores, deployment: string, snapshot: string): Promise<void> {
  const found = await findSnapshot(stores, snapshot);
  if (found?.deployment === deployment) return;
  throw new LifeboatError('UnknownSnapshot', `${deployment} has no snapshot ${snapshot}`);
}

export interface RestoreEnding extends RestoreWork {
  readonly state: 'failed' | 'cancelled';
  readonly problem: Problem | null;
  readonly daemon: string;
}

/** Marks a restore as failed or cancelled; one that is done stays done, and one of the same id but another kind stays. */
export async function abandonRestore(stores: Stores, ending: RestoreEnding): Promise<void> {
  const { id, deployment, snapshot, until, path, daemon, state, problem } = ending;
  const ofMoment = until ? { until: toStoredPosition(until) } : {};
  try {
    const now = await stores.now();
    await stores.restores.updateOne(
      { ...thatRestore({ _id: id, snapshot, destination: `dir:${path}`, ...ofMoment }), state: { $ne: 'done' } },
      {
        // A run that is still about loses its turn: `attempt` is its fence.
        $inc: { attempt: 1 },
        $set: { state, problem: problem && { ...problem, since: new Date(problem.since) }, endedAt: now },
        $setOnInsert: { deployment, daemon, stage: 'files', progress: null, startedAt: now, summary: null },
      },
      { upsert: true },
    );
  } catch (error) {
    if (error instanceof MongoServerError && error.code === DUPLICATE_KEY) return;
    throw castDriverError(error, 'store', `recording the end of restore ${id}`);
  }
}
