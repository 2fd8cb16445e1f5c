/** What a backup does while it runs: the initial sync, then routine operation, until it is cancelled. */
import type { DaemonActivities, MemberWork, Sight, SyncStage } from '../activities/types.ts';
import type { Problem } from '../shared/messages.ts';
import type { Optime } from '../shared/optime.ts';
import { failureOf, isKind } from './failures.ts';
import { observe } from './observing.ts';
import { together } from './scopes.ts';

/** What a session needs of the workflow it runs in. */
export interface SessionHost {
  readonly activities: DaemonActivities;
  readonly work: MemberWork;
  /** How far the backup had come when the session began. */
  readonly stage: SyncStage;
  /** The head is to be made from a snapshot first. */
  readonly seed: boolean;
  /** How far it has come since. */
  readonly stageNow: () => SyncStage;
  /** Called around work that begins anew when it is cancelled. */
  readonly finishing: (finishing: boolean) => void;
  /** Called when it has come further; resolves when that is recorded. */
  readonly reached: (stage: SyncStage) => Promise<void>;
  /** Called when the head is there again. */
  readonly seeded: () => void;
  /** Called now and then with what goes on. */
  readonly saw: (sight: Sight) => void;
  /** Called after each slice of work with what it brought. */
  readonly sliceDone: (brought: {
    readonly seen?: Optime | null;
    readonly applied?: Optime;
    readonly warnings?: readonly Problem[] | null;
  }) => void;
}

/**
 * Runs until it is cancelled or fails. Every part of it finds in the stores how far an earlier session came, so it can
 * be cancelled and run again at any point.
 */
export async function runSession(host: SessionHost): Promise<never> {
  if (host.stage === 'sync') await host.activities.beginSync(host.work);
  await together([() => follow(host), () => build(host), () => look(host)]);
  throw new Error('a session ended by itself');
}

async function look({ activities, saw, stageNow }: SessionHost): Promise<never> {
  return observe(activities, saw, () => stageNow() === 'routine');
}

/** Stores the oplog of the source, from before the first document is copied. */
async function follow({ activities, work, sliceDone }: SessionHost): Promise<never> {
  for (;;) {
    const { through, warnings } = await activities.tailOplog(work);
    sliceDone({ seen: through, warnings });
  }
}

async function build(host: SessionHost): Promise<void> {
  if (host.seed) {
    // Meanwhile the oplog is followed already: it does not wait for a head.
    await host.activities.seedHead(host.work);
    host.seeded();
  }
  if (host.stage === 'sync') {
    while (!(await synced(host)));
    host.finishing(false);
    await host.reached('validate');
  }
  await together([() => applyForever(host), () => complete(host)]);
}

/** What is left of an initial sync when its head is whole. Entries are applied beside it: both need some again and again. */
async function complete(host: SessionHost): Promise<void> {
  if (host.stage === 'sync' || host.stage === 'validate') {
    await untilFinished(host, 'validateHead');
    await host.reached('first-snapshot');
  }
  if (host.stage !== 'routine') await firstSnapshot(host);
}

/** False when the head turned out to lack what an earlier step gave it: each step does again what is not there. */
async function synced(host: SessionHost): Promise<boolean> {
  await together([() => untilFinished(host, 'copySource'), () => untilFinished(host, 'buildHead')]);
  try {
    await catchUp(host);
    host.finishing(true);
    await host.activities.finishSync(host.work);
    return true;
  } catch (error) {
    const failure = failureOf(error);
    if (!failure || !isKind(failure, 'HeadUnfinished')) throw error;
    host.finishing(false);
    return false;
  }
}

async function untilFinished(
  { activities, work, sliceDone }: SessionHost,
  step: 'copySource' | 'buildHead' | 'validateHead',
): Promise<void> {
  let finished = false;
  while (!finished) {
    ({ finished } = await activities[step](work));
    sliceDone({});
  }
}

/** True when everything up to the stop point of the initial sync is applied. */
async function apply({ activities, work, sliceDone }: SessionHost, toStop: boolean): Promise<boolean> {
  const { appliedThrough, finished } = await activities.applyEntries({ ...work, toStop });
  sliceDone({ applied: appliedThrough });
  return finished;
}

async function catchUp(host: SessionHost): Promise<void> {
  let finished = false;
  while (!finished) finished = await apply(host, true);
}

async function applyForever(host: SessionHost): Promise<never> {
  for (;;) await apply(host, false);
}

/** The first snapshot ends the initial sync (design decision 7). */
async function firstSnapshot(host: SessionHost): Promise<void> {
  const { activities, work } = host;
  host.finishing(true);
  const minimum = await activities.majorityOptime(work);
  await activities.takeSnapshot({ ...work, minimum, first: true });
  host.finishing(false);
  await host.reached('routine');
}
