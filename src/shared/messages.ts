/**
 * What crosses a process border: inputs and results of workflows, activities and the command line.
 *
 * Everything here is plain JSON: names, optimes, cursors and counters. No secret and no user document ever stands in
 * one of these (design decision 2). Binary ids travel as lower-case hex.
 */
import type { Optime, Position } from './optime.ts';

export type DeploymentKind = 'replica-set' | 'sharded-cluster';

export const PHASES = ['initial-sync', 'routine', 'paused', 'resync-needed', 'failed', 'stopped'] as const;
export type Phase = (typeof PHASES)[number];

/** Why a backup, snapshot or restore does not go on. `since` is ISO 8601. */
export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly fix: string;
  readonly since: string;
  /** There on what stops nothing yet, and goes away by itself once it is no longer so. */
  readonly warning?: true;
}

/** `configuration` and the rest: what `lifeboat doctor` looks at. */
export const CHECK_NAMES = [
  'configuration',
  'temporal',
  'blockstore',
  'daemon',
  'source',
  'privileges',
  'oplog-window',
  'mongod',
  'disk',
  'open-files',
  'point-in-time',
] as const;
export type CheckName = (typeof CHECK_NAMES)[number];

/** One thing that was looked at. */
export interface Check {
  readonly name: CheckName;
  /** Null: of all of them. */
  readonly deployment: string | null;
  /** True unless it is `failed` or `unknown`. */
  readonly ok: boolean;
  /** `warning`: it works, and may not for long. `unknown`: it could not be looked at. */
  readonly level: 'passed' | 'warning' | 'failed' | 'unknown';
  readonly detail: string;
  /** What to do, where there is something to be done. */
  readonly fix: string | null;
  /** `LB` and four digits, where the error table has it. */
  readonly code: string | null;
}

/** What a daemon found that looked at its stores and a deployment. */
export interface Inspection {
  readonly daemon: string;
  readonly host: string;
  readonly checks: readonly Check[];
}

/** Which daemon the workflow `doctor` asked, and what it found; null when it does not answer. */
export interface DoctorAnswer {
  readonly daemon: string;
  readonly inspection: Inspection | null;
}

/** How far a stage is. `perSecond` counts units; `etaSeconds` is null while the end cannot be told. */
export interface Progress {
  readonly stage: string;
  readonly done: number;
  readonly total: number | null;
  readonly unit: 'bytes' | 'documents' | 'entries' | 'blocks' | 'collections' | 'indexes' | 'snapshots';
  readonly perSecond: number | null;
  readonly etaSeconds: number | null;
  /** What `perSecond` is held down to by the configuration; absent where nothing is. */
  readonly limitPerSecond?: number;
}

/** One member of a backup: the replica set itself, or a shard or the config servers of a cluster. */
export interface MemberStatus {
  readonly name: string;
  readonly phase: Phase;
  /** Null until the head holds data at an optime. */
  readonly appliedThrough: Optime | null;
  /** Seconds between the newest optime seen on the source and `appliedThrough`. */
  readonly lagSeconds: number | null;
  readonly daemon: string | null;
  readonly progress: Progress | null;
  /** What goes on at the same time as `progress`. */
  readonly alongside: readonly Progress[];
}

/** A closed range of optimes that can be restored; a snapshot alone is a range of one. */
export interface RestorableRange {
  readonly from: Optime;
  readonly to: Optime;
}

export interface BackupStatus {
  readonly deployment: string;
  readonly kind: DeploymentKind;
  readonly phase: Phase;
  /** Since when the phase is what it is, ISO 8601. */
  readonly since: string;
  readonly members: readonly MemberStatus[];
  readonly lastSnapshot: SnapshotSummary | null;
  readonly restorable: readonly RestorableRange[];
  readonly problem: Problem | null;
}

export interface SnapshotSummary {
  readonly id: string;
  readonly deployment: string;
  readonly optime: Optime;
  /** Wall time of the source's entry at `optime`, ISO 8601. */
  readonly wallTime: string;
  /** Bytes of all files of the head at `optime`. */
  readonly logicalBytes: number;
  /** Blocks that were not in the blockstore, and what they take there. */
  readonly newBlocks: number;
  readonly newStoredBytes: number;
  readonly reusedBlocks: number;
  readonly durationMs: number;
  readonly verification: SnapshotVerification;
  /** While there is one, nobody deletes it; `since` is ISO 8601. */
  readonly hold: { readonly reason: string | null; readonly since: string } | null;
}

