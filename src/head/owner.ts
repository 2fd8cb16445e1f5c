/**
 * The one object of a daemon's process that owns a head: its mongod, its connection, and whose turn it is.
 *
 * `applyOps` carries no fence and an old insert replaces a newer document (design decision 4), so everything that
 * changes a head takes its turn here, and a turn of an attempt that was superseded is refused.
 */
import { rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { LifeboatError } from '../shared/errors.ts';
import type { HeadPosition } from '../shared/messages.ts';
import { compareOptimes, type Optime } from '../shared/optime.ts';
import { Applier } from './apply.ts';
import { countCappedCollections } from './counts.ts';
import {
  checkDirectory,
  clearDirectory,
  foreign,
  headDirectory,
  isSameSet,
  isUncounted,
  noteCounted,
  superseded,
  takeDirectory,
  type HeadDirectory,
} from './directory.ts';
import { makeLocalCollections } from './local.ts';
import { holdStill } from './locked.ts';
import { diskFullOr, killHeadMongod, startHeadMongod, type HeadMongod } from './mongod.ts';
import { OpenHead } from './open-head.ts';
import { isTolerant, NO_WALL, readState, refuseDiverged, writeState, type HeadRecord } from './state.ts';
import { Turns } from './turns.ts';
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
  /** Whether batches are all or nothing; found out from the mongod's version when left out. */
  readonly atomic?: boolean;
}

export interface HeadState {
  readonly stage: HeadStage;
  /** Null until the head is loaded. */
  readonly position: HeadPosition | null;
  /** It is not equal to its source where it stands (see isTolerant). */
  readonly tolerant: boolean;
}

/** `build`: loading slices; `apply`: applying entries and finishing the initial sync; `validate`: comparing and repairing. */
export type HeadPurpose = 'build' | 'apply' | 'validate';

/** The right of one run of a step to change the head, until another run of that purpose takes it. */
export interface HeadAttempt {
  /**
   * Runs `work` when it is its turn. The head it is given is good for that turn only.
   * @throws LifeboatError `FenceLost` when the attempt was superseded; `HeadLost`, `DiskFull` (retryable) when the mongod
   *   ended meanwhile, or since an earlier turn: what was done then has an unknown outcome, and a head that is opened again
   *   may stand before it, so that only a new attempt, which asks it where it stands, can go on
   */
  turn<T>(work: (head: OpenHead) => Promise<T>, signal?: AbortSignal): Promise<T>;
  /**
   * The applier of this head, for use inside a turn: it remembers open transactions from turn to turn. When a turn that
   * used it failed, of whatever attempt, the next turn is given another, which has to be read to from its `readFrom` on.
   */
  applier(head: OpenHead): Applier;
}

/** The owners there are in this process, by directory: a newer one supersedes the older. */
const owners = new Map<string, HeadOwner>();

export class HeadOwner implements AsyncDisposable {
  readonly #options: HeadOptions;
  readonly #directory: HeadDirectory;
  readonly #turns = new Turns();
  readonly #attempts = new Map<HeadPurpose, HeadAttempt>();
  readonly #waiting = new Set<() => void>();
  #mongod: HeadMongod | undefined;
  #head: OpenHead | undefined;
  #record: HeadRecord;
  #applier: { readonly head: OpenHead; readonly applier: Applier } | undefined;
  /** How often it was asked for: a turn that did not leaves it as it was. */
  #appliersGiven = 0;
  /** Aborted when a newer claim takes the head. */
  readonly #givenUp = new AbortController();
  #starts = 0;
  #closed = false;

  private constructor(options: HeadOptions) {
    this.#options = options;
    this.#directory = headDirectory(options.dataDir, options.identity);
    this.#record = newRecord(options.identity);
  }

