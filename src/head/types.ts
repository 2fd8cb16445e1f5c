/** What others may know of a head: its identity, its durable state, and the head held still for a snapshot. */
import type { HeadPosition } from '../shared/messages.ts';
import type { OpenHead } from './open-head.ts';

/** What a head directory belongs to; written into the head when it is made and checked whenever it is opened. */
export interface HeadIdentity {
  readonly deployment: string;
  readonly member: string;
  /** Hex; see MemberRecord.incarnation. */
  readonly incarnation: string;
  /** Hex; the source's replicaSetId. */
  readonly replicaSetId: string;
}

/**
 * `loading`: slices are being inserted. `catching-up`: all slices are in, entries up to the stop point are not.
 * `consistent`: equal to the source at its position, unless `inconsistentUntil` says otherwise.
 */
export type HeadStage = 'loading' | 'catching-up' | 'consistent';

/** A head held still at an exact optime, all its files complete on disk. Nothing is applied until it is released. */
export interface LockedHead {
  readonly dbpath: string;
  /** Aborted when a newer claim wants the head: what is made under this one can no longer be committed. */
  readonly signal: AbortSignal;
  readonly position: HeadPosition;
  /** Wall time of the entry at the position. */
  readonly wallTime: Date;
  readonly mongodVersion: string;
  /** See HeadRecord.undecided. */
  readonly undecided: boolean;
  /** What it leaves out of its source. */
  readonly exclude: readonly string[];
  /** What belongs into a snapshot, relative to the dbpath with `/`, sorted; without journal, locks, logs and diagnostics. */
  files(): Promise<readonly { readonly path: string; readonly bytes: number }[]>;
  /** True only while the same mongod process still holds the lock that was taken at `position`. */
  stillHeld(): Promise<boolean>;
  /** Reads the head while it is held; one after the other, and `stillHeld` waits for it too. Nothing can be written. */
  read<T>(work: (head: OpenHead) => Promise<T>): Promise<T>;
  /**
   * Lets the head go on. Safe to call twice, and after the mongod has ended.
   * @param diverged in what it was found to differ from its source: that is written down before anything else is done to it
   */
  release(diverged?: string): Promise<void>;
}
