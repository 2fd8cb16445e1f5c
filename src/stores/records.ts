/**
 * Every record that Lifeboat keeps in its stores, field by field (docs/formats.md is the same for people).
 *
 * Three databases, by default on one replica set, each with its own URI if wanted: the blockstore (`lifeboat`), which
 * also holds the state of deployments; the sync store (`lifeboat_sync`); the oplog store (`lifeboat_oplog`). All are
 * written with `w: majority`; no transaction spans two of them.
 *
 * How writers are kept apart: a record that extends a chain has the place it follows in its `_id`, so that of two
 * writers only one can extend it; a record that changes is changed by a write whose filter holds the epoch.
 */
import type { Binary, Long, ObjectId, Timestamp } from 'mongodb';
import type { DeploymentKind, Phase, Progress } from '../shared/messages.ts';

/** A position as it is stored: `{ts, t}`, the server's own OpTime shape. */
export interface StoredPosition {
  readonly ts: Timestamp;
  readonly t: Long;
}

/**
 * Bytes as they are stored: compressed, hashed, in parts of at most 8 MB. What fits one part stands inline; the parts
 * of anything longer are written first, under a random id of their own, and belong to nobody until this is written.
 */
export interface StoredBytes {
  readonly codec: 'zstd';
  /** Length before compression and after it, in bytes. */
  readonly rawBytes: number;
  readonly storedBytes: number;
  /** SHA-256 of the bytes before compression. */
  readonly sha256: Binary;
  readonly inline?: Binary;
  readonly parts?: { readonly id: ObjectId; readonly count: number };
}

/** One part of bytes that do not fit their record. */
export interface PartRecord {
  readonly _id: { readonly of: ObjectId; readonly n: number };
  readonly data: Binary;
  /** What the part belongs to, so that leftovers of a dead writer can be found. */
  readonly incarnation: ObjectId;
}

export interface StoredProblem {
  readonly code: string;
  readonly message: string;
  readonly fix: string;
  readonly since: Date;
}

// ---- blockstore database: state ---------------------------------------------------------------------------------

/** `deployments`: what is known of a deployment as a whole. */
export interface DeploymentRecord {
  /** The name of the configuration. */
  readonly _id: string;
  readonly kind: DeploymentKind;
  readonly phase: Phase;
  readonly phaseSince: Date;
  readonly problem: StoredProblem | null;
  /** Set while all that is stored of the deployment is being removed: nothing is claimed for it meanwhile. */
  readonly purge?: {
    /** Of the run that removes; a newer run puts its own here, and the older one stops. */
    readonly run: string;
    readonly since: Date;
    /** What is removed. What a later backup of the same name stores has other incarnations. */
    readonly incarnations: readonly ObjectId[];
    readonly snapshots: readonly string[];
  };
}

/** `members`: one replica set under backup; a replica set deployment has one, a cluster one for each shard. */
export interface MemberRecord {
  /** `<deployment>/<member>` */
  readonly _id: string;
  readonly deployment: string;
  /** The name of the set, or as the cluster names it. */
  readonly member: string;
  readonly phase: Phase;
  readonly source: {
    /** `replSetGetConfig().config.settings.replicaSetId`: tells one set from another of the same name. */
    readonly replicaSetId: ObjectId;
    readonly setName: string;
    readonly version: string;
    readonly featureCompatibilityVersion: string;
  };
  /** A new id for each initial sync; slices, entries and heads of another incarnation are never mixed in. */
  readonly incarnation: ObjectId;
  readonly owner: {
    readonly daemon: string;
    /** Counts the claims. Every write for this member holds it in its filter. */
    readonly epoch: number;
    readonly claimedAt: Date;
  };
  readonly sync: SyncPlan | null;
  /** A copy, for the status, of where the head durably stands. The head's own record is the truth. */
  readonly head: {
    readonly appliedThrough: StoredPosition;
    readonly oplogFrom: StoredPosition;
    readonly at: Date;
  } | null;
  /** The newest majority optime seen on the source, and when. */
  readonly seen: { readonly position: StoredPosition; readonly at: Date } | null;
  readonly progress: (Progress & { readonly at: Date }) | null;
  /** What runs at the same time as `progress`: a head is loaded while its source is still being copied. */
  readonly alongside?: readonly Progress[];
  /** The oplog of the source, looked at every minute, also while the backup is paused. */
  readonly oplog: {
    /** The member that was asked. */
    readonly host: string;
    readonly oldest: Timestamp;
    readonly newest: Timestamp;
    /** What it holds, or will once it is full. */
    readonly windowSeconds: number;
    /** Until entries that are not stored yet are cut off; negative when some are. */
    readonly leftSeconds: number;
    readonly at: Date;
  } | null;
  /** What stops nothing yet, one of each code; what is no longer so is taken away. */
  readonly warnings: readonly StoredProblem[];
  /**
   * What entries are kept for: a window in milliseconds, and the snapshots that the stored ones rest on, which nobody deletes:
   * one, or two while the next takes the place of the last. Written before entries are removed that only older ones need.
   */
  readonly keptFor?: { readonly windowMs: number; readonly bases: readonly string[] };
  /**
   * Positions that no replay of entries goes beyond: the next entry of this initial sync brings a collection into the backup
   * that was read from the source then (src/steps/fetch-incoming.ts), or the head cannot get over it. Absent while there is none.
   */
  readonly replayStops?: readonly StoredPosition[];
  /** Set when the source was seen to have another history than the stored entries: they lead to no moment of it. */
  readonly otherHistory?: true;
  /** The first snapshot of this initial sync that was found to differ from its source: nothing from there on is good. */
  readonly differs?: StoredPosition;
  /** Initial syncs before this one whose entries are still there, because the window reaches back to them. */
  readonly former?: readonly FormerSync[];
}