  /**
   * Opens the head below `dataDir`: ends a mongod that was left on it, starts it anew and checks whose it is. An empty
   * directory becomes a new head; one of an older initial sync of the same member is removed first.
   * @throws LifeboatError `HeadForeign`, `FenceLost`; `HeadStartFailed`, `DiskFull` (retryable)
   */
  static async open(options: HeadOptions): Promise<HeadOwner> {
    const owner = new HeadOwner(options);
    const { root } = owner.#directory;
    await takeDirectory(owner.#directory, options.identity, options.epoch);
    const before = owners.get(root);
    owners.set(root, owner);
    if (before) await before.#supersede();
    await owner.#turns.run(() => owner.#opened());
    return owner;
  }

  /** Where the head stands after the last turn. */
  state(): HeadState {
    const { stage, position } = this.#record;
    return { stage, position, tolerant: isTolerant(this.#record) };
  }

  /** Whether its mongod answers; one that ended is started anew by the next turn. */
  get isUp(): boolean {
    return this.#head !== undefined && !this.#head.socket.lost;
  }

  /** Begins an attempt; an earlier one of that purpose can change nothing any more. */
  attempt(purpose: HeadPurpose): HeadAttempt {
    let first: OpenHead | undefined;
    const attempt: HeadAttempt = {
      turn: (work, signal) =>
        this.#turn(
          purpose,
          attempt,
          (head) => {
            first ??= head;
            if (head !== first)
              throw new LifeboatError('HeadLost', `the head of ${head.label} was opened anew meanwhile`);
            return work(head);
          },
          signal,
        ),
      applier: (head) => this.#applierOf(head),
    };
    this.#attempts.set(purpose, attempt);
    return attempt;
  }

  /**
   * Waits until every entry up to `optime` is applied and the head is consistent, by whatever attempt applies.
   * @throws LifeboatError `HeadMissing` when it holds nothing, and nobody is to load it; `Diverged`, `FenceLost`
   */
  async waitApplied(optime: Optime, signal: AbortSignal): Promise<HeadPosition> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#closed) throw superseded(this.#options.identity);
      this.#refuseUnsound();
      const { position } = this.#record;
      if (position && !isTolerant(this.#record) && compareOptimes(position.appliedThrough.ts, optime) >= 0) {
        return position;
      }
      await this.#changed(signal);
    }
  }

  /**
   * Waits until the head is consistent at or after `minimum`, lets the batch in hand end and holds the head there.
   * @throws LifeboatError as waitApplied, and `HeadLost` (retryable)
   */
  async lock(minimum: Optime, signal: AbortSignal): Promise<LockedHead> {
    for (;;) {
      await this.waitApplied(minimum, signal);
      const end = await this.#turns.take(signal);
      try {
        const head = await this.#opened();
        const { position } = head.record;
        this.#refuseUnsound();
        // Opened anew it may be behind what it was.
        if (position && !isTolerant(head.record) && compareOptimes(position.appliedThrough.ts, minimum) >= 0) {
          const released = (): void => {
            if (this.#head === head) this.#note(head.record);
            end();
          };
          return await holdStill(head, this.#directory.dbpath, released, this.#givenUp.signal);
        }
      } catch (error) {
        end();
        throw await diskFullOr(this.#directory, error);
      }
      end();
    }
  }

  /** Ends the mongod cleanly, once a snapshot in hand has ended. Later calls fail with `FenceLost`. */
  async close(): Promise<void> {
    await this.#turns.run(async () => {
      this.#close();
      await this.#stop();
    });
  }

  /** As close, for a newer claim: a snapshot in hand, which could not be committed any more, is told to end at once. */
  async giveUp(): Promise<void> {
    this.#givenUp.abort(superseded(this.#options.identity));
    await this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Ends the mongod and removes the head's directory. */
  async destroy(): Promise<void> {
    await this.#turns.run(async () => {
      this.#close();
      await this.#kill();
      await checkDirectory(this.#directory, this.#options.identity, this.#options.epoch);
      await clearDirectory(this.#directory);
      await rm(this.#directory.root, { recursive: true, force: true, maxRetries: 3 });
    });
  }

  /** Ends the mongod at once and refuses every later turn: a newer owner has taken the directory. */
  async #supersede(): Promise<void> {
    this.#givenUp.abort(superseded(this.#options.identity));
    this.#close();
    await this.#kill();
  }

  #close(): void {
    this.#closed = true;
    const { root } = this.#directory;
    if (owners.get(root) === this) owners.delete(root);
    this.#wake();
  }

  async #kill(): Promise<void> {
    this.#dropApplier();
    const mongod = this.#mongod;
    this.#mongod = undefined;
    this.#head = undefined;
    if (mongod) await killHeadMongod(mongod);
  }

  async #turn<T>(
    purpose: HeadPurpose,
    attempt: HeadAttempt,
    work: (head: OpenHead) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return this.#turns.run(async () => {
      const refuse = (): void => {
        if (this.#closed || this.#attempts.get(purpose) !== attempt) throw superseded(this.#options.identity);
      };
      refuse();
      const head = await this.#opened();
      refuse();
      const given = this.#appliersGiven;
      try {
        return await work(head);
      } catch (error) {
        // What it had in hand is gone with it. The open transactions of an applier that it left alone are not.
        if (purpose === 'apply' || this.#appliersGiven > given) this.#dropApplier();
        refuse();
        throw await diskFullOr(this.#directory, error);
      } finally {
        if (this.#head === head) this.#note(head.record);
      }
    }, signal);
  }

  #applierOf(head: OpenHead): Applier {
    this.#appliersGiven += 1;
    if (this.#applier?.head !== head) {
      this.#dropApplier();
      this.#applier = { head, applier: new Applier(head, this.#directory.root) };
    }
    return this.#applier.applier;
  }

  #dropApplier(): void {
    this.#applier?.applier.close();
    this.#applier = undefined;
  }

