/** Writing what is known of a deployment as a whole. */
import { MongoServerError } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { errorKind, errorNames } from '../shared/errors.ts';
import type { Phase, Problem } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import { fenceOf } from '../stores/claims.ts';
import { updateMember } from '../stores/members.ts';
import type { StoredProblem } from '../stores/records.ts';
import type { Trouble } from './boards.ts';
import type { PhaseChange } from './types.ts';

const DUPLICATE_KEY = 11000;
const RUNNING: Phase[] = ['initial-sync', 'routine'];
/** The problems that pass by themselves, which activities write; every other is the workflow's. */
const PASSING = errorNames().flatMap((name) => (errorKind(name).retryable ? [errorKind(name).code] : []));

/**
 * Writes a phase. An attempt that comes late with an older one changes nothing.
 * @throws LifeboatError `FenceLost` when the member was claimed anew
 */
export async function writePhase(stores: Stores, change: PhaseChange): Promise<void> {
  const { deployment, member, phase, problem } = change;
  if (member)
    await updateMember(stores, fenceOf(member), { phase, ...(phase === 'initial-sync' ? {} : { progress: null }) });
  const phaseSince = new Date(change.since);
  try {
    await stores.deployments.updateOne(
      { _id: deployment, phaseSince: { $lte: phaseSince } },
      {
        $set: {
          kind: 'replica-set',
          phase,
          phaseSince,
          problem: problem && { ...problem, since: new Date(problem.since) },
        },
      },
      { upsert: true },
    );
  } catch (error) {
    // The record is there and newer: nothing matched, and the insert met it.
    if (error instanceof MongoServerError && error.code === DUPLICATE_KEY) return;
    throw castDriverError(error, 'store', `writing the phase of ${deployment}`);
  }
}

/** Shows a trouble that passes by itself while a backup runs, or takes it away. */
export async function recordTrouble(stores: Stores, deployment: string, trouble: Trouble | null): Promise<void> {
  await stores.deployments.updateOne(
    { _id: deployment, phase: { $in: RUNNING }, $or: [{ problem: null }, { 'problem.code': { $in: PASSING } }] },
    { $set: { problem: trouble } },
  );
}

/** A warning of the stores as it travels. */
export function shownProblem({ code, message, fix, since }: StoredProblem): Problem {
  return { code, message, fix, since: since.toISOString(), warning: true };
}
