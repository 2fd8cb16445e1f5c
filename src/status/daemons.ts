/** `daemons list`: what the stores say of the workers. */
import { castDriverError } from '../mongo/errors.ts';
import type { Stores } from '../stores/connect.ts';
import { daemonState, type DaemonState } from '../stores/daemons.ts';

export interface DaemonStatus {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly taskQueue: string;
  readonly state: DaemonState;
  /** ISO 8601, the store's clock. */
  readonly startedAt: string;
  readonly seenAt: string;
  /** Deployments whose backups it owns. */
  readonly deployments: readonly string[];
}

/** All daemons, by id. */
export async function readDaemons(stores: Stores): Promise<DaemonStatus[]> {
  try {
    const now = await stores.now();
    const daemons = await stores.daemons.find({}).sort({ _id: 1 }).toArray();
    const members = await stores.members
      .find({})
      .project<{ deployment: string; owner: { daemon: string } }>({ deployment: 1, owner: 1 })
      .sort({ _id: 1 })
      .toArray();
    return daemons.map((daemon) => ({
      id: daemon._id,
      host: daemon.host,
      pid: daemon.pid,
      version: daemon.version,
      taskQueue: daemon.taskQueue,
      state: daemonState(daemon, now),
      startedAt: daemon.startedAt.toISOString(),
      seenAt: daemon.seenAt.toISOString(),
      deployments: [
        ...new Set(members.filter(({ owner }) => owner.daemon === daemon._id).map(({ deployment }) => deployment)),
      ],
    }));
  } catch (error) {
    throw castDriverError(error, 'store', 'reading the daemons');
  }
}
