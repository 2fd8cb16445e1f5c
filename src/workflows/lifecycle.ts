/**
 * The lifecycle of one backup as data, and every decision about it. Pure: what time it is comes in as an argument.
 *
 * The phase is never set: it follows from what the operator wishes, from the problem there is, and from how far the
 * initial sync came. What is handed from one run of the workflow to the next is this and nothing else.
 */
import { errorKind, type ErrorName } from '../shared/errors.ts';
import type { Claim, MemberClaim, Phase, Problem } from '../shared/messages.ts';
import type { Optime } from '../shared/optime.ts';
import type { Prepared, SyncStage } from '../activities/types.ts';
import type { Failure } from './failures.ts';

export interface Lifecycle {
  readonly wish: 'run' | 'pause' | 'stop';
  /** What the operator gave as the reason of the last pause or resync. */
  readonly reason: string | null;
  readonly problem: Problem | null;
  /** What stops nothing yet, as it was last looked at. For people only: the stores have it too. */
  readonly warnings: readonly Problem[];
  readonly claim: Claim | null;
  /** Another claim was made over ours, so that ours has to be made anew. */
  readonly claimLost: boolean;
  /** The daemon left work on its queue for too long: it may be gone. */
  readonly silent: boolean;
  /** The step that failed for good: it is not taken again before a command, whatever else is wanted. */
  readonly failedStep: Step | null;
  /** A resync was asked for, and not yet claimed. */
  readonly startOver: boolean;
  /** Incarnations (hex) that were given up, whose leavings are still stored. */
  readonly superseded: readonly string[];
  /** Source, stores and head were checked since the last claim, problem or pause. */
  readonly prepared: boolean;
  readonly stage: SyncStage;
  /** The head is being made from a snapshot. */
  readonly seed: boolean;
  /** ISO 8601: since when the phase is what it is. */
  readonly since: string;
  /** What the stores were told last; see `recordKey`. */
  readonly recorded: string | null;
  /** The newest optime stored from the source, and the one the head is at. For people only. */
  readonly seen: Optime | null;
  readonly applied: Optime | null;
}

export function newLifecycle(now: string): Lifecycle {
  return {
    wish: 'run',
    reason: null,
    problem: null,
    warnings: [],
    claim: null,
    claimLost: false,
    silent: false,
    failedStep: null,
    startOver: false,
    superseded: [],
    prepared: false,
    stage: 'sync',
    seed: false,
    since: now,
    recorded: null,
    seen: null,
    applied: null,
  };
}

/** Failures that only a new initial sync mends. Every other one that is not retryable is `failed`. */
const RESYNC_NEEDED: ReadonlySet<string> = new Set(
  (
    [
      'OplogGap',
      'SourceRolledBack',
      'EntriesDamaged',
      'EntriesMissing',
      'SliceDamaged',
      'SliceMissing',
      'Diverged',
      'HeadMissing',
      'EntryNotSupported',
      'ShadowedCollection',
      'IndexBuildFailed',
      'ValidationFailed',
      'IndexFormRefused',
      'FeatureVersionChanged',
    ] satisfies ErrorName[]
  ).map((name) => errorKind(name).code),
);

export function phaseOf(life: Lifecycle): Phase {
  if (life.wish === 'stop') return 'stopped';
  if (life.wish === 'pause') return 'paused';
  if (life.problem) return RESYNC_NEEDED.has(life.problem.code) ? 'resync-needed' : 'failed';
  return life.stage === 'routine' ? 'routine' : 'initial-sync';
}

/** All that `recordPhase` writes, as one text: recorded again when it differs from what was recorded last. */
export function recordKey(life: Lifecycle): string {
  const { member } = life.claim ?? { member: null };
  return [
    phaseOf(life),
    life.since,
    life.problem?.since ?? '-',
    member?.key ?? '-',
    member?.incarnation ?? '-',
    life.claim?.daemon ?? '-',
  ].join(' ');
}

/**
 * `claim`, `record`, `discard`, `prepare`: do that, then decide again. `work`: initial sync or routine operation,
 * until something comes in between. `wait`: for a command. `fail`, `end`: the workflow is over.
 */
export type Step = 'claim' | 'record' | 'discard' | 'prepare' | 'work' | 'wait' | 'fail' | 'end';

