/** Check `blockstore`: the three stores take writes that a majority has, elsewhere than on the source's own set. */
import { ObjectId, type Db } from 'mongodb';
import { run } from '../mongo/commands.ts';
import { LifeboatError } from '../shared/errors.ts';
import { bytesText, durationText } from '../shared/quantities.ts';
import { refuseStoreOnSource, type Source } from '../source/connect.ts';
import type { Stores } from '../stores/connect.ts';
import { passed, refused, unknown, warned, type Finding } from './finding.ts';
import { inTime } from './in-time.ts';

/** How long all three may take, and a majority to one write, in milliseconds. */
const LIMIT_MS = 15_000;
const MAJORITY_WAIT_MS = 8_000;
/** With less than this free, a store stops soon. */
const LITTLE_BYTES = 2 ** 30;

/** @param source when it is known: a store on its set is refused */
export async function checkStores(
  stores: Stores,
  source: Pick<Source, 'identity' | 'name'> | undefined,
  signal: AbortSignal,
): Promise<Finding> {
  const misplaced = source && onSource(source, stores);
  if (misplaced) return misplaced;
  const found = await inTime({ what: 'writing to the stores', side: 'store', limit: LIMIT_MS, signal }, (limited) =>
    Promise.all(stores.databases.map((db) => look(db, limited))),
  );
  if ('error' in found) {
    const { error } = found;
    return error.kind === 'TimedOut' ? unknown('blockstore', error.message, error) : refused('blockstore', error);
  }
  const free = Math.min(...found.value);
  const told = `the stores take majority writes; ${bytesText(free)} free`;
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

/** Free bytes of the disk of one store, behind a write that changes nothing and waits for a majority all the same. */
async function look(db: Db, signal: AbortSignal): Promise<number> {
  const reply = await run<{ writeConcernError?: object }>(
    db,
    {
      delete: 'preflight',
      deletes: [{ q: { _id: new ObjectId() }, limit: 1 }],
      writeConcern: { w: 'majority', wtimeout: MAJORITY_WAIT_MS },
    },
    { signal },
  );
  if (reply.writeConcernError) {
    const message = `no majority of the set of ${db.databaseName} has a write in ${durationText(MAJORITY_WAIT_MS)}`;
    throw new LifeboatError('StoreUnavailable', message);
  }
  const { fsTotalSize, fsUsedSize } = await run<{ fsTotalSize: number; fsUsedSize: number }>(
    db,
    { dbStats: 1 },
    { signal },
  );
  return fsTotalSize - fsUsedSize;
}