/** What a resync leaves of the initial sync that it replaces, for as long as the window says. */
export interface FormerSync {
  readonly incarnation: ObjectId;
  /** The snapshots that its entries rest on, which nobody deletes. */
  readonly bases: readonly string[];
  /** As those of the member were. */
  readonly replayStops: readonly StoredPosition[];
  readonly differs?: StoredPosition;
}

/** A member of the source, and which copy of the data it held for how long (src/source/copy-identity.ts). */
export interface ReadFrom {
  readonly host: string;
  readonly copyId: string;
}

/** The three optimes of an initial sync (research, mongodb-internals §3), and how far it is. */
export interface SyncPlan {
  /** The first entry that is fetched: the begin of the oldest transaction open at the start. */
  readonly beginFetching: StoredPosition;
  /** Entries after this one are applied. */
  readonly beginApplying: StoredPosition;
  /** Set when every collection is copied: the head is consistent from here on. */
  readonly stop: StoredPosition | null;
  /**
   * `list`: the optimes are chosen, but the collections are not all listed yet. `built`: the head is whole and consistent.
   * `validated`: it was found, or made, equal to the source; the slices are no longer needed.
   */
  readonly stage: 'list' | 'copy' | 'build' | 'built' | 'validated';
  /** Which listing of collections and views it is of, from `copy` on; absent in plans of older versions, which had one. */
  readonly listing?: ObjectId;
  /** Whether a transaction was open, or prepared, when the optimes were chosen; absent in plans of older versions. */
  readonly openTransaction?: boolean;
  /** What is left out (`exclude` of the deployment), until the next initial sync; absent where no version could do that. */
  readonly exclude?: readonly string[];
  /** Host of the member that is copied from. On another one, collections under way begin anew. */
  readonly readFrom: string;
  readonly startedAt: Date;
}

/** `daemons`: the workers that are, or were, there. */
export interface DaemonRecord {
  readonly _id: string;
  readonly host: string;
  readonly pid: number;
  /** Made up by that process at its start. */
  readonly process: string;
  readonly version: string;
  readonly taskQueue: string;
  readonly startedAt: Date;
  readonly seenAt: Date;
  /** Since when it was never silent for long: a silence of the store itself is nobody's (src/stores/daemons.ts). */
  readonly hereSince: Date;
  /** Set by an operator who knows that it is gone for good; gone as soon as the daemon speaks again. */
  readonly retiredAt?: Date;
  /** Heads of purged deployments that it is to remove from its disk. */
  readonly discard?: readonly DiscardedHead[];
}

/** A head that is to be removed from the disk of a daemon. */
export interface DiscardedHead {
  readonly deployment: string;
  readonly member: string;
  readonly incarnation: ObjectId;
}

/** `leases`: work in progress that keeps blocks or a snapshot alive. */
export interface LeaseRecord {
  /** Counts up over all leases: a smaller one is older. */
  readonly _id: number;
  readonly purpose: 'snapshot' | 'restore' | 'verify' | 'seed';
  readonly deployment: string;
  readonly daemon: string;
  /** The manifest whose blocks need no claim while the lease lives, or that is being read. */
  readonly snapshot: string | null;
  readonly takenAt: Date;
  /** In the blockstore's time. A lease that is past it may be revoked, by a write; only that write ends it. */
  readonly expiresAt: Date;
  readonly revoked: boolean;
}