export function nextStep(life: Lifecycle): Step {
  const claimWanted = life.claimLost || life.startOver || life.silent;
  if (life.claim && claimWanted && life.failedStep !== 'claim') return 'claim';
  if (life.recorded !== recordKey(life)) return 'record';
  if (life.wish === 'stop') return 'end';
  // A backup of which nothing is stored yet has nothing to wait for: whoever starts it is to be told at once.
  if (life.problem && !life.claim?.member) return 'fail';
  if (life.wish === 'pause' || life.problem) return 'wait';
  if (!life.claim) return 'claim';
  if (life.claim.member && life.superseded.length > 0) return 'discard';
  return life.prepared ? 'work' : 'prepare';
}

/** True while nothing is read and may be lost for it: the oplog of the source moves on, and is to be watched. */
export function isFallingBehind(life: Lifecycle): boolean {
  const phase = phaseOf(life);
  return Boolean(life.claim?.member) && (phase === 'paused' || phase === 'failed');
}

/** Gives `since` the time at which the phase changed. */
function changed(before: Lifecycle, after: Lifecycle, now: string): Lifecycle {
  return phaseOf(before) === phaseOf(after) ? after : { ...after, since: now };
}

export function pauseWished(life: Lifecycle, reason: string | null, now: string): Lifecycle {
  if (life.wish !== 'run') return life;
  return changed(life, { ...life, wish: 'pause', reason, prepared: false }, now);
}

/** After a pause, or another try after a problem. Without either it changes nothing. */
export function resumeWished(life: Lifecycle, now: string): Lifecycle {
  if (life.wish === 'stop' || (life.wish === 'run' && !life.problem)) return life;
  return changed(life, { ...life, wish: 'run', reason: null, problem: null, failedStep: null, prepared: false }, now);
}

export function resyncWished(life: Lifecycle, reason: string | null, now: string): Lifecycle {
  if (life.wish === 'stop') return life;
  const begun: Lifecycle = {
    ...life,
    wish: 'run',
    reason,
    problem: null,
    failedStep: null,
    prepared: false,
    startOver: true,
    warnings: [],
    stage: 'sync',
    seed: false,
    seen: null,
    applied: null,
  };
  return changed(life, begun, now);
}

export function stopWished(life: Lifecycle, now: string): Lifecycle {
  return changed(life, { ...life, wish: 'stop', prepared: false }, now);
}

/** The incarnation that the next claim replaces, or undefined when it only raises the epoch. */
export function replacedBy(life: Lifecycle): string | undefined {
  return life.startOver ? life.claim?.member?.incarnation : undefined;
}

/** True when only a daemon that is gone loses its claim: nothing else is amiss with it. */
export function asksForTakeover(life: Lifecycle): boolean {
  return life.silent && !life.claimLost && !life.startOver && (life.claim?.member ?? null) !== null;
}

export function claimed(life: Lifecycle, claim: Claim): Lifecycle {
  const replaced = replacedBy(life);
  const same = claim.daemon === life.claim?.daemon && claim.member?.epoch === life.claim.member?.epoch;
  return {
    ...life,
    claim,
    claimLost: false,
    silent: false,
    failedStep: null,
    // A resync that was asked for before anything was claimed still has what this claim found to replace.
    startOver: life.startOver && replaced === undefined && claim.member !== null,
    // What was prepared under a claim that stays is prepared.
    prepared: life.prepared && asksForTakeover(life) && same,
    superseded: replaced === undefined ? life.superseded : [...life.superseded, replaced],
  };
}

/** Work was not taken up in time, or the daemon was retired: another one may have to do it. */
export function daemonSilent(life: Lifecycle): Lifecycle {
  return { ...life, silent: true };
}

export function seeded(life: Lifecycle): Lifecycle {
  return { ...life, seed: false };
}

export function claimWasLost(life: Lifecycle): Lifecycle {
  return { ...life, claimLost: true, prepared: false };
}

export function prepared(life: Lifecycle, { member, stage, seed, warnings }: Prepared, now: string): Lifecycle {
  const claim = withMember(life.claim, member);
  return changed(life, { ...life, claim, stage, seed, warnings, prepared: true }, now);
}

export function stageReached(life: Lifecycle, stage: SyncStage, now: string): Lifecycle {
  return changed(life, { ...life, stage }, now);
}

/** @param step what failed for good */
export function failed(life: Lifecycle, { code, message, fix }: Failure, now: string, step: Step = 'work'): Lifecycle {
  const problem = { code, message, fix, since: now };
  const after = changed(life, { ...life, problem, failedStep: step, prepared: false }, now);
  return step === 'record' ? unrecorded(after) : after;
}

/** What cannot be recorded is left at that, until there is something else to record. */
export function unrecorded(life: Lifecycle): Lifecycle {
  return { ...life, recorded: recordKey(life) };
}

function withMember(claim: Claim | null, member: MemberClaim): Claim | null {
  return claim === null ? null : { ...claim, member };
}
