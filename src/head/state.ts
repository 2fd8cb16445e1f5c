/**
 * What a head knows about itself: two collections in its `local` database, which is no part of a backup.
 *
 * `local.lifeboat.state` holds one record, changed together with the data it speaks of, or after it: the journal of a
 * standalone keeps the order of writes, so a position that survived a crash has its data below it.
 * `local.lifeboat.load` holds for each collection the slices that are in.
 */
import { Binary, Long } from 'mongodb';
import { fromStoredPosition, toStoredPosition } from '../mongo/positions.ts';
import { uuidBinary } from '../mongo/uuid.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { HeadPosition } from '../shared/messages.ts';
import { compareOptimes, formatOptime, samePosition, type Position } from '../shared/optime.ts';
import type { ReadFrom, StoredPosition } from '../stores/records.ts';
import { writeLocal } from './local.ts';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';
import type { HeadIdentity, HeadStage } from './types.ts';

export const STATE_NS = 'local.lifeboat.state';
const STATE_ID = 'head';
const STATE = 'lifeboat.state';
const LOAD = 'lifeboat.load';

/** Where and at what a head was found to differ from its source. */
export interface Divergence {
  readonly at: Position;
  readonly what: string;
}

/** The state of a head. */
export interface HeadRecord {
  readonly identity: HeadIdentity;
  readonly stage: HeadStage;
  /** Null until it is loaded. */
  readonly position: HeadPosition | null;
  /** Wall time of the entry at `appliedThrough`. */
  readonly wall: Date;
  /** Set when it differs from its source: nothing is applied any more, however often it is tried. */
  readonly diverged: Divergence | null;
  /** True from the stop point of its initial sync on until it was compared with its source; see missing.ts. */
  readonly awaitsValidation: boolean;
  /**
   * A transaction was prepared, and not decided, where the head stands. A source that is asked for that optime waits until
   * it is, and shows what it wrote when it counts as committed by then, which the entry that says so does not.
   */
  readonly undecided: boolean;
  /** Patterns of what its initial sync has left out, and every entry since leaves out. */
  readonly exclude: readonly string[];
  /** A collection that the next entry brings into the backup by a new name, and that is read from the source meanwhile. */
  readonly incoming: Incoming | null;
}

/** What is read of the source because an entry has renamed it into the backup. */
export interface Incoming {
  /** Hex. */
  readonly uuid: string;
  /** The head is inconsistent until there once it is applied; null until all of it is read. */
  readonly until: Position | null;
  /** How far it is read; null before the first piece, and when all of it is. */
  readonly read: ReadSoFar | null;
}

/** A place of a collection that can be gone on from. */
export interface ReadSoFar {
  /** Which copy of the data the token means something to (src/source/copy-identity.ts). */
  readonly from: ReadFrom;
  /** Raw resume token. */
  readonly token: Buffer;
  /** The options and indexes that the collection has on the head are as of then, at most. */
  readonly seen: Position;
}

interface StoredIncoming {
  readonly uuid: Binary;
  readonly until: StoredPosition | null;
  readonly read: { readonly from: ReadFrom; readonly token: Binary; readonly seen: StoredPosition } | null;
}

function storedIncoming({ uuid, until, read }: Incoming): StoredIncoming {
  return {
    uuid: uuidBinary(uuid),
    until: until && toStoredPosition(until),
    read: read && { from: read.from, token: new Binary(read.token), seen: toStoredPosition(read.seen) },
  };
}

function incomingFrom({ uuid, until, read }: StoredIncoming): Incoming {
  return {
    uuid: Buffer.from(uuid.buffer).toString('hex'),
    until: until && fromStoredPosition(until),
    read: read && {
      from: read.from,
      token: Buffer.from(read.token.buffer),
      seen: fromStoredPosition(read.seen),
    },
  };
}

/** The record as it is stored. */
export interface StoredHeadRecord {
  readonly _id: typeof STATE_ID;
  readonly formatVersion: 1;
  readonly identity: HeadIdentity;
  readonly stage: HeadStage;
  readonly appliedThrough: StoredPosition | null;
  readonly oplogFrom: StoredPosition | null;
  readonly inconsistentUntil: StoredPosition | null;
  readonly wall: Date;
  readonly diverged: { readonly at: StoredPosition; readonly what: string } | null;
  readonly awaitsValidation: boolean;
  /** These are absent of a head that an older version made. */
  readonly undecided?: boolean;
  readonly exclude?: readonly string[];
  readonly incoming?: StoredIncoming | null;
}

export function toStored(record: HeadRecord): StoredHeadRecord {
  const { identity, stage, position, wall, diverged, awaitsValidation, undecided, exclude, incoming } = record;
  const stored = (one: Position | null | undefined): StoredPosition | null => (one ? toStoredPosition(one) : null);
  return {
    _id: STATE_ID,
    formatVersion: 1,
    identity,
    stage,
    appliedThrough: stored(position?.appliedThrough),
    oplogFrom: stored(position?.oplogFrom),
    inconsistentUntil: stored(position?.inconsistentUntil),
    wall,
    diverged: diverged && { at: toStoredPosition(diverged.at), what: diverged.what },
    awaitsValidation,
    undecided,
    exclude,
    incoming: incoming && storedIncoming(incoming),
  };
}