/** `counters`: `{_id: 'leases', value}`. */
export interface CounterRecord {
  readonly _id: string;
  readonly value: number;
}

/** `probes`, in each of the three databases: that a majority takes writes was last seen then. */
export interface ProbeRecord {
  readonly _id: 'preflight';
  readonly at: Date;
}

// ---- blockstore database: blocks and manifests ------------------------------------------------------------------

/** `blocks`: one distinct piece of at most `blockSize` bytes. */
export interface BlockRecord {
  /** SHA-256 of the bytes before compression. */
  readonly _id: Binary;
  readonly size: number;
  readonly codec: 'zstd' | 'none';
  readonly data: Binary;
  /** The newest lease that wrote or reused it. */
  readonly claim: number;
  /** Set by a groom that found it dead; a reuse takes it away again, in the same write that claims the block. */
  readonly doom?: number;
  /** When it was found not to match its hash, in the store's time. No claim reaches it until its bytes are stored anew. */
  readonly damaged?: Date;
}

/** `grooms`: how far a groom is (src/blockstore/groom.ts). */
export interface GroomRecord {
  /** Of the workflow's first run. */
  readonly _id: string;
  /** `doom`: what is dead is marked. `delete`: older leases are waited for, and what is still dead is deleted. */
  readonly stage: 'doom' | 'delete' | 'done';
  readonly doom: number;
  /** How many ranges of hashes there are, and the first that the stage has not done. */
  readonly ranges: number;
  readonly next: number;
  readonly deletedBlocks: number;
  /** Their bytes as they were stored. */
  readonly reclaimedBytes: number;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
}

/** `manifests`: a snapshot. Written last, in one majority transaction that re-reads the lease; without it nothing is a snapshot. */
export interface ManifestRecord {
  /** `<deployment>-<UTC time of the optime, yyyymmddThhmmssZ>-<six hex digits>` */
  readonly _id: string;
  readonly formatVersion: 1;
  readonly deployment: string;
  readonly member: string;
  readonly incarnation: ObjectId;
  readonly source: MemberRecord['source'];
  readonly optime: StoredPosition;
  readonly oplogFrom: StoredPosition;
  readonly wallTime: Date;
  readonly createdAt: Date;
  readonly durationMs: number;
  readonly blockSize: number;
  /** Number of `manifestParts`, and the SHA-256 over their `sha256` in order. */
  readonly parts: number;
  readonly sha256: Binary;
  readonly files: number;
  readonly logicalBytes: number;
  readonly blocks: number;
  readonly newBlocks: number;
  readonly newStoredBytes: number;
  readonly reusedBlocks: number;
  readonly mongodVersion: string;
  /** What its initial sync, and every entry since, has left out; absent where no version could do that. */
  readonly exclude?: readonly string[];
  /** Absent of a snapshot that a version took which compared nothing. */
  readonly verification?: StoredVerification;
  /** While it is there, nobody deletes the snapshot. */
  readonly hold?: {
    readonly reason: string | null;
    readonly since: Date;
    /** Made up by whoever wrote it last: who takes it back takes his own. */
    readonly run: ObjectId;
  };
  /** Since when it is being deleted: for everybody else it is no snapshot any more (src/blockstore/delete-snapshot.ts). */
  readonly deleting?: { readonly run: ObjectId; readonly since: Date };
}

/** What came of comparing a part of a head, while it was held still for a snapshot, with the source at that optime. */
export interface StoredVerification {
  /** `equal`: all that was compared is. `different`: not all of it is. `not-compared`: nothing was. */
  readonly state: 'equal' | 'different' | 'not-compared';
  /** Why nothing was compared, or less than was due; null when all that was due was. */
  readonly reason: string | null;
  /** Which pass through all documents, and which snapshot of it, each from 1; how many it is to take. */
  readonly round: number;
  readonly snapshot: number;
  readonly within: number;
  /** The round is at its end with this snapshot. */
  readonly roundEnded: boolean;
  /** All documents of the head, about, in bytes; null when they were not looked at. What the round has compared so far, this part included. */
  readonly totalBytes: number | null;
  readonly roundBytes: number;
  /** What was compared and equal. */
  readonly ranges: number;
  readonly documents: number;
  readonly bytes: number;
  /** Names, UUIDs, options, indexes and views were compared, all but those in `notCompared`. */
  readonly definitions: boolean;
  /** How many seconds the source was ahead of the optime when the comparing ended, at most; null when nothing was compared. */
  readonly ageSeconds: number | null;
  readonly durationMs: number;
  /** The first of what could not be compared, and how much there was. */
  readonly notCompared: readonly StoredOmission[];
  readonly omissions: number;
  readonly different: readonly StoredFinding[];
}

