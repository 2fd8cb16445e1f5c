/**
 * What a random workload is made of, as data: the same operations can be done again, with some of them left out, and stand
 * in a file. Names, `_id`s and values are few, so that operations meet each other.
 */

export const DATABASES = ['alpha', 'beta'] as const;
/** Documents are written to the first four; the last one is made by transactions, and comes and goes by its name. */
export const COLLECTIONS = ['a', 'b', 'c', 'd', 'e'] as const;
/** `database.collection` */
export type Namespace = `${(typeof DATABASES)[number]}.${(typeof COLLECTIONS)[number]}`;

/** How many `_id`s there are; see idOf. */
export const IDS = 24;

export const SHAPES = ['flat', 'nested', 'keyed', 'large', 'odd', 'hole'] as const;
export type Shape = (typeof SHAPES)[number];

/** Which documents an operation is meant for: the one of an `_id`, or those that look alike in some way. */
export type Which = { readonly id: number } | { readonly n: number };

export interface Insert {
  readonly kind: 'insert';
  readonly ns: Namespace;
  readonly ids: readonly number[];
  readonly shape: Shape;
  readonly salt: number;
  readonly ordered: boolean;
}

/** Documents that no command stores as they are, each with an `_id` of its own. */
export interface InsertExactly {
  readonly kind: 'insertExactly';
  readonly ns: Namespace;
  readonly ids: readonly number[];
  readonly salt: number;
}

export interface Update {
  readonly kind: 'update';
  readonly ns: Namespace;
  readonly which: Which;
  /** See changeOf. */
  readonly change: number;
  readonly salt: number;
  readonly many: boolean;
  readonly upsert: boolean;
}

export interface Replace {
  readonly kind: 'replace';
  readonly ns: Namespace;
  readonly which: Which;
  readonly shape: Shape;
  readonly salt: number;
  readonly upsert: boolean;
}

export interface Delete {
  readonly kind: 'delete';
  readonly ns: Namespace;
  readonly which: Which;
  readonly many: boolean;
}

/** A retryable one: what was there before, or is there after it, is kept by the server for a retry. */
export interface FindAndModify {
  readonly kind: 'findAndModify';
  readonly ns: Namespace;
  readonly which: Which;
  readonly change: number;
  readonly salt: number;
  readonly as: 'before' | 'after' | 'remove';
}

/** A key moves from one document to another: what a unique index lets pass in this order only. */
export interface MoveKey {
  readonly kind: 'moveKey';
  readonly ns: Namespace;
  readonly from: number;
  readonly to: number;
}

export type DocumentOperation = Insert | Update | Replace | Delete | FindAndModify | MoveKey;

export interface Transaction {
  readonly kind: 'transaction';
  readonly operations: readonly DocumentOperation[];
  readonly end: 'commit' | 'abort';
  /** Of more than one entry, and of how many bytes about: parts of 6 MB are written by it. */
  readonly largeParts: number;
  /** How long it is open, in milliseconds. */
  readonly openMs: number;
}

/** A transaction that is prepared, as a shard's part of one over several shards is. */
export interface Prepared {
  readonly kind: 'prepared';
  readonly ns: readonly Namespace[];
  readonly id: number;
  readonly salt: number;
  readonly end: 'commit' | 'abort';
  readonly openMs: number;
}

export interface Series {
  readonly kind: 'series';
  readonly ns: Namespace;
  readonly salt: number;
  readonly count: number;
}

/** What stands under one `meta` is put under another, or deleted: all that 5.0 and 6.0 let be done to a time series. */
export interface ModifySeries {
  readonly kind: 'modifySeries';
  readonly ns: Namespace;
  readonly meta: number;
  /** Null: deleted. */
  readonly to: number | null;
}

/** Operations as a client's own `applyOps`. */
export interface Grouped {
  readonly kind: 'grouped';
  readonly ns: Namespace;
  readonly operations: readonly { readonly op: 'i' | 'u' | 'd'; readonly id: number; readonly salt: number }[];
  readonly allowAtomic: boolean;
}

export const COLLECTION_KINDS = [
  ...(['plain', 'capped', 'cappedMax', 'collation', 'clustered', 'validator', 'series', 'images'] as const),
  ...(['storage', 'view', 'viewOfView'] as const),
];
export type CollectionKind = (typeof COLLECTION_KINDS)[number];

export interface Create {
  readonly kind: 'create';
  readonly ns: Namespace;
  readonly as: CollectionKind;
  readonly salt: number;
}