function fromStored(stored: StoredHeadRecord): HeadRecord {
  const { identity, stage, appliedThrough, oplogFrom, inconsistentUntil, wall, diverged, awaitsValidation } = stored;
  const { undecided = false, exclude = [], incoming = null } = stored;
  const until = inconsistentUntil && fromStoredPosition(inconsistentUntil);
  const position = appliedThrough &&
    oplogFrom && {
      appliedThrough: fromStoredPosition(appliedThrough),
      oplogFrom: fromStoredPosition(oplogFrom),
      inconsistentUntil: until,
    };
  return {
    identity,
    stage,
    position,
    wall,
    diverged: diverged && { at: fromStoredPosition(diverged.at), what: diverged.what },
    awaitsValidation,
    undecided,
    exclude,
    incoming: incoming && incomingFrom(incoming),
  };
}

/** The state of the head, or undefined when it has none yet. */
export async function readState(socket: HeadSocket): Promise<HeadRecord | undefined> {
  const reply = succeeded(
    await socket.command('local', { find: STATE, filter: { _id: STATE_ID } }),
    'reading its state',
  );
  const [stored] = (replyValues(reply)['cursor'] as { firstBatch: StoredHeadRecord[] }).firstBatch;
  return stored && fromStored(stored);
}

/** Writes the state. With `journaled` it, and everything before it, is durable when this settles. */
export async function writeState(socket: HeadSocket, record: HeadRecord, journaled: boolean): Promise<void> {
  await writeLocal(socket, STATE, [toStored(record)], { journaled });
}

/** True while missing documents and collections are no divergence: up to here the head is not equal to its source. */
export function isTolerant({ stage, position, incoming }: HeadRecord): boolean {
  return stage !== 'consistent' || incoming !== null || (position?.inconsistentUntil ?? null) !== null;
}

/** The position of a head that holds data. */
export function positionIn(record: HeadRecord): HeadPosition {
  if (record.position) return record.position;
  throw new LifeboatError('HeadInconsistent', `the head of ${record.identity.member} is not loaded yet`);
}

/** @throws LifeboatError `Diverged` when the head was found to differ from its source */
export function refuseDiverged({ diverged, identity }: HeadRecord): void {
  if (!diverged) return;
  const where = `${identity.deployment}/${identity.member} at ${formatOptime(diverged.at.ts)}`;
  throw new LifeboatError('Diverged', `${where}: ${diverged.what}`);
}

/**
 * The mark of a head that is being repaired, until it is known up to where it is inconsistent: behind every entry there
 * ever is. Whoever opens a head with it, because the repair was cut short, applies tolerantly and repairs anew.
 */
export const OPEN_ENDED: Position = { ts: { t: 0xffff_ffff, i: 0xffff_ffff }, term: 0 };

/** True while a repair is under way, or was cut short. */
export function isInRepair(position: HeadPosition | null): boolean {
  const until = position?.inconsistentUntil;
  return until !== null && until !== undefined && samePosition(until, OPEN_ENDED);
}

/** The later of two marks; null is none. */
export function later(a: Position | null, b: Position | null): Position | null {
  return a && b ? (compareOptimes(a.ts, b.ts) >= 0 ? a : b) : (a ?? b);
}

/** True when `position` is at or behind `until`. */
export function reached(position: Position, until: Position): boolean {
  return compareOptimes(position.ts, until.ts) >= 0;
}

// ---- loading ----------------------------------------------------------------------------------------------------

/** How far the slices of one collection are loaded. */
export interface LoadProgress {
  /** `seq` of the slice that begins the chain that is loaded. */
  readonly chain: number;
  /** `seq` of the next slice to load. */
  readonly next: number;
  /** Whether that was all of the collection. */
  readonly complete: boolean;
}

/** What is loaded, by UUID in hex. */
export async function readLoads(socket: HeadSocket): Promise<Map<string, LoadProgress>> {
  const loads = new Map<string, LoadProgress>();
  let reply = replyValues(
    succeeded(await socket.command('local', { find: LOAD, batchSize: 10_000 }), 'reading its load'),
  );
  for (;;) {
    const cursor = reply['cursor'] as { id: Long | number; firstBatch?: StoredLoad[]; nextBatch?: StoredLoad[] };
    for (const { _id, chain, next, complete } of cursor.firstBatch ?? cursor.nextBatch ?? []) {
      loads.set(Buffer.from(_id.buffer).toString('hex'), { chain, next, complete });
    }
    if (Number(cursor.id) === 0) return loads;
    const more = { getMore: Long.fromValue(cursor.id), collection: LOAD, batchSize: 10_000 };
    reply = replyValues(succeeded(await socket.command('local', more), 'reading its load'));
  }
}

interface StoredLoad extends LoadProgress {
  readonly _id: Binary;
}

export async function writeLoad(socket: HeadSocket, uuid: string, progress: LoadProgress): Promise<void> {
  const _id = uuidBinary(uuid);
  await writeLocal(socket, LOAD, [{ _id, ...progress }], { journaled: false });
}

/** A zero for a wall time that is not known. */
export const NO_WALL = new Date(0);
