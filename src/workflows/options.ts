/** Every activity's options, in one table (research, temporal-typescript §1 and §9). */
import { proxyActivities, type ActivityOptions } from '@temporalio/workflow';
import type { DaemonActivities, SharedActivities } from '../activities/types.ts';
import { TASK_QUEUE } from '../shared/names.ts';

const common = {
  // Activities beat every two seconds; after this silence another attempt goes on from what is stored.
  heartbeatTimeout: '15 seconds',
  // The default lets a workflow go on while its activity still writes.
  cancellationType: 'WAIT_CANCELLATION_COMPLETED',
  // No limit: what is retryable passes by itself, and what is not carries that in its failure.
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '30 seconds' },
} as const satisfies ActivityOptions;

interface Choice {
  /** How long one attempt may take. The heartbeat finds a dead one much sooner. */
  readonly startToCloseTimeout: '5 minutes' | '1 hour' | '30 days';
  readonly summary: string;
  /** All tries together; without it, for ever. */
  readonly scheduleToCloseTimeout?: '1 minute' | '50 seconds';
  /** How long it may wait for the daemon to take it up; without it, for ever. */
  readonly scheduleToStartTimeout?: typeof SOON;
  /** Not waited for when it is cancelled: it changes nothing that anybody relies on. */
  readonly cancellationType?: 'TRY_CANCEL';
}

/** A worker that lives takes up what it is given at once, and one that was started again within this time. */
const SOON = '5 seconds';

const choices: Readonly<Record<keyof DaemonActivities, Choice>> = {
  recordPhase: { startToCloseTimeout: '5 minutes', summary: 'write the phase to the stores' },
  previewRestore: { startToCloseTimeout: '5 minutes', summary: 'look at what the restore would do' },
  planRestore: {
    startToCloseTimeout: '5 minutes',
    summary: 'find the snapshot and the entries that lead to the moment',
  },
  seedHead: { startToCloseTimeout: '30 days', summary: 'make the head from its newest snapshot' },
  prepareMember: { startToCloseTimeout: '1 hour', summary: 'check source, stores and mongod; open the head' },
  releaseMember: {
    startToCloseTimeout: '5 minutes',
    scheduleToCloseTimeout: '1 minute',
    scheduleToStartTimeout: SOON,
    summary: 'close the head',
  },
  discardIncarnation: { startToCloseTimeout: '30 days', summary: 'remove what was given up' },
  beginSync: { startToCloseTimeout: '1 hour', summary: 'choose the optimes of the sync; list collections' },
  copySource: { startToCloseTimeout: '1 hour', summary: 'copy collections into slices' },
  buildHead: { startToCloseTimeout: '1 hour', summary: 'load slices into the head' },
  tailOplog: { startToCloseTimeout: '1 hour', summary: 'follow the oplog of the source' },
  watchOplog: {
    startToCloseTimeout: '1 hour',
    // While it waits, a history that is long enough would not be handed over.
    scheduleToStartTimeout: SOON,
    cancellationType: 'TRY_CANCEL',
    summary: 'watch how far back the oplog reaches',
  },
  // It may have to build an index, which would begin anew when its time is over.
  applyEntries: { startToCloseTimeout: '30 days', summary: 'apply oplog entries to the head' },
  finishSync: { startToCloseTimeout: '30 days', summary: 'build the indexes of the head' },
  // A slice of time is short, but the server's own check of one large collection is not.
  validateHead: { startToCloseTimeout: '30 days', summary: 'compare the head with the source' },
  majorityOptime: { startToCloseTimeout: '5 minutes', summary: 'ask the source for its majority optime' },
  takeSnapshot: { startToCloseTimeout: '30 days', summary: 'cut the head into blocks' },
  restoreDirectory: { startToCloseTimeout: '30 days', summary: 'write the files of the snapshot and prove them' },
  abandonRestore: { startToCloseTimeout: '5 minutes', summary: 'record how the restore ended' },
  observe: { startToCloseTimeout: '1 hour', summary: 'see how far it is, for the details shown here' },
  verifySnapshot: { startToCloseTimeout: '30 days', summary: 'read the blocks of the snapshot' },
  removeSnapshot: { startToCloseTimeout: '5 minutes', summary: 'delete a snapshot' },
  planRetention: { startToCloseTimeout: '5 minutes', summary: 'find out which snapshots are kept' },
  applyRetention: { startToCloseTimeout: '30 days', summary: 'delete the snapshots that nothing keeps' },
  holdSnapshot: { startToCloseTimeout: '5 minutes', summary: 'hold a snapshot' },
  releaseSnapshot: { startToCloseTimeout: '5 minutes', summary: 'take the hold of a snapshot back' },
  planGroom: { startToCloseTimeout: '30 days', summary: 'count living and dead blocks' },
  groom: { startToCloseTimeout: '30 days', summary: 'delete dead blocks' },
  planPurge: { startToCloseTimeout: '30 days', summary: 'find out what a purge would remove' },
  beginPurge: { startToCloseTimeout: '5 minutes', summary: 'write down what is removed; end every claim on it' },
  discardHeads: { startToCloseTimeout: '1 hour', summary: 'remove heads of purged deployments' },
  purgeSnapshots: { startToCloseTimeout: '30 days', summary: 'remove snapshots and free their blocks' },
  purgeRecords: { startToCloseTimeout: '30 days', summary: 'remove slices, entries and records' },
  retireDaemon: { startToCloseTimeout: '5 minutes', summary: 'write down that a daemon is gone' },
  inspect: {
    startToCloseTimeout: '5 minutes',
    scheduleToCloseTimeout: '50 seconds',
    scheduleToStartTimeout: SOON,
    summary: 'look at stores, source and machine',
  },
};

