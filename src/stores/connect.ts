/** Connecting to the blockstore, the sync store and the oplog store. */
import {
  MongoClient,
  MongoServerError,
  ReadConcern,
  ReadPreference,
  WriteConcern,
  type Collection,
  type CreateCollectionOptions,
  type Db,
  type ObjectId,
} from 'mongodb';
import { castDriverError, explainConnectError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type {
  BatchRecord,
  BlockRecord,
  CounterRecord,
  DaemonRecord,
  DeploymentRecord,
  LeaseRecord,
  GroomRecord,
  ManifestPartRecord,
  ManifestRecord,
  MemberRecord,
  PartRecord,
  RestoreRecord,
  RotationRecord,
  SliceRecord,
  SyncCollectionRecord,
  SyncViewRecord,
  ValidationCollectionRecord,
  ValidationRecord,
} from './records.ts';

/** URIs of the stores; the last two are the blockstore's when left out. */
export interface StoreUris {
  readonly blockstore: string;
  readonly syncStore?: string | undefined;
  readonly oplogStore?: string | undefined;
}

/** The open stores. One for a process; whoever opened it closes it. */
export interface Stores {
  readonly client: MongoClient;
  readonly deployments: Collection<DeploymentRecord>;
  readonly members: Collection<MemberRecord>;
  readonly daemons: Collection<DaemonRecord>;
  readonly leases: Collection<LeaseRecord>;
  readonly counters: Collection<CounterRecord>;
  readonly blocks: Collection<BlockRecord>;
  readonly grooms: Collection<GroomRecord>;
  readonly manifests: Collection<ManifestRecord>;
  readonly manifestParts: Collection<ManifestPartRecord>;
  readonly restores: Collection<RestoreRecord>;
  readonly rotations: Collection<RotationRecord>;
  readonly validations: Collection<ValidationRecord>;
  readonly validationCollections: Collection<ValidationCollectionRecord>;
  readonly syncCollections: Collection<SyncCollectionRecord>;
  readonly syncViews: Collection<SyncViewRecord>;
  readonly slices: Collection<SliceRecord>;
  readonly sliceParts: Collection<PartRecord>;
  readonly batches: Collection<BatchRecord>;
  readonly batchParts: Collection<PartRecord>;
  /** Blockstore, sync store and oplog store. */
  readonly databases: readonly Db[];
  /** `replicaSetId`s of the sets that hold the stores, hex, to refuse a store on the source's own set. */
  readonly replicaSetIds: readonly string[];
  /**
   * The blockstore's wall clock: leases live by it, never by a worker's.
   * @throws LifeboatError `StoreUnavailable`
   */
  now(): Promise<Date>;
  close(): Promise<void>;
}

/** How long the driver looks for a primary before it gives up, in milliseconds. */
const SELECTION_TIMEOUT_MS = 8_000;

interface ReplicaSetConfigReply {
  readonly config: { readonly settings: { readonly replicaSetId: ObjectId } };
}

async function replicaSetIdOf(client: MongoClient): Promise<string> {
  const hello = await client.db('admin').command({ hello: 1 });
  if (typeof hello['setName'] !== 'string') {
    throw new LifeboatError('StoreNotReplicaSet', 'a store is not on a replica set');
  }
  const { config } = (await client.db('admin').command({ replSetGetConfig: 1 })) as ReplicaSetConfigReply;
  return config.settings.replicaSetId.toHexString();
}

const CONNECTING = 'connecting to the blockstore';

function newClient(uri: string, appName: string): MongoClient {
  try {
    return new MongoClient(uri, {
      appName,
      writeConcern: new WriteConcern('majority'),
      readConcern: new ReadConcern('majority'),
      readPreference: ReadPreference.primary,
      serverSelectionTimeoutMS: SELECTION_TIMEOUT_MS,
      ignoreUndefined: true,
    });
  } catch (error) {
    throw new LifeboatError('StoreBadUri', `${CONNECTING}: the connection string is not valid`, { cause: error });
  }
}

async function dial(uri: string, appName: string): Promise<MongoClient> {
  const client = newClient(uri, appName);
  try {
    return await client.connect();
  } catch (error) {
    const cast = await explainConnectError(error, client, 'store', CONNECTING);
    await client.close();
    throw cast;
  }
}

/**
 * Opens the stores, checks that each is on a replica set and makes their indexes.
 * @throws LifeboatError `StoreBadUri`, `StoreAuthFailed`, `StoreTlsFailed`, `StoreUnavailable` or `StoreNotReplicaSet`
 */
export async function openStores(uris: StoreUris, appName = 'lifeboat'): Promise<Stores> {
  const clients = new Map<string, MongoClient>();
  const close = async (): Promise<void> => {
    await Promise.all([...clients.values()].map((client) => client.close()));
  };
  try {
    const clientOf = async (uri: string): Promise<MongoClient> => {
      const known = clients.get(uri);
      if (known) return known;
      const client = await dial(uri, appName);
      clients.set(uri, client);
      return client;
    };
    const client = await clientOf(uris.blockstore);
    const state = client.db('lifeboat');
    const sync = (await clientOf(uris.syncStore ?? uris.blockstore)).db('lifeboat_sync');
    const oplog = (await clientOf(uris.oplogStore ?? uris.blockstore)).db('lifeboat_oplog');
    const replicaSetIds = await Promise.all([...clients.values()].map(replicaSetIdOf));
    const stores = collections(client, state, sync, oplog, replicaSetIds, close);
    await makeIndexes(stores, state, sync, oplog);
    return stores;
  } catch (error) {
    await close();
    throw castDriverError(error, 'store', CONNECTING);
  }
}

function collections(
  client: MongoClient,
  state: Db,
  sync: Db,
  oplog: Db,
  replicaSetIds: readonly string[],
  close: () => Promise<void>,
): Stores {
  return {
    client,
    deployments: state.collection('deployments'),
    members: state.collection('members'),
    daemons: state.collection('daemons'),
    leases: state.collection('leases'),
    counters: state.collection('counters'),
    blocks: state.collection('blocks'),
    grooms: state.collection('grooms'),
    manifests: state.collection('manifests'),
    manifestParts: state.collection('manifestParts'),
    restores: state.collection('restores'),
    rotations: state.collection('rotations'),
    validations: state.collection('validations'),
    validationCollections: state.collection('validationCollections'),
    syncCollections: sync.collection('collections'),
    syncViews: sync.collection('views'),
    slices: sync.collection('slices'),
    sliceParts: sync.collection('sliceParts'),
    batches: oplog.collection('batches'),
    batchParts: oplog.collection('batchParts'),
    databases: [state, sync, oplog],
    replicaSetIds,
    async now() {
      try {
        const { localTime } = await client.db('admin').command({ hello: 1 });
        return localTime as Date;
      } catch (error) {
        throw castDriverError(error, 'store', 'asking the blockstore for its time');
      }
    },
    close,
  };
}

async function makeIndexes(stores: Stores, state: Db, sync: Db, oplog: Db): Promise<void> {
  // Blocks, slices and batches are compressed before they are sent: compressing them again only costs.
  await Promise.all(
    (
      [
        [state, 'blocks'],
        [sync, 'slices'],
        [sync, 'sliceParts'],
        [oplog, 'batches'],
        [oplog, 'batchParts'],
      ] as const
    ).map(([db, name]) => createOnce(db, name, UNCOMPRESSED)),
  );
  // Written first inside of a transaction, which is better spared the making of a collection.
  for (const name of ['rotations', 'leases', 'counters']) await createOnce(state, name);
  await stores.counters.updateOne({ _id: 'leases' }, { $setOnInsert: { value: 0 } }, { upsert: true });
  // The chains are followed by indexes that hold all of a header: the bytes beside it are megabytes.
  // What is asked and counted of the batches stands in it too: the records themselves are megabytes.
  const counted = { 'first.ts': 1, 'first.t': 1, entries: 1, 'bytes.rawBytes': 1 } as const;
  await stores.batches.createIndex({ '_id.incarnation': 1, 'last.ts': 1, 'last.t': 1, ...counted });
  await stores.batchParts.createIndex({ incarnation: 1 });
  await stores.slices.createIndex({
    '_id.incarnation': 1,
    '_id.uuid': 1,
    '_id.seq': 1,
    after: 1,
    token: 1,
    'readFrom.host': 1,
    'readFrom.copyId': 1,
    documents: 1,
    'bytes.rawBytes': 1,
    'bytes.storedBytes': 1,
  });
  await stores.sliceParts.createIndex({ incarnation: 1 });
  await stores.syncCollections.createIndex({ '_id.incarnation': 1, state: 1 });
  await stores.syncViews.createIndex({ '_id.incarnation': 1 });
  const marked = { damaged: { $exists: true } };
  await stores.blocks.createIndex({ damaged: 1, _id: 1 }, { partialFilterExpression: marked }, undefined);
  const doomed = { doom: { $exists: true } };
  await stores.blocks.createIndex({ doom: 1, _id: 1 }, { partialFilterExpression: doomed }, undefined);
  await stores.members.createIndex({ deployment: 1 });
  await stores.manifests.createIndex({ deployment: 1, 'optime.ts': 1 });
  await stores.manifestParts.createIndex({ '_id.snapshot': 1, '_id.n': 1 }, { unique: true }, undefined);
  await stores.restores.createIndex({ deployment: 1, startedAt: 1 });
  await stores.validations.createIndex({ deployment: 1, startedAt: 1 });
  // Of two attempts that begin one, one does.
  await stores.validations.createIndex(
    { incarnation: 1 },
    { unique: true, partialFilterExpression: { state: 'running' } },
    undefined,
  );
  await stores.validationCollections.createIndex({ '_id.validation': 1, '_id.uuid': 1 });
}

const NAMESPACE_EXISTS = 48;

const UNCOMPRESSED = { storageEngine: { wiredTiger: { configString: 'block_compressor=none' } } };

async function createOnce(db: Db, name: string, options: CreateCollectionOptions = {}): Promise<void> {
  try {
    await db.createCollection(name, options);
  } catch (error) {
    if (!(error instanceof MongoServerError) || error.code !== NAMESPACE_EXISTS) throw error;
  }
}
