/**
 * The workers that are, or were, there, and which of them count as gone.
 *
 * All times are the store's. A silence counts only from when whoever judges it was itself there without a break: after
 * an outage of the store, or of a whole site, every daemon has been silent, and none of them is gone.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { MongoServerError } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import { daemonTaskQueue } from '../shared/names.ts';
import type { Stores } from './connect.ts';
import type { DaemonRecord, DiscardedHead } from './records.ts';

/** How often a daemon says that it is there, and after which silence it counts as gone, in milliseconds. */
export const DAEMON_HEARTBEAT_MS = 10_000;
export const DAEMON_LOST_MS = 120_000;
/** Three heartbeats. A longer break in its own presence ends what a daemon knows of the silence of others. */
export const DAEMON_BREAK_MS = 30_000;

/** What a daemon tells of itself when its worker starts. */
export interface DaemonIdentity {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** Of this process and no other: host and pid may be another's too, in containers. */
  readonly process: string;
}

/** `here`: heard of within two minutes. `silent`: not. `retired`: an operator said that it is gone for good. */
export type DaemonState = 'here' | 'silent' | 'retired';

/** After this silence a worker of another process is taken for ended when one of the same id starts, in milliseconds. */
const SILENCE_MS = 3 * DAEMON_HEARTBEAT_MS;
const LOOK_MS = 1_000;

/**
 * Writes the record of a daemon whose worker has just started; one that was retired is there again. Where its id is another process's, that one is given the
 * time to show that it is there: two workers that poll the queue of one id would each get half of its work.
 * @param hasEnded whether a process of this machine runs no more
 * @throws LifeboatError `DaemonIdTaken` when another worker of that id is there
 */
export async function registerDaemon(
  stores: Stores,
  daemon: DaemonIdentity,
  hasEnded: (pid: number) => Promise<boolean> = () => Promise.resolve(false),
): Promise<void> {
  const { id, ...identity } = daemon;
  await writing(`registering daemon ${id}`, async () => {
    const before = await stores.daemons.findOne({ _id: id });
    if (before && !isSameProcess(before, daemon) && !(await hasGone(before, daemon, hasEnded))) {
      await requireSilence(stores, before);
    }
    const now = await stores.now();
    const fields = { ...identity, taskQueue: daemonTaskQueue(id), startedAt: now, seenAt: now, hereSince: now };
    // Of two that start at the same moment one finds the record as it was.
    const filter = { _id: id, ...(before ? { startedAt: before.startedAt } : { startedAt: { $exists: false } }) };
    const change = { $set: fields, $unset: { retiredAt: 1 as const } };
    try {
      await stores.daemons.updateOne(filter, change, { upsert: before === null });
    } catch (error) {
      if (!(error instanceof MongoServerError) || error.code !== DUPLICATE_KEY) throw error;
    }
    const after = await stores.daemons.findOne({ _id: id });
    if (after && !isSameProcess(after, daemon)) throw taken(after);
  });
}

const DUPLICATE_KEY = 11000;

function isSameProcess(one: Pick<DaemonRecord, 'process'>, other: Pick<DaemonIdentity, 'process'>): boolean {
  return one.process === other.process;
}

/**
 * Whether the process of a record has surely ended, which need not be waited for then. A pid that is now this process's
 * own tells nothing: in containers of one host name every process may have it.
 */
async function hasGone(
  before: DaemonRecord,
  { host, pid }: DaemonIdentity,
  hasEnded: (pid: number) => Promise<boolean>,
): Promise<boolean> {
  return before.host === host && before.pid !== pid && (await hasEnded(before.pid));
}

/** Settles when a daemon has been silent for long enough; throws as soon as it says that it is there. */
async function requireSilence(stores: Stores, before: DaemonRecord): Promise<void> {
  for (;;) {
    const now = await stores.now();
    if (now.getTime() - before.seenAt.getTime() > SILENCE_MS) return;
    await delay(LOOK_MS);
    const record = await stores.daemons.findOne({ _id: before._id });
    if (record && record.seenAt.getTime() !== before.seenAt.getTime()) throw taken(record);
  }
}