/** The activities of the shared task queue. */
export function shared(): SharedActivities {
  return proxyActivities<SharedActivities>({
    ...common,
    taskQueue: TASK_QUEUE,
    startToCloseTimeout: '1 minute',
    summary: 'find the daemon that does the work',
  });
}

/** The activities that only write to the stores, which any daemon can do. */
export type RecordActivities = Pick<DaemonActivities, 'recordPhase' | 'abandonRestore'>;

/** The same, given up when the daemon does not take one up soon: another daemon does it then. */
export function recordsOnDaemon(taskQueue: string): RecordActivities {
  const proxied = <K extends keyof RecordActivities>(name: K): RecordActivities[K] => {
    const options = { ...common, ...choices[name], taskQueue, scheduleToStartTimeout: SOON } as const;
    return proxyActivities<RecordActivities>(options)[name];
  };
  return { recordPhase: proxied('recordPhase'), abandonRestore: proxied('abandonRestore') };
}

/**
 * The activities of one daemon.
 * @param patienceMs how long work waits for the daemon's worker, in milliseconds, before it fails and its workflow asks
 *   whether the daemon is gone; without it, for ever
 */
export function onDaemon(taskQueue: string, patienceMs?: number): DaemonActivities {
  const waiting: ActivityOptions = patienceMs === undefined ? {} : { scheduleToStartTimeout: patienceMs };
  const proxied = <K extends keyof DaemonActivities>(name: K): DaemonActivities[K] =>
    proxyActivities<DaemonActivities>({ ...common, ...waiting, ...choices[name], taskQueue })[name];
  return {
    recordPhase: proxied('recordPhase'),
    prepareMember: proxied('prepareMember'),
    seedHead: proxied('seedHead'),
    releaseMember: proxied('releaseMember'),
    discardIncarnation: proxied('discardIncarnation'),
    beginSync: proxied('beginSync'),
    copySource: proxied('copySource'),
    buildHead: proxied('buildHead'),
    tailOplog: proxied('tailOplog'),
    watchOplog: proxied('watchOplog'),
    applyEntries: proxied('applyEntries'),
    finishSync: proxied('finishSync'),
    validateHead: proxied('validateHead'),
    majorityOptime: proxied('majorityOptime'),
    takeSnapshot: proxied('takeSnapshot'),
    planRestore: proxied('planRestore'),
    previewRestore: proxied('previewRestore'),
    restoreDirectory: proxied('restoreDirectory'),
    abandonRestore: proxied('abandonRestore'),
    verifySnapshot: proxied('verifySnapshot'),
    removeSnapshot: proxied('removeSnapshot'),
    planRetention: proxied('planRetention'),
    applyRetention: proxied('applyRetention'),
    holdSnapshot: proxied('holdSnapshot'),
    releaseSnapshot: proxied('releaseSnapshot'),
    planGroom: proxied('planGroom'),
    groom: proxied('groom'),
    planPurge: proxied('planPurge'),
    beginPurge: proxied('beginPurge'),
    discardHeads: proxied('discardHeads'),
    purgeSnapshots: proxied('purgeSnapshots'),
    purgeRecords: proxied('purgeRecords'),
    retireDaemon: proxied('retireDaemon'),
    observe: proxied('observe'),
    inspect: proxied('inspect'),
  };
}
