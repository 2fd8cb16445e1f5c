/** The workers that are, or were, there. */
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import { daemonTaskQueue } from '../shared/names.ts';
import type { Stores } from './connect.ts';
import type { DaemonRecord } from './records.ts';

/** How often a daemon says that it is there, and after which silence it counts as gone, in milliseconds. */
export const DAEMON_HEARTBEAT_MS = 10_000;
export const DAEMON_LOST_MS = 120_000;

/** What a daemon tells of itself when its worker starts. */
export interface DaemonIdentity {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
}

/** Writes the record of a daemon whose worker has just started. */
export async function registerDaemon(stores: Stores, daemon: DaemonIdentity): Promise<void> {
  const { id, ...identity } = daemon;
  await writing(`registering daemon ${id}`, async () => {
    const now = await stores.now();
    const fields = { ...identity, taskQueue: daemonTaskQueue(id), startedAt: now, seenAt: now };
    await stores.daemons.replaceOne({ _id: id }, fields, { upsert: true });
  });
}

/** Says that a registered daemon is still there. */
export async function touchDaemon(stores: Stores, id: string): Promise<void> {
  await writing(`refreshing daemon ${id}`, async () => {
    // The time is the store's: daemons are compared with each other, and their clocks need not agree.
    await stores.daemons.updateOne({ _id: id }, { $currentDate: { seenAt: true } });
  });
}

/**
 * The record of a daemon.
 * @throws LifeboatError `DaemonUnknown`
 */
export async function findDaemon(stores: Stores, id: string): Promise<DaemonRecord> {
  const record = await writing(`looking for daemon ${id}`, () => stores.daemons.findOne({ _id: id }));
  if (!record) throw new LifeboatError('DaemonUnknown', `no daemon ${id} has ever run here`);
  return record;
}

/** True when the daemon never ran here or has been silent for longer than `DAEMON_LOST_MS`. */
export async function isDaemonLost(stores: Stores, id: string): Promise<boolean> {
  return writing(`looking for daemon ${id}`, async () => {
    const record = await stores.daemons.findOne({ _id: id });
    if (!record) return true;
    const now = await stores.now();
    return now.getTime() - record.seenAt.getTime() > DAEMON_LOST_MS;
  });
}

/** All daemons that ever ran here, by their ids. */
export async function listDaemons(stores: Stores): Promise<DaemonRecord[]> {
  return writing('listing the daemons', () => stores.daemons.find({}).sort({ _id: 1 }).toArray());
}

async function writing<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castDriverError(error, 'store', what);
  }
}
