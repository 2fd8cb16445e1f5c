/**
 * The one object of a daemon's process that owns a head: its mongod, its connection, and whose turn it is.
 *
 * `applyOps` carries no fence and an old insert replaces a newer document (design decision 4), so everything that
 * changes a head takes its turn here, and a turn of an attempt that was superseded is refused.
 */
import type { Logger } from 'pino';
import { LifeboatError } from '../shared/errors.ts';
import type { HeadPosition } from '../shared/messages.ts';
import type { Optime } from '../shared/optime.ts';
import type { HeadIdentity, HeadStage, LockedHead } from './types.ts';

export interface HeadOptions {
  readonly identity: HeadIdentity;
  /** The claim under which the head is opened; names its socket. */
  readonly epoch: number;
  /** The daemon's; the head lives in `heads/<deployment>/<member>` below it. */
  readonly dataDir: string;
  /** Path of a mongod of the source's major version. */
  readonly binary: string;
  readonly cacheGiB: number;
  readonly logger: Logger;
}

export interface HeadState {
  readonly stage: HeadStage;
  /** Null until the head is loaded. */
  readonly position: HeadPosition | null;
}

/** `build`: loading slices; `apply`: applying entries and finishing the initial sync. */
export type HeadPurpose = 'build' | 'apply';

export class HeadOwner {
  readonly #options: HeadOptions;

  private constructor(options: HeadOptions) {
    this.#options = options;
  }

  /**
   * Opens the head below `dataDir`: ends a mongod that was left on it, starts it anew and checks whose it is. An empty
   * directory becomes a new head; one of an older initial sync of the same member is removed first.
   * @throws LifeboatError `HeadForeign`; `HeadStartFailed`, `DiskFull` (retryable)
   */
  static async open(options: HeadOptions): Promise<HeadOwner> {
    return Promise.reject(new LifeboatError('NotBuiltYet', `heads cannot be opened yet (${options.identity.member})`));
  }

  /** Where the head durably stands. */
  state(): HeadState {
    throw new LifeboatError('NotBuiltYet', `heads have no state yet (${this.#options.identity.member})`);
  }

  /** Waits until every entry up to `optime` is applied, by whatever attempt applies. */
  async waitApplied(optime: Optime, signal: AbortSignal): Promise<HeadPosition> {
    return Promise.reject(new LifeboatError('NotBuiltYet', `heads cannot be waited for yet ${optime.t} ${signal.aborted}`));
  }

  /**
   * Waits until the head is consistent at or after `minimum`, lets the batch in hand end and holds the head there.
   * @throws LifeboatError `HeadLost` (retryable)
   */
  async lock(minimum: Optime, signal: AbortSignal): Promise<LockedHead> {
    return Promise.reject(new LifeboatError('NotBuiltYet', `heads cannot be locked yet ${minimum.t} ${signal.aborted}`));
  }

  /** Ends the mongod cleanly. Later calls fail with `FenceLost`. */
  async close(): Promise<void> {
    return Promise.resolve();
  }

  /** Ends the mongod and removes the head's directory. */
  async destroy(): Promise<void> {
    return Promise.resolve();
  }
}