function taken({ _id, host, pid }: DaemonRecord): LifeboatError {
  return new LifeboatError('DaemonIdTaken', `daemon ${_id} runs already, on ${host} as process ${pid}`);
}

/**
 * Says that a registered daemon is still there.
 * @throws LifeboatError `DaemonIdTaken` when another process has registered by its id: it was silent for too long
 */
export async function touchDaemon(
  stores: Stores,
  { id, process }: Pick<DaemonIdentity, 'id' | 'process'>,
): Promise<void> {
  await writing(`refreshing daemon ${id}`, async () => {
    // The time is the store's: daemons are compared with each other, and their clocks need not agree.
    const silence = { $subtract: ['$$NOW', '$seenAt'] };
    const hereSince = { $cond: [{ $gt: [silence, DAEMON_BREAK_MS] }, '$$NOW', '$hereSince'] };
    const { matchedCount } = await stores.daemons.updateOne({ _id: id, process }, [
      { $set: { hereSince, seenAt: '$$NOW' } },
      { $unset: 'retiredAt' },
    ]);
    if (matchedCount === 1) return;
    const other = await stores.daemons.findOne({ _id: id });
    if (other) throw taken(other);
  });
}

/**
 * Says that a daemon is gone for good, which another one then need not wait for. Only a daemon that is silent can be.
 * @throws LifeboatError `DaemonUnknown`; `DaemonPresent` when it was heard of within the last half minute
 */
export async function retireDaemon(stores: Stores, id: string): Promise<DaemonRecord> {
  await findDaemon(stores, id);
  return writing(`retiring daemon ${id}`, async () => {
    const silent = { $gt: [{ $subtract: ['$$NOW', '$seenAt'] }, DAEMON_BREAK_MS] };
    const retired = await stores.daemons.findOneAndUpdate(
      { _id: id, $expr: silent },
      [{ $set: { retiredAt: { $ifNull: ['$retiredAt', '$$NOW'] } } }],
      { returnDocument: 'after' },
    );
    if (retired) return retired;
    throw new LifeboatError('DaemonPresent', `daemon ${id} was heard of within the last half minute`);
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

/** Heads that a daemon was left word of to remove from its disk. */
export async function discardedHeads(stores: Stores, id: string): Promise<readonly DiscardedHead[]> {
  const record = await writing(`reading what daemon ${id} is to remove`, () => stores.daemons.findOne({ _id: id }));
  return record?.discard ?? [];
}

/** Takes one off that list. */
export async function headDiscarded(stores: Stores, id: string, head: DiscardedHead): Promise<void> {
  await writing(`noting what daemon ${id} removed`, () =>
    stores.daemons.updateOne({ _id: id }, { $pull: { discard: head } }),
  );
}

/** @param now the store's */
export function daemonState({ seenAt, retiredAt }: DaemonRecord, now: Date): DaemonState {
  if (retiredAt) return 'retired';
  return now.getTime() - seenAt.getTime() > DAEMON_LOST_MS ? 'silent' : 'here';
}

/**
 * Whether `owner` is gone, as far as `witness` can tell: retired, or silent for longer than `afterMs` (Infinity: only a
 * retired one is gone) while the witness was there all that time.
 * @param now the store's
 */
export function isGone(
  owner: Pick<DaemonRecord, 'seenAt' | 'retiredAt'> | null,
  witness: Pick<DaemonRecord, 'hereSince'> | null,
  now: Date,
  afterMs: number,
): boolean {
  if (owner?.retiredAt) return true;
  if (!witness) return false;
  const from = Math.max(owner?.seenAt.getTime() ?? 0, witness.hereSince.getTime());
  return now.getTime() - from > afterMs;
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