/** `rotations`: how far the documents of the head of one initial sync are compared, a part with each snapshot. */
export interface RotationRecord {
  /** The incarnation. */
  readonly _id: ObjectId;
  readonly round: number;
  /** How many snapshots of the round there were. */
  readonly snapshots: number;
  /** The first range that is not compared yet: UUID of its collection, and where it begins; null at the begin of either. */
  readonly uuid: Binary | null;
  readonly from: Binary | null;
  /** What the round has compared, in bytes. */
  readonly bytes: number;
  /** How many snapshots in a row had no time for a single range there. */
  readonly tries: number;
  /** The snapshot that wrote this. */
  readonly through: string;
}

/** `manifestParts`: a run of the blocks of one file, in order. */
export interface ManifestPartRecord {
  readonly _id: { readonly snapshot: string; readonly n: number };
  /** Path relative to the dbpath, with `/`. */
  readonly path: string;
  /** Length of the whole file, and where this run begins in it. */
  readonly fileBytes: number;
  readonly offset: number;
  /** 32 bytes a block, concatenated. */
  readonly hashes: Binary;
  /** SHA-256 over path, NUL, fileBytes and offset (64 bit, little endian), hashes. */
  readonly sha256: Binary;
  /** Who wrote it: without a manifest, a part of a lease that is over is nobody's and can go. */
  readonly lease: number;
}

/** `restores`: what was asked for and how it went. */
export interface RestoreRecord {
  readonly _id: string;
  readonly deployment: string;
  readonly snapshot: string;
  /** The last entry that is applied to the snapshot; absent when none is. */
  readonly until?: StoredPosition;
  readonly destination: string;
  readonly daemon: string;
  /** Counts the runs of its step; every write holds it in its filter, so that a superseded run stops. */
  readonly attempt: number;
  /** When it was last at work, in the store's time; absent of one that an older version ran. */
  readonly seenAt?: Date;
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  readonly stage: 'files' | 'replay' | 'proof' | 'hand-over' | 'done';
  readonly progress: Progress | null;
  readonly problem: StoredProblem | null;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  readonly summary: {
    readonly optime: Timestamp;
    readonly bytes: number;
    readonly entriesReplayed: number;
    readonly durationMs: number;
    readonly verified: boolean;
  } | null;
}

/** What was found of one namespace. `_id`s are user data: they stay in the store, and only the CLI shows them. */
export interface StoredFinding {
  readonly namespace: string;
  /**
   * Of documents: `missing` on the head, `different`, `extra` there. `damaged`: the server's own `validate` says so.
   * Of definitions: `namespace-missing`, `namespace-extra`, `name`, `type`, `options`, `indexes`.
   */
  readonly kind: FindingKind;
  readonly count: number;
  /** The first few `_id`s, each a raw BSON document of that one field. */
  readonly ids: readonly Binary[];
  /** The options or indexes that differ. */
  readonly names: readonly string[];
}

export type FindingKind =
  | 'missing'
  | 'different'
  | 'extra'
  | 'damaged'
  | 'namespace-missing'
  | 'namespace-extra'
  | 'name'
  | 'type'
  | 'options'
  | 'indexes';

/** What could not be compared. */
export interface StoredOmission {
  readonly namespace: string;
  readonly reason: string;
}

/** `validations`: a comparison of a head with its source, and its outcome. */
export interface ValidationRecord {
  /** `<deployment>-<UTC time, yyyymmddThhmmssZ>-<six hex digits>` */
  readonly _id: string;
  readonly deployment: string;
  readonly member: string;
  readonly incarnation: ObjectId;
  /** The newest claim under which it went on; every write holds it in its filter. */
  readonly epoch: number;
  /**
   * `equal`: all that was compared is, perhaps after a repair. `different`: it could not be made so. `given-up`: its initial
   * sync was.
   */
  readonly state: 'running' | 'equal' | 'different' | 'given-up';
  /** `server`: the head's own `validate`. `catalog`: names and definitions. `compare`, `repair`: documents, in turns. */
  readonly stage: 'server' | 'catalog' | 'compare' | 'repair';
  /** How many times differing ranges were fetched anew. */
  readonly round: number;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  /** Where the head stood when documents were compared last. */
  readonly comparedAt: StoredPosition | null;
  /** What was compared and equal. */
  readonly collections: number;
  readonly ranges: number;
  readonly documents: number;
  readonly bytes: number;
  /** What came right after it was fetched anew, what could not be compared, and what did not come right. */
  readonly repaired: readonly StoredFinding[];
  readonly notCompared: readonly StoredOmission[];
  readonly failed: readonly StoredFinding[];
  /** Namespaces whose options, indexes or views changed whenever they were compared; also told of in `notCompared`. */
  readonly definitionsLeftOut: readonly string[];
}

