/** How far back the oplog of a member reaches, and for how long it will hold what was not read yet. */
import type { MongoClient, Timestamp } from 'mongodb';
import { run } from '../mongo/commands.ts';
import { fromTimestamp } from '../mongo/positions.ts';
import type { Optime } from '../shared/optime.ts';
import { oldestEntry } from './positions.ts';

/** What a member says of its oplog. */
export interface OplogExtent {
  /** Optimes of the oldest and the newest entry. */
  readonly oldest: Optime;
  readonly newest: Optime;
  /** Bytes of all entries, and how many there may be before old ones are cut off. */
  readonly usedBytes: number;
  readonly maxBytes: number;
  /** `storage.oplogMinRetentionHours`, 0 when it is not set: younger entries stay whatever their size. */
  readonly minRetentionHours: number;
}

export interface OplogWindow {
  /** Seconds between the oldest and the newest entry now. */
  readonly spanSeconds: number;
  /** Seconds that it holds once it is full, at the rate at which it filled so far. */
  readonly windowSeconds: number;
  /** Entries are being cut off, so that the window is what it is and no estimate. */
  readonly full: boolean;
}

/** mongod cuts the oldest stretch off at once when the size is exceeded: a full oplog is a stretch below its size. */
const FULL_FROM = 0.85;

export function oplogWindow({ oldest, newest, usedBytes, maxBytes, minRetentionHours }: OplogExtent): OplogWindow {
  const spanSeconds = Math.max(0, newest.t - oldest.t);
  const full = usedBytes >= FULL_FROM * maxBytes;
  const bySize = full ? spanSeconds : (spanSeconds * maxBytes) / Math.max(1, usedBytes);
  return { spanSeconds, windowSeconds: Math.max(bySize, minRetentionHours * 3600), full };
}

/**
 * Seconds from now until the entry at `stored` is cut off, at the present rate; below 0 it is gone already. Entries
 * after it that were not read by then are lost.
 */
export function secondsLeft(extent: OplogExtent, stored: Optime): number {
  const { spanSeconds, windowSeconds } = oplogWindow(extent);
  return stored.t - extent.oldest.t + (windowSeconds - spanSeconds);
}

/** An estimate from a shorter stretch than this share of the least window, or than an hour, says too little. */
const LEAST_SHARE = 1 / 3;
const LEAST_SECONDS = 3600;

/** Whether the window is known well enough to be held against the least one that is wanted, in seconds. */
export function isTelling({ spanSeconds, full }: OplogWindow, leastSeconds: number): boolean {
  return full || spanSeconds >= Math.min(LEAST_SECONDS, leastSeconds * LEAST_SHARE);
}

/** Sections of `serverStatus` that cost something and are not needed here. */
const NOT_WANTED = { repl: 0, metrics: 0, locks: 0, wiredTiger: 0, tcmalloc: 0, transactions: 0, opLatencies: 0 };

/**
 * Asks a member, which costs it four cheap commands.
 * @param client of one member
 * @returns undefined while the oplog has no entry
 * @throws the driver's errors
 */
export async function readOplogExtent(client: MongoClient, signal: AbortSignal): Promise<OplogExtent | undefined> {
  const oldest = await oldestEntry(client, signal);
  if (!oldest) return undefined;
  const admin = client.db('admin');
  const { size, maxSize } = await run<{ size: number; maxSize: number }>(
    client.db('local'),
    { collStats: 'oplog.rs' },
    { signal },
  );
  const { oplogTruncation } = await run<{ oplogTruncation?: { oplogMinRetentionHours?: number } }>(
    admin,
    { serverStatus: 1, ...NOT_WANTED },
    { signal },
  );
  const { lastWrite } = await run<{ lastWrite: { opTime: { ts: Timestamp } } }>(admin, { hello: 1 }, { signal });
  return {
    oldest,
    newest: fromTimestamp(lastWrite.opTime.ts),
    usedBytes: size,
    maxBytes: maxSize,
    minRetentionHours: oplogTruncation?.oplogMinRetentionHours ?? 0,
  };
}
