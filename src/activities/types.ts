/**
 * What the activities take and give: names, optimes and counters (design decision 2). Types only, so that workflows
 * can name the activities without loading them.
 */
import type {
  Claim,
  GroomCensus,
  Inspection,
  MemberClaim,
  Phase,
  Problem,
  PurgePlan,
  Progress,
  RestorePoint,
  RestorePreview,
  RestoreSummary,
  RetentionPlan,
  RetentionResult,
  RetiredDaemon,
  SnapshotSummary,
  VerifyResult,
} from '../shared/messages.ts';
import type { Optime, Position } from '../shared/optime.ts';

/**
 * `backup`: a run of the lifecycle, which raises the epoch; `replace` starts over (see BackupClaimRequest).
 * `takeover`: the same, if the owner, which did not take up its work, is gone; else its claim stays as it is.
 * `head`: work on the head of a backup in routine operation. `anywhere`: work that any daemon can do. `inspect`: looking
 * at a deployment from the daemon that owns it, else from any; it needs no store.
 */
export type ClaimRequest =
  | { readonly purpose: 'backup'; readonly deployment: string; readonly replace?: string }
  | { readonly purpose: 'takeover'; readonly deployment: string }
  | { readonly purpose: 'head'; readonly deployment: string }
  | { readonly purpose: 'anywhere'; readonly daemon?: string }
  | { readonly purpose: 'inspect'; readonly deployment: string | null };

/** The only activity of the shared task queue. */
export interface SharedActivities {
  claim(request: ClaimRequest): Promise<Claim>;
}

/** A member under a claim: what every activity on a source or a head is given. */
export interface MemberWork {
  readonly deployment: string;
  readonly member: MemberClaim;
}

export interface PhaseChange {
  readonly deployment: string;
  /** Null while nothing of the deployment was ever stored. */
  readonly member: MemberClaim | null;
  readonly phase: Phase;
  /** ISO 8601, by the workflow's clock. */
  readonly since: string;
  readonly problem: Problem | null;
}

/**
 * `sync`: an initial sync is to be begun, or its head to be made whole. `validate`: the head is whole, and not yet compared
 * with its source. `first-snapshot`: it is validated, and not yet a snapshot.
 */
export type SyncStage = 'sync' | 'validate' | 'first-snapshot' | 'routine';

export interface Prepared {
  readonly member: MemberClaim;
  readonly stage: SyncStage;
  /** The head is not here, and is to be made from a snapshot before anything is applied. */
  readonly seed: boolean;
  readonly warnings: readonly Problem[];
}

/** What the other activities of a workflow are seen to do: what people wait for first, and the oldest trouble that passes by itself. */
export interface Sight {
  readonly working: readonly Progress[];
  readonly trouble: Problem | null;
}