  /** What differs from its source, or is gone, is nothing to wait for and nothing to take a snapshot of. */
  #refuseUnsound(): void {
    refuseDiverged(this.#record);
    const { stage, identity } = this.#record;
    if (stage === 'loading') {
      throw new LifeboatError('HeadMissing', `the head of ${identity.deployment}/${identity.member} holds nothing`);
    }
  }

  #note(record: HeadRecord): void {
    this.#record = record;
    this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  async #changed(signal: AbortSignal): Promise<void> {
    let settle = (): void => undefined;
    const changed = new Promise<void>((resolve) => {
      settle = resolve;
    });
    this.#waiting.add(settle);
    signal.addEventListener('abort', settle);
    try {
      await changed;
    } finally {
      signal.removeEventListener('abort', settle);
      this.#waiting.delete(settle);
    }
  }

  /** The head, opened anew when its mongod or the connection has ended. */
  async #opened(): Promise<OpenHead> {
    if (this.#closed) throw superseded(this.#options.identity);
    if (this.#head && !this.#head.socket.lost) return this.#head;
    // What was sent over it may still be running.
    await this.#kill();
    const record = await this.#start();
    const { socket } = this.#mongod ?? {};
    if (!socket) throw new LifeboatError('HeadLost', 'the head ended while it was opened');
    try {
      const head = await OpenHead.read(socket, record, this.#options.atomic);
      if (await isUncounted(this.#directory)) {
        await countCappedCollections(head);
        await noteCounted(this.#directory);
      }
      this.#head = head;
    } catch (error) {
      throw await diskFullOr(this.#directory, error);
    }
    this.#note(record);
    return this.#head;
  }

  async #start(): Promise<HeadRecord> {
    const { identity, epoch, binary, cacheGiB, logger } = this.#options;
    for (;;) {
      await checkDirectory(this.#directory, identity, epoch);
      this.#starts += 1;
      const socketKey = `${this.#directory.root} ${identity.incarnation} ${epoch} ${process.pid} ${this.#starts}`;
      this.#mongod = await startHeadMongod({ directory: this.#directory, binary, cacheGiB, socketKey });
      if (this.#closed) {
        await this.#kill();
        throw superseded(identity);
      }
      const { socket, running } = this.#mongod;
      const found = await readState(socket);
      logger.info({ pid: running.pid, starts: this.#starts, isNew: !found }, 'head started');
      if (!found) {
        const record = newRecord(identity);
        await makeLocalCollections(socket);
        await writeState(socket, record, true);
        return record;
      }
      if (!isSameSet(found.identity, identity)) {
        await this.#stop();
        throw foreign(this.#directory, identity);
      }
      if (found.identity.incarnation === identity.incarnation) return found;
      // Of an older initial sync, whose removal was interrupted.
      await this.#kill();
      await clearDirectory(this.#directory);
    }
  }

  async #stop(): Promise<void> {
    this.#dropApplier();
    const mongod = this.#mongod;
    this.#mongod = undefined;
    this.#head = undefined;
    mongod?.socket.close();
    await mongod?.running.stop();
  }
}

function newRecord(identity: HeadIdentity): HeadRecord {
  return {
    identity,
    stage: 'loading',
    position: null,
    wall: NO_WALL,
    diverged: null,
    awaitsValidation: false,
    undecided: false,
    exclude: [],
    incoming: null,
  };
}
