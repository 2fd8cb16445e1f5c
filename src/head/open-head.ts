/** A head whose mongod runs: its connection and what is known of its contents. Lives as long as the connection. */
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import { namespaceFilter, type NamespaceFilter } from '../source/filter.ts';
import { HeadCatalog } from './catalog.ts';
import type { FeatureVersion } from './feature-version.ts';
import { DeferredIndexes } from './indexes.ts';
import { refuseTrouble } from './replies.ts';
import { replyValues, succeeded, type HeadSocket, type Reply } from './socket.ts';
import { refuseDiverged, writeState, type HeadRecord } from './state.ts';
import { leaveTrimsToEntries, letTrim, tellsTrims } from './trims.ts';
import { takesZeros } from './zeros.ts';

export class OpenHead {
  readonly socket: HeadSocket;
  readonly catalog: HeadCatalog;
  readonly deferred: DeferredIndexes;
  /** `x.y.z` */
  readonly version: string;
  /** Whether `applyOps` can be all or nothing here: up to 6.x (research, mongodb-internals §2). */
  readonly atomic: boolean;
  #featureVersion: string;
  #takesZeros: boolean | undefined;
  #record: HeadRecord;
  #filter: NamespaceFilter | undefined;

  private constructor(socket: HeadSocket, record: HeadRecord, known: Omit<KnownHead, 'record'>) {
    this.socket = socket;
    this.#record = record;
    this.catalog = known.catalog;
    this.deferred = known.deferred;
    this.version = known.version;
    this.atomic = known.atomic;
    this.#featureVersion = known.featureVersion;
  }

  /** Reads what the head holds. `atomic` is found out from its version unless it is given. */
  static async read(socket: HeadSocket, record: HeadRecord, atomic?: boolean): Promise<OpenHead> {
    const version = await versionOf(socket);
    return new OpenHead(socket, record, {
      catalog: await HeadCatalog.read(socket),
      deferred: await DeferredIndexes.read(socket),
      version,
      atomic: atomic ?? Number.parseInt(version, 10) <= 6,
      featureVersion: (await leaveTrimsToEntries(socket)).version,
    });
  }

  /**
   * Whether it takes out of its capped collections what they have no more room for, and no entry tells that (trims.ts). What
   * is applied all or nothing stays in them until the next insert then (tried on 4.4.2, and on 5.0.32 with its features).
   */
  get trimsAlone(): boolean {
    return !tellsTrims(this.#featureVersion);
  }

  /** Does `work` while it takes out of its capped collections what they have no more room for. */
  async trimming(work: () => Promise<void>): Promise<void> {
    await letTrim(this.socket);
    try {
      await work();
    } finally {
      await leaveTrimsToEntries(this.socket);
    }
  }

  /** Whether it takes updates by difference as `$v: 2`, as servers with the features of 5.0 or later write them. */
  get takesDeltas(): boolean {
    return Number.parseInt(this.#featureVersion, 10) >= 5;
  }

  /** Whether a replacement loses a Timestamp(0,0) at the top here (zeros.ts). */
  async takesZeros(socket: HeadSocket): Promise<boolean> {
    return (this.#takesZeros ??= await takesZeros(socket));
  }

  /** Its feature compatibility version. To be called when it was set. */
  async readFeatures(): Promise<FeatureVersion> {
    const features = await leaveTrimsToEntries(this.socket);
    this.#featureVersion = features.version;
    return features;
  }

  /** The state as the head holds it. */
  get record(): HeadRecord {
    return this.#record;
  }

  /** What belongs to no backup of this deployment. */
  get filter(): NamespaceFilter {
    const { exclude } = this.#record;
    // Each record is made of the one before: its list is the very same.
    if (this.#filter?.patterns !== exclude) this.#filter = namespaceFilter(exclude);
    return this.#filter;
  }

  /** `<deployment>/<member>` */
  get label(): string {
    return `${this.#record.identity.deployment}/${this.#record.identity.member}`;
  }

  /** Notes a state that was written along with a batch. */
  noteWritten(record: HeadRecord): void {
    this.#record = record;
  }

  async save(record: HeadRecord, options: { readonly journaled: boolean }): Promise<void> {
    await writeState(this.socket, record, options.journaled);
    this.#record = record;
  }

  /** Writes down that the head differs from its source and throws that. */
  async diverged(at: Position, what: string): Promise<never> {
    await this.save({ ...this.#record, diverged: { at, what } }, { journaled: true });
    refuseDiverged(this.#record);
    throw new LifeboatError('Diverged', `${this.label}: ${what}`);
  }

  /**
   * Raises what a failed reply says of the head itself, rather than of the data.
   * @throws LifeboatError `HeadLost`, `DiskFull`, `HeadStrained` (retryable)
   */
  refuseTrouble(reply: Reply): void {
    refuseTrouble(reply, this.label);
  }
}

interface KnownHead {
  readonly record: HeadRecord;
  readonly catalog: HeadCatalog;
  readonly deferred: DeferredIndexes;
  readonly version: string;
  readonly atomic: boolean;
  readonly featureVersion: string;
}

async function versionOf(socket: HeadSocket): Promise<string> {
  const reply = succeeded(await socket.command('admin', { buildInfo: 1 }), 'asking for its version');
  return String(replyValues(reply)['version']);
}