export interface Drop {
  readonly kind: 'drop';
  readonly ns: Namespace;
}

export interface DropDatabase {
  readonly kind: 'dropDatabase';
  readonly db: (typeof DATABASES)[number];
}

export interface Rename {
  readonly kind: 'rename';
  readonly from: Namespace;
  readonly to: Namespace;
  readonly dropTarget: boolean;
}

/** All of these take the name of the next, the last one that of the first. */
export interface RenameInCircle {
  readonly kind: 'renameInCircle';
  readonly db: (typeof DATABASES)[number];
  readonly collections: readonly (typeof COLLECTIONS)[number][];
}

export interface ConvertToCapped {
  readonly kind: 'convertToCapped';
  readonly ns: Namespace;
  readonly bytes: number;
}

export interface Modify {
  readonly kind: 'collMod';
  readonly ns: Namespace;
  /** See modificationOf. */
  readonly change: number;
  readonly salt: number;
}

export interface CreateIndex {
  readonly kind: 'createIndex';
  readonly ns: Namespace;
  /** See INDEXES. */
  readonly index: number;
}

/** A build that lasts: from before an initial sync until after it, or over other operations. */
export interface HeldIndex {
  readonly kind: 'heldIndex';
  readonly ns: Namespace;
  /** See INDEXES. */
  readonly index: number;
  readonly heldMs: number;
}

export interface DropIndex {
  readonly kind: 'dropIndex';
  readonly ns: Namespace;
  /** Null: all. */
  readonly index: number | null;
}

/** Collections that are made, with an index and documents, in a transaction. */
export interface CreateInTransaction {
  readonly kind: 'createInTransaction';
  readonly ns: Namespace;
  readonly end: 'commit' | 'abort';
}

export interface User {
  readonly kind: 'user';
  readonly db: (typeof DATABASES)[number];
  readonly name: number;
  readonly action: 'create' | 'update' | 'drop';
}

export interface Role {
  readonly kind: 'role';
  readonly db: (typeof DATABASES)[number];
  readonly name: number;
  readonly action: 'create' | 'update' | 'drop';
}

export type CatalogOperation =
  | Create
  | Drop
  | DropDatabase
  | Rename
  | RenameInCircle
  | ConvertToCapped
  | Modify
  | CreateIndex
  | HeldIndex
  | DropIndex
  | CreateInTransaction
  | User
  | Role;

export type Operation =
  DocumentOperation | InsertExactly | Transaction | Prepared | Series | ModifySeries | Grouped | CatalogOperation;

/** An operation, and how long its client waits before it. */
export interface Step {
  readonly pauseMs: number;
  readonly operation: Operation;
}

/** What happens to the steps of the backup meanwhile. */
export interface DisturbancePlan {
  /** Each run of a step is cut short after less than this, in milliseconds; null: none is. */
  readonly cutWithinMs: number | null;
  /** How often, of all runs, another one is started beside it. */
  readonly twins: number;
  /** The head's mongod is killed after less than this, again and again; null: never. */
  readonly killHeadWithinMs: number | null;
}

/** What one client does, beside the others. */
export interface Client {
  /** While the backup is in its initial sync and its validation. */
  readonly duringSync: readonly Step[];
  /** While it is in routine operation. */
  readonly routine: readonly Step[];
}

/** A moment of routine operation at which everybody holds still, and head and source are compared. */
export interface Stop {
  /** After how many steps of routine operation, of all clients together. */
  readonly afterSteps: number;
  /** The head is ended and opened anew just before everybody holds still. */
  readonly restart: boolean;
  /** Where between the last comparison and now the head is stopped and compared first: 0 to 1 of the entries. */
  readonly between: number;
  /** A snapshot is taken, brought back, and compared as well. */
  readonly restore: boolean;
}

export interface Workload {
  /** What it was made from; of one that was made smaller, what the whole one was made from. */
  readonly seed: number;
  /** Done one after the other before anything else. */
  readonly before: readonly Operation[];
  readonly clients: readonly Client[];
  /** After how many steps of all clients together the initial sync begins. */
  readonly syncAfterSteps: number;
  /** Raw bytes of a slice. */
  readonly sliceBytes: number;
  readonly disturbance: DisturbancePlan;
  /** Patterns of what the backup leaves out: operations rename collections into and out of that. */
  readonly exclude: readonly string[];
  /** In the order of `afterSteps`. When all is done there is one more comparison. */
  readonly stops: readonly Stop[];
  readonly restoreAtEnd: boolean;
}