/** The activities of a daemon's own task queue. */
export interface DaemonActivities {
  /** Writes a phase to the stores. An older one never replaces a newer one. */
  recordPhase(change: PhaseChange): Promise<void>;
  /** Checks source, stores and binaries, makes the member's record when there is none, and opens the head. */
  prepareMember(work: { readonly deployment: string; readonly member: MemberClaim | null }): Promise<Prepared>;
  /** Closes the head cleanly. */
  releaseMember(work: MemberWork): Promise<void>;
  /** Makes the head from its newest snapshot, unless it is here. */
  seedHead(work: MemberWork): Promise<void>;
  /** Removes what an incarnation that was given up left in the stores. */
  discardIncarnation(work: MemberWork & { readonly incarnation: string }): Promise<void>;
  beginSync(work: MemberWork): Promise<void>;
  copySource(work: MemberWork): Promise<{ readonly finished: boolean }>;
  buildHead(work: MemberWork): Promise<{ readonly finished: boolean }>;
  /** Follows the source for one slice of time. `warnings`: all there are, or null when that was not looked at. */
  tailOplog(
    work: MemberWork,
  ): Promise<{ readonly through: Optime | null; readonly warnings: readonly Problem[] | null }>;
  /** Watches the oplog for one slice of time while nothing is read; returns all warnings there are. */
  watchOplog(work: MemberWork): Promise<{ readonly warnings: readonly Problem[] }>;
  /** Applies what is stored for one slice of time; with `toStop`, no further than the stop point of the initial sync. */
  applyEntries(
    work: MemberWork & { readonly toStop: boolean },
  ): Promise<{ readonly appliedThrough: Optime; readonly finished: boolean }>;
  finishSync(work: MemberWork): Promise<void>;
  /** Compares the head with the source for one slice of time. */
  validateHead(work: MemberWork): Promise<{ readonly finished: boolean }>;
  /** The source's majority optime now. */
  majorityOptime(work: MemberWork): Promise<Optime>;
  /** `first` ends an initial sync; any other is given up when the backup leaves routine operation. */
  takeSnapshot(work: MemberWork & { readonly minimum: Optime; readonly first: boolean }): Promise<SnapshotSummary>;
  /** From which snapshot, and up to which entry, a moment is restored; without `at`, the newest there is. */
  planRestore(request: { readonly deployment: string; readonly at?: string }): Promise<RestorePoint>;
  /** What a restore would do; changes nothing. */
  previewRestore(
    request: RestorePoint & { readonly deployment: string; readonly path: string },
  ): Promise<RestorePreview>;
  restoreDirectory(request: RestoreWork): Promise<RestoreSummary>;
  /** Marks a restore that did not reach its end. One that did stays as it is. */
  abandonRestore(
    request: RestoreWork & { readonly state: 'failed' | 'cancelled'; readonly problem: Problem | null },
  ): Promise<void>;
  /** Without a `sample`, a share of its blocks, all of them. */
  verifySnapshot(request: { readonly snapshot: string; readonly sample?: number }): Promise<VerifyResult>;
  /** What the workflow's other activities do after `maxMs`, or sooner when that is no longer what `shown` says. */
  observe(request: { readonly shown: Sight | null; readonly maxMs: number }): Promise<Sight>;
  /** Looks at the stores and, if one is named, at a deployment, from this daemon's machine. */
  inspect(request: { readonly deployment: string | null }): Promise<Inspection>;
  /** Deletes a snapshot, unless it is pinned or in use. */
  removeSnapshot(request: { readonly snapshot: string }): Promise<void>;
  planRetention(request: { readonly deployment: string }): Promise<RetentionPlan>;
  /** Deletes what nothing keeps. */
  applyRetention(request: { readonly deployment: string }): Promise<RetentionResult>;
  holdSnapshot(request: { readonly snapshot: string; readonly reason: string | null }): Promise<SnapshotSummary>;
  releaseSnapshot(request: { readonly snapshot: string }): Promise<SnapshotSummary>;
  /** The blocks that are alive and dead; changes nothing. */
  planGroom(): Promise<GroomCensus>;
  /** Goes on with the groom of that run until it is done. */
  groom(request: {
    readonly run: string;
  }): Promise<{ readonly deletedBlocks: number; readonly reclaimedBytes: number; readonly reusableBytes: number }>;
  planPurge(request: { readonly deployment: string }): Promise<PurgePlan>;
  /** Writes down what goes and ends every claim on it; the daemons that have heads of it. */
  beginPurge(request: PurgeRun): Promise<{ readonly daemons: readonly string[] }>;
  /** Removes from this daemon's disk the heads that it was left word of. */
  discardHeads(): Promise<void>;
  purgeSnapshots(request: PurgeRun): Promise<{ readonly deletedBlocks: number; readonly reclaimedBytes: number }>;
  purgeRecords(request: PurgeRun): Promise<void>;
  /** Writes down that another daemon is gone for good. */
  retireDaemon(request: { readonly daemon: string }): Promise<RetiredDaemon>;
}

export interface PurgeRun {
  readonly deployment: string;
  /** Of the workflow. */
  readonly run: string;
}

export interface RestoreWork {
  readonly id: string;
  readonly deployment: string;
  readonly snapshot: string;
  /** The last entry that is applied to the snapshot, and how many are; none without it. */
  readonly until?: Position;
  readonly entries?: number;
  /** Absolute. */
  readonly path: string;
}
