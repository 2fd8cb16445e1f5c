/** Check `blockstore`: the three stores take writes that a majority has, elsewhere than on the source's own set. */
import { MongoWriteConcernError, type Db } from 'mongodb';
import { run } from '../mongo/commands.ts';
import { LifeboatError } from '../shared/errors.ts';
import { bytes as bytesText, duration as durationText } from '../shared/phrases.ts';
import { refuseStoreOnSource, type Source } from '../source/connect.ts';
import type { Stores } from '../stores/connect.ts';
import { passed, refused, unknown, warned, type Finding } from './finding.ts';
import { inTime } from './in-time.ts';

/** How long all three may take, and a majority to one write, in milliseconds. */
const LIMIT_MS = 15_000;
const MAJORITY_WAIT_MS = 8_000;
/** With less than this free, a store stops soon. */
const LITTLE_BYTES = 2 ** 30;

/**
 * @param source when it is known: a store on its set is refused
 * @param write whether writing is tried as well, which leaves one small record in each store
 */
export async function checkStores(
  stores: Stores,
  source: Pick<Source, 'identity' | 'name'> | undefined,
  write: boolean,
  signal: AbortSignal,
): Promise<Finding> {
  const misplaced = source && onSource(source, stores);
  if (misplaced) return misplaced;
  const found = await inTime(
    { what: write ? 'writing to the stores' : 'looking at the stores', side: 'store', limit: LIMIT_MS, signal },
    (limited) => Promise.all(stores.databases.map((db) => look(db, write, limited))),
  );
  if ('error' in found) {
    const { error } = found;
    return error.kind === 'TimedOut' ? unknown('blockstore', error.message, error) : refused('blockstore', error);
  }
  const free = Math.min(...found.value);
  const told = `the stores ${write ? 'take majority writes' : 'answer'}; ${bytesText(free)} free`;
  return free < LITTLE_BYTES ? warned('blockstore', new LifeboatError('StoreFull', told)) : passed('blockstore', told);
}

function onSource(source: Pick<Source, 'identity' | 'name'>, stores: Stores): Finding | undefined {
  try {
    refuseStoreOnSource(source, stores);
    return undefined;
  } catch (error) {
    if (error instanceof LifeboatError) return refused('blockstore', error);
    throw error;
  }
}

/** Free bytes of the disk of one store. */
async function look(db: Db, write: boolean, signal: AbortSignal): Promise<number> {
  if (write) await probe(db, signal);
  const { fsTotalSize, fsUsedSize } = await run<{ fsTotalSize: number; fsUsedSize: number }>(
    db,
    { dbStats: 1 },
    { signal },
  );
  return fsTotalSize - fsUsedSize;
}

/** A real write: one that changes nothing is confirmed by a majority that has long been there. */
async function probe(db: Db, signal: AbortSignal): Promise<void> {
  const command = {
    update: 'probes',
    updates: [{ q: { _id: 'preflight' }, u: { $currentDate: { at: true } }, upsert: true }],
    writeConcern: { w: 'majority', wtimeout: MAJORITY_WAIT_MS },
  };
  try {
    await db.command(command, { signal });
  } catch (error) {
    if (!(error instanceof MongoWriteConcernError)) throw error;
    const message = `no majority of the set of ${db.databaseName} has a write in ${durationText(MAJORITY_WAIT_MS)}`;
    throw new LifeboatError('StoreUnavailable', message, { cause: error });
  }
}