/** What came of comparing a part of the head with the source, at the optime of a snapshot. */
export interface SnapshotVerification {
  /** `equal`: all that was compared is. `different`: not all of it is. `not-compared`: nothing was. */
  readonly state: 'equal' | 'different' | 'not-compared';
  /** Why nothing was compared, or less than was due; null when all that was due was. */
  readonly reason: string | null;
  /** Which pass through all documents, and which snapshot of it, each from 1; how many it is to take. */
  readonly round: number;
  readonly snapshot: number;
  readonly within: number;
  readonly roundEnded: boolean;
  /** All documents of the head, about; null when they were not looked at. What the round has compared so far. */
  readonly totalBytes: number | null;
  readonly roundBytes: number;
  /** What was compared and equal. */
  readonly ranges: number;
  readonly documents: number;
  readonly bytes: number;
  readonly definitions: boolean;
  /** How far the source was ahead of the optime when the comparing ended, at most. */
  readonly ageSeconds: number | null;
  /** How many namespaces were passed over for some reason, and which differ. */
  readonly omissions: number;
  readonly different: readonly string[];
}

export interface VerifyResult {
  readonly ok: boolean;
  /** Of a sample, about its share of all blocks. */
  readonly blocksChecked: number;
  readonly bytesChecked: number;
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

export interface RestoreSummary {
  readonly id: string;
  readonly destination: string;
  readonly optime: Optime;
  readonly bytes: number;
  readonly entriesReplayed: number;
  readonly durationMs: number;
  /** True when hashes, a started mongod and `validate` of every collection proved the result. */
  readonly verified: boolean;
}

/** What a restore begins with, and how far it goes from there. */
export interface RestorePoint {
  readonly snapshot: string;
  /** The last entry that is applied to it; null when the snapshot is what was asked for. */
  readonly until: Position | null;
  /** How many entries that are, and about how many bytes. */
  readonly entries: number;
  readonly entryBytes: number;
}

/** What a restore would do: the answer of `restore --dry-run`. */
export interface RestorePreview {
  readonly deployment: string;
  readonly snapshot: string;
  readonly optime: Optime;
  readonly destination: string;
  readonly daemon: string;
  /** Of the snapshot. */
  readonly blocks: number;
  readonly bytes: number;
  readonly entriesToReplay: number;
  readonly entryBytes: number;
  /** What it takes on the disk of the destination, at most, and what that has; null where it cannot be told. */
  readonly neededBytes: number;
  readonly freeBytes: number | null;
  /** Of the `mongod` that made the files, and what they are compatible with. */
  readonly mongodVersion: string;
  readonly featureCompatibilityVersion: string;
  /** By what earlier restores of that daemon took; null when there was none like it. */
  readonly estimatedMs: number | null;
  /** What would stop it. */
  readonly problems: readonly { readonly code: string; readonly message: string; readonly fix: string }[];
}

// The one JSON object that each workflow type takes.

export interface BackupInput {
  /** Its name in the configuration. */
  readonly deployment: string;
}
export interface DoctorInput {
  /** Without it, what all deployments need. */
  readonly deployment?: string;
}
export interface SnapshotInput {
  /** Its backup is in routine operation. */
  readonly deployment: string;
}
export interface RestoreInput {
  /** The deployment that was backed up. */
  readonly deployment: string;
  /** The id of a snapshot. Exactly one of `snapshot`, `at` and `latest` must be given. */
  readonly snapshot?: string;
  /** The moment: ISO 8601 with its zone (all entries of that second), or `SECONDS,ORDINAL`, an optime. */
  readonly at?: string;
  /** True: the newest moment that can be restored. */
  readonly latest?: boolean;
  /** `dir:PATH`, with an absolute path on the machine of the daemon. */
  readonly to: string;
  /** Not built yet: refused unless it is empty. */
  readonly include?: readonly string[];
  /** The daemon that does it, and on whose machine PATH is; without it, any that answers. */
  readonly daemon?: string;
  /** Restore nothing; what would be done is the result. */
  readonly dryRun?: boolean;
}
export interface VerifySnapshotInput {
  /** The id of the snapshot. */
  readonly snapshot: string;
  /** Which share of its blocks is read, above 0 and up to 1, spread evenly and drawn anew each time; without it, all. */
  readonly sample?: number;
}
export interface DeleteSnapshotInput {
  /** The id of the snapshot. */
  readonly snapshot: string;
}
/** What is left of a snapshot that was deleted. */
export interface DeletedSnapshot {
  readonly id: string;
}
export interface HoldSnapshotInput {
  /** The id of the snapshot. */
  readonly snapshot: string;
  /** Why, for those who look at it later. */
  readonly reason?: string;
}
export interface ReleaseSnapshotInput {
  /** The id of the snapshot. */
  readonly snapshot: string;
}
export interface ApplyRetentionInput {
  readonly deployment: string;
  /** Delete nothing; the plan is the result. */
  readonly dryRun?: boolean;
}

/** What each snapshot of a deployment is kept for: the answer of `retention show`. */
export interface RetentionView {
  readonly deployment: string;
  /** How many each tier keeps; null where the configuration says nothing, and all is kept. */
  readonly keep: Readonly<Record<string, number>> | null;
  /** Newest first; one that is kept for nothing goes. */
  readonly snapshots: readonly {
    readonly id: string;
    readonly optime: Optime;
    readonly keptFor: readonly string[];
  }[];
}

/** What retention would delete. */
export interface RetentionPlan {
  readonly deployment: string;
  readonly keep: RetentionView['keep'];
  readonly kept: number;
  readonly going: number;
  /** The oldest of those that go, a hundred at most. */
  readonly oldest: readonly string[];
}

/** What retention has deleted. */
export interface RetentionResult {
  readonly deployment: string;
  readonly keep: RetentionView['keep'];
  readonly kept: number;
  readonly deleted: number;
  /** The first of those that were deleted, and of those that were to go and stay for now: a hundred at most of each. */
  readonly deletedIds: readonly string[];
  readonly skipped: readonly { readonly id: string; readonly reason: string }[];
}

export interface RetireDaemonInput {
  /** The id of the daemon. */
  readonly daemon: string;
}

export interface PurgeInput {
  /** Its backup does not run. */
  readonly deployment: string;
  /** Remove nothing; the plan is the result. */
  readonly dryRun?: boolean;
}

export interface GroomInput {
  /** Delete nothing; the plan is the result. */
  readonly dryRun?: boolean;
}

/** The blocks of a blockstore: those that a snapshot, or work in progress, refers to, and the others. */
export interface GroomCensus {
  readonly liveBlocks: number;
  readonly deadBlocks: number;
  /** As they are stored; measured on a sample when there are many. */
  readonly liveBytes: number;
  readonly deadBytes: number;
}

export interface GroomResult extends GroomCensus {
  readonly deletedBlocks: number;
  readonly reclaimedBytes: number;
  /** What the files of the blockstore have free for blocks to come; null of a plan. */
  readonly reusableBytes: number | null;
  readonly durationMs: number;
  readonly dryRun: boolean;
}

/** What a purge removes: the answer of `purge --dry-run`. */
export interface PurgePlan {
  readonly deployment: string;
  readonly snapshots: {
    readonly count: number;
    readonly logicalBytes: number;
    readonly oldest: Optime | null;
    readonly newest: Optime | null;
  };
  readonly blocks: {
    /** Distinct blocks that its snapshots refer to; those that another deployment refers to as well stay. */
    readonly referred: number;
    readonly shared: number;
    readonly freed: number;
    /** As stored; measured on a sample when there are many. */
    readonly freedBytes: number;
    readonly estimated: boolean;
  };
  readonly syncStore: { readonly slices: number; readonly bytes: number };
  readonly oplogStore: { readonly batches: number; readonly bytes: number };
  readonly heads: readonly {
    readonly daemon: string;
    readonly member: string;
    readonly state: 'here' | 'silent' | 'retired' | 'unknown';
  }[];
  readonly restores: number;
  /** Work that is under way on its snapshots, and that is waited for. */
  readonly waitsFor: readonly { readonly purpose: string; readonly daemon: string; readonly snapshot: string | null }[];
}

export interface PurgeResult extends PurgePlan {
  readonly deletedBlocks: number;
  readonly reclaimedBytes: number;
  /** Daemons that did not answer: each removes its head when its worker runs again. */
  readonly headsLeftOn: readonly string[];
  readonly durationMs: number;
}

/** What became of a daemon that was retired. */
export interface RetiredDaemon {
  readonly id: string;
  /** ISO 8601, the store's clock. */
  readonly retiredAt: string;
  /** Deployments whose backups it owned. */
  readonly deployments: readonly string[];
}

/** Where a head stands; what an activity reports of it. */
export interface HeadPosition {
  /** Every entry up to and including this one is applied. */
  readonly appliedThrough: Position;
  /** The first entry that a replay from here needs: `appliedThrough` itself, or the first entry of the oldest transaction undecided there. */
  readonly oplogFrom: Position;
  /** While set, the head is not consistent before this optime. */
  readonly inconsistentUntil: Position | null;
}

/** The newest claim of one member: what every write for it must show (see MemberRecord.owner). */
export interface MemberClaim {
  /** `<deployment>/<member>` */
  readonly key: string;
  readonly member: string;
  /** Hex. */
  readonly incarnation: string;
  readonly epoch: number;
}

/** Where the work on a deployment runs. */
export interface Claim {
  readonly daemon: string;
  /** The daemon's own task queue. */
  readonly taskQueue: string;
  /** Null while nothing of the deployment was ever stored. */
  readonly member: MemberClaim | null;
  /** How long the daemon may leave work on its queue before it is asked whether it is gone, in milliseconds. */
  readonly patienceMs?: number;
}
