/**
 * Applying stored oplog entries to the files of a snapshot, up to an optime and not one entry further (design decision 8).
 *
 * The files are those of a head, its own records among them: a mongod on them is that head as it stood at the snapshot, and
 * entries are applied to it by the same code, which keeps its position with the data. Cut short at any moment it goes on
 * where it was.
 */
import type { ObjectId } from 'mongodb';
import { Applier } from '../head/apply.ts';
import { countCappedCollections } from '../head/counts.ts';
import { isUncounted, noteCounted, type HeadDirectory } from '../head/directory.ts';
import { startHeadMongod, type HeadMongod } from '../head/mongod.ts';
import { OpenHead } from '../head/open-head.ts';
import { isTolerant, reached, readState } from '../head/state.ts';
import { MongodEnded, type MongodExit } from '../mongod/process.ts';
import { readEntries } from '../oplogstore/batches.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { Progress } from '../shared/messages.ts';
import { Meter } from '../shared/meter.ts';
import { formatOptime, samePosition, type Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import { SHUTDOWN_MS, verdict, type VerdictKinds } from './proof.ts';

export interface ReplayRequest {
  readonly stores: Stores;
  /** Whose entries they are. */
  readonly incarnation: ObjectId;
  /** The last entry that is applied. */
  readonly until: Position;
  /** How many entries there are between the snapshot and that one, about. */
  readonly entries: number;
  /** Of the files; the root is a folder of their own for what is kept beside them. */
  readonly directory: HeadDirectory;
  /** A mongod that can apply entries to files of the snapshot's version. */
  readonly binary: string;
  readonly cacheGiB: number;
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

const KINDS: VerdictKinds = { gaveUp: 'ReplayFailed', interrupted: 'ReplayInterrupted' };

/**
 * Brings the files to `until` and leaves them as a clean shutdown does.
 * @throws LifeboatError `ReplayFailed` when an entry cannot be applied, is not stored any more, or the files do not take it;
 *   `EntriesDamaged`; `TargetFull`, `ReplayInterrupted`, `HeadStrained`, `StoreUnavailable` (retryable)
 */
export async function replayEntries(request: ReplayRequest): Promise<void> {
  const { signal } = request;
  const mongod = await start(request);
  const stopEarly = (): void => mongod.running.kill('SIGTERM');
  signal.addEventListener('abort', stopEarly);
  try {
    if (signal.aborted) stopEarly();
    await replay(mongod, request);
    mongod.socket.close();
    const exit = await mongod.running.stop(SHUTDOWN_MS);
    if (exit.code !== 0) throw await judged(request, exit, 'did not shut down cleanly');
  } catch (error) {
    signal.throwIfAborted();
    throw await causeOf(error, mongod, request);
  } finally {
    signal.removeEventListener('abort', stopEarly);
    mongod.socket.close();
    await mongod.running.stop();
  }
}

async function start(request: ReplayRequest): Promise<HeadMongod> {
  const { directory, binary, cacheGiB, signal } = request;
  signal.throwIfAborted();
  try {
    return await startHeadMongod({ directory, binary, cacheGiB, socketKey: `replay in ${directory.dbpath}` });
  } catch (error) {
    if (isLifeboatError(error, 'DiskFull')) throw full(directory, error);
    if (!(error instanceof MongodEnded)) throw error;
    throw await judged(request, error.exit, 'does not start', error);
  }
}

async function replay({ socket }: HeadMongod, request: ReplayRequest): Promise<void> {
  const { stores, incarnation, until, directory, signal, report } = request;
  const record = await readState(socket);
  if (!record) throw new LifeboatError('ReplayFailed', `the files in ${directory.dbpath} are not those of a head`);
  const head = await OpenHead.read(socket, record);
  if (await isUncounted(directory)) {
    await countCappedCollections(head);
    await noteCounted(directory);
  }
  const applier = new Applier(head, directory.root);
  try {
    const meter = new Meter('replay', 'entries', request.entries);
    const stands = (): Position => applier.position.appliedThrough;
    // One that was cut short at its last entry may have every entry, and the indexes still to build.
    await applier.run(NO_ENTRIES, until, signal);
    if (!reached(stands(), until)) {
      for await (const { bytes } of readEntries(stores, incarnation, applier.readFrom, signal)) {
        const before = applier.entries;
        const incoming = await applier.run(bytes, until, signal);
        report(meter.add(applier.entries - before));
        if (incoming) {
          const what = `${incoming.db}.${incoming.name} was renamed into the backup, and was read from the source then`;
          throw new LifeboatError('ReplayFailed', `behind ${formatOptime(stands().ts)} ${what}`);
        }
        if (reached(stands(), until)) break;
      }
    }
    if (!samePosition(stands(), until) || isTolerant(head.record)) {
      const [wanted, found] = [formatOptime(until.ts), formatOptime(stands().ts)];
      throw new LifeboatError('ReplayFailed', `the stored entries do not lead to ${wanted}: they end at ${found}`);
    }
    await head.save(head.record, { journaled: true });
  } finally {
    applier.close();
  }
}

/** What it is to a restore that the head in hand failed. */
async function causeOf(error: unknown, mongod: HeadMongod, request: ReplayRequest): Promise<unknown> {
  const { directory, until } = request;
  if (!isLifeboatError(error)) return error;
  if (error.kind === 'HeadLost') {
    const exit = await mongod.running.stop(SHUTDOWN_MS);
    return judged(request, exit, 'ended while entries were applied', error);
  }
  if (error.kind === 'DiskFull') return full(directory, error);
  if (error.retryable || PASSES.has(error.kind)) return error;
  const what = `the entries up to ${formatOptime(until.ts)} cannot be applied: ${error.message}`;
  return new LifeboatError('ReplayFailed', what, { cause: error });
}

const NO_ENTRIES = Buffer.alloc(0);

/** Errors that say all there is to say. */
const PASSES: ReadonlySet<ErrorName> = new Set(['ReplayFailed', 'EntriesDamaged', 'Internal']);

function judged(
  { directory: { dbpath, logPath } }: ReplayRequest,
  exit: MongodExit,
  how: string,
  cause?: unknown,
): Promise<LifeboatError> {
  return verdict({ dbpath, logPath }, exit, how, cause, KINDS);
}

function full({ dbpath }: HeadDirectory, cause: unknown): LifeboatError {
  return new LifeboatError('TargetFull', `the disk of ${dbpath} is full`, { cause });
}