/** A range of `_id`s, each bound a raw BSON document `{_id}`: from `from` on, before `to`; null where it is open. */
export interface StoredRange {
  readonly from: Binary | null;
  readonly to: Binary | null;
}

/** A range that is not equal, as it was in that round. */
export interface StoredDifference extends StoredRange {
  readonly round: number;
  readonly found: readonly StoredFinding[];
}

/** `validationCollections`: how far the validation of one collection is. */
export interface ValidationCollectionRecord {
  readonly _id: { readonly validation: string; readonly uuid: Binary };
  readonly epoch: number;
  readonly db: string;
  readonly name: string;
  /**
   * `listed`: nothing was done yet. `checked`: the head's own `validate` found it sound; ranges before `next` are compared.
   * `compared`: all of it is, and equal but for `differing`. `gone`: dropped meanwhile. `not-compared`: `reason` says why.
   */
  readonly state: 'listed' | 'checked' | 'compared' | 'gone' | 'not-compared';
  readonly reason: string | null;
  /** The first `_id` that is not compared yet, as a bound; null at the begin. */
  readonly next: Binary | null;
  /** How often in a row it could not be read at the head's optime. */
  readonly tries: number;
  readonly ranges: number;
  readonly documents: number;
  readonly bytes: number;
  /** The ranges that were not equal when they were compared last. */
  readonly differing: readonly StoredDifference[];
  readonly repaired: readonly StoredFinding[];
}

// ---- sync store database ----------------------------------------------------------------------------------------

/**
 * `collections`: one collection of the source as it was listed at the start of a sync. One that is `done` without slices
 * is to be empty (src/source/namespaces.ts); a copied one has a slice even if it has no documents, which ends its chain.
 */
export interface SyncCollectionRecord {
  readonly _id: { readonly incarnation: ObjectId; readonly uuid: Binary };
  /** The listings that have it; the plan says which one counts. Absent where a version knew of no such thing. */
  readonly listings?: readonly ObjectId[];
  readonly db: string;
  readonly name: string;
  /** As `listCollections` gave them, raw BSON bytes: options, and for each index its spec. */
  readonly options: Binary;
  readonly indexes: readonly Binary[];
  readonly state: 'pending' | 'done' | 'dropped';
  readonly documents: number;
  readonly bytes: number;
}

/** `views`: a view of the source (time-series collections among them); `options` are the raw bytes of those of its `listCollections` entry. */
export interface SyncViewRecord {
  readonly _id: { readonly incarnation: ObjectId; readonly db: string; readonly name: string };
  readonly listings?: readonly ObjectId[];
  readonly type: 'view' | 'timeseries';
  readonly options: Binary;
}

/** `slices`: about 10 MB of documents of one collection, in natural order. */
export interface SliceRecord {
  /** `seq` counts from 0 and only up: of two writers one gets the next number. */
  readonly _id: { readonly incarnation: ObjectId; readonly uuid: Binary; readonly seq: number };
  /**
   * The resume token (raw BSON) this slice was read after: null at the start of the collection, else the `token` of an
   * earlier slice. The chain that the head loads begins at the newest slice that follows null.
   */
  readonly after: Binary | null;
  /** The resume token behind its last document; null when the collection ended here. */
  readonly token: Binary | null;
  /** Record ids are a member's own: a token means something only on the member, and the copy of its data, it came from. */
  readonly readFrom: ReadFrom;
  readonly documents: number;
  readonly bytes: StoredBytes;
  readonly epoch: number;
  readonly storedAt: Date;
}

// ---- oplog store database ---------------------------------------------------------------------------------------

/** `batches`: a run of oplog entries as they came, concatenated raw BSON. */
export interface BatchRecord {
  /** The entry that this batch follows; together they make the chain unbreakable: two batches cannot follow one entry. */
  readonly _id: { readonly incarnation: ObjectId; readonly after: StoredPosition };
  readonly first: StoredPosition;
  readonly last: StoredPosition;
  /** Wall time of the last entry. */
  readonly lastWall: Date;
  readonly entries: number;
  readonly bytes: StoredBytes;
  readonly epoch: number;
  readonly storedAt: Date;
}
