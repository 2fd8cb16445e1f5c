/** The mongod of a head: started on its directory, connected to, ended. */
import { endMongodOn, privateSocketPath, startMongod, type RunningMongod } from '../mongod/process.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import { isDiskFull, noteUncleanEnd, type HeadDirectory } from './directory.ts';
import { HeadSocket } from './socket.ts';
import { WITH_FAIL_POINTS } from './trims.ts';

export interface HeadMongod {
  readonly running: RunningMongod;
  readonly socket: HeadSocket;
}

export interface HeadMongodOptions {
  readonly directory: HeadDirectory;
  readonly binary: string;
  readonly cacheGiB: number;
  /** Names the socket: nobody who knows another one can reach this mongod. */
  readonly socketKey: string;
}

/**
 * Ends whatever mongod was left on the dbpath (it may be in the middle of anything) and starts a new one.
 * @throws LifeboatError `HeadStartFailed`, `DiskFull` (retryable), naming the log
 */
export async function startHeadMongod(options: HeadMongodOptions): Promise<HeadMongod> {
  const { directory, binary, cacheGiB, socketKey } = options;
  await endMongodOn(directory.dbpath);
  await noteUncleanEnd(directory);
  const path = await privateSocketPath(socketKey);
  let running: RunningMongod;
  try {
    running = await startMongod({
      binary,
      dbpath: directory.dbpath,
      address: { socket: path },
      cacheGiB,
      logPath: directory.logPath,
      setParameters: {
        // What expires on the source is deleted by an entry of its oplog.
        ttlMonitorEnabled: false,
        disableLogicalSessionCacheRefresh: true,
        diagnosticDataCollectionEnabled: false,
        ...WITH_FAIL_POINTS,
      },
      // A slow operation would be logged with its documents.
      extraArgs: ['--slowms', '2000000000'],
    });
  } catch (error) {
    throw await diskFullOr(directory, error);
  }
  try {
    return { running, socket: await HeadSocket.open(path) };
  } catch (error) {
    await running.stop();
    throw error;
  }
}

/** Says that the disk is full when a head ended for that reason. */
export async function diskFullOr(directory: HeadDirectory, error: unknown): Promise<unknown> {
  const ended = isLifeboatError(error, 'HeadLost') || isLifeboatError(error, 'HeadStartFailed');
  if (!ended || !(await isDiskFull(directory))) return error;
  const message = `the disk of the head in ${directory.root} is full; its log is ${directory.logPath}`;
  return new LifeboatError('DiskFull', message, { cause: error });
}

/** Ends it at once: after a broken connection nobody knows what it is still doing. */
export async function killHeadMongod({ running, socket }: HeadMongod): Promise<void> {
  socket.close();
  running.kill('SIGKILL');
  await running.exited;
}
