/** The servers of a fuzzer, used for one run after the other: a source, and a set for the stores. */
import { mongodVersion } from '../../src/mongod/binary.ts';
import { startReplicaSet, type TestReplicaSet } from '../support/replica-set.ts';
import { DATABASES } from './operations.ts';
import { holdBuilds } from './perform.ts';

export interface Bed extends AsyncDisposable {
  readonly binary: string;
  readonly version: string;
  readonly source: TestReplicaSet;
  readonly storeSet: TestReplicaSet;
  /** Takes away what a run has left on both. */
  clear(): Promise<void>;
}

const OWN = ['lifeboat', 'lifeboat_sync', 'lifeboat_oplog'];

export async function startBed(binary: string): Promise<Bed> {
  const undo = new AsyncDisposableStack();
  try {
    const version = await mongodVersion(binary);
    const setParameters = { enableTestCommands: true, transactionLifetimeLimitSeconds: 3_600 };
    const source = undo.use(await startReplicaSet({ binary, setParameters }));
    // A run that is given up may leave some.
    undo.defer(() => holdBuilds(source.client, 'off'));
    const storeSet = undo.use(await startReplicaSet({ name: 'blocks' }));
    const clear = async (): Promise<void> => {
      for (const name of DATABASES) {
        const db = source.client.db(name);
        await db.command({ dropAllUsersFromDatabase: 1 });
        await db.command({ dropAllRolesFromDatabase: 1 });
        await db.dropDatabase();
      }
      for (const name of OWN) await storeSet.client.db(name).dropDatabase();
    };
    await clear();
    return { binary, version, source, storeSet, clear, [Symbol.asyncDispose]: () => undo.disposeAsync() };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}
