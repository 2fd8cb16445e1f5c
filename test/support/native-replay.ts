/**
 * The server's own replay of entries onto files (research, mongodb-internals §5): another road to the same moment, which
 * shares no code with the product's.
 */
import { MongoClient, ObjectId } from 'mongodb';
import { documentLength } from '../../src/bson/raw.ts';
import { entryPlace } from '../../src/mongo/entries.ts';
import { toStoredPosition } from '../../src/mongo/positions.ts';
import { startMongod, type RunningMongod } from '../../src/mongod/process.ts';
import { readEntries } from '../../src/oplogstore/batches.ts';
import { compareOptimes, type Position } from '../../src/shared/optime.ts';
import type { Stores } from '../../src/stores/connect.ts';
import { RawWire } from './raw-wire.ts';
import { freePort } from './replica-set.ts';

export interface NativeReplay {
  readonly stores: Stores;
  readonly incarnation: ObjectId;
  /** The files of a snapshot. */
  readonly dbpath: string;
  /** Where they stand, and where they are to be brought. */
  readonly from: Position;
  readonly until: Position;
  readonly binary: string;
}

/** Bytes of entries that are inserted at a time. */
const RUN_BYTES = 8 << 20;

/** Brings files of a 5.0 or newer to `until`, and leaves them as a clean shutdown does. */
export async function replayNatively(request: NativeReplay): Promise<void> {
  const { dbpath, binary } = request;
  const logPath = `${dbpath}.replay.log`;
  const start = async (setParameters: Readonly<Record<string, boolean>>): Promise<RunningMongod> =>
    startMongod({ binary, dbpath, address: { port: await freePort() }, cacheGiB: 0.25, logPath, setParameters });
  const stop = async (mongod: RunningMongod): Promise<void> => {
    const { code } = await mongod.stop();
    if (code !== 0) throw new Error(`a mongod on ${dbpath} ended with ${code}; its log is ${logPath}`);
  };
  const seeded = await start({ ttlMonitorEnabled: false });
  try {
    await using client = await MongoClient.connect(seeded.uri);
    await seed(client, seeded, request);
  } finally {
    await stop(seeded);
  }
  await stop(
    await start({
      recoverFromOplogAsStandalone: true,
      startupRecoveryForRestore: true,
      takeUnstableCheckpointOnShutdown: true,
    }),
  );
}

async function seed(client: MongoClient, mongod: RunningMongod, request: NativeReplay): Promise<void> {
  const { stores, incarnation, from, until } = request;
  const local = client.db('local');
  await local.createCollection('oplog.rs', { capped: true, size: 512 << 20 });
  await using wire = await RawWire.open(mongod.address);
  let run: Buffer[] = [];
  let bytes = 0;
  const send = async (): Promise<void> => {
    if (run.length > 0) await wire.insert('local', 'oplog.rs', run);
    run = [];
    bytes = 0;
  };
  for await (const batch of readEntries(stores, incarnation, from, new AbortController().signal)) {
    for (let at = 0; at < batch.bytes.length;) {
      const length = documentLength(batch.bytes, at);
      const { ts } = entryPlace(batch.bytes, at);
      if (compareOptimes(ts, from.ts) >= 0 && compareOptimes(ts, until.ts) <= 0) {
        if (bytes + length > RUN_BYTES) await send();
        run.push(batch.bytes.subarray(at, at + length));
        bytes += length;
      }
      at += length;
    }
  }
  await send();
  const begin = toStoredPosition(from);
  await local.collection('replset.minvalid').insertOne({ _id: new ObjectId(), ...begin, begin });
}
