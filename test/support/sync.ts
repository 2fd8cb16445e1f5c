/** A source and stores to copy between, without a head. Each test has a deployment of its own. */
import { ObjectId, type MongoClient } from 'mongodb';
import { pino } from 'pino';
import { documentLength } from '../../src/bson/raw.ts';
import { sha256 } from '../../src/stores/bytes.ts';
import { Arrivals } from '../../src/stores/arrivals.ts';
import { openSource, type Source } from '../../src/source/connect.ts';
import type { StepContext } from '../../src/steps/context.ts';
import { claimBackup, createMember, fenceOf } from '../../src/stores/claims.ts';
import { openStores, type Stores } from '../../src/stores/connect.ts';
import type { MemberFence } from '../../src/stores/members.ts';
import type { SyncCollectionRecord } from '../../src/stores/records.ts';
import { listCollectionsToBuild } from '../../src/syncstore/collections.ts';
import { readChain, readSlice } from '../../src/syncstore/slices.ts';
import { startReplicaSet, type ReplicaSetOptions, type TestReplicaSet } from './replica-set.ts';

export interface SyncLab extends AsyncDisposable {
  readonly set: TestReplicaSet;
  readonly stores: Stores;
  readonly storesUri: string;
  readonly source: Source;
  /** A new deployment that is backed up for the first time. */
  begin(): Promise<Deployment>;
}

export interface Deployment {
  readonly stores: Stores;
  readonly source: Source;
  readonly fence: MemberFence;
  readonly arrivals: Arrivals;
}

/** What a step is given; `signal` ends it. */
export function stepContext(signal: AbortSignal = new AbortController().signal): StepContext {
  return { signal, report: () => undefined, logger: pino({ level: process.env['LIFEBOAT_TEST_LOG'] ?? 'silent' }) };
}

/** A source set and a set for the stores, both with nothing in them. */
export async function openSyncLab(options: ReplicaSetOptions = {}): Promise<SyncLab> {
  const undo = new AsyncDisposableStack();
  try {
    const set = undo.use(await startReplicaSet(options));
    const blocks = undo.use(await startReplicaSet({ name: 'blocks' }));
    const stores = undo.adopt(await openStores({ blockstore: blocks.uri }), (opened) => opened.close());
    const source = undo.adopt(await openSource({ name: 'shop', uri: set.uri }), (opened) => opened.close());
    let deployments = 0;
    return {
      set,
      stores,
      storesUri: blocks.uri,
      source,
      async begin() {
        const deployment = `shop-${(deployments += 1)}`;
        return { stores, source, fence: await newFence(stores, source, deployment), arrivals: new Arrivals() };
      },
      [Symbol.asyncDispose]: () => undo.disposeAsync(),
    };
  } catch (error) {
    await undo.disposeAsync();
    throw error;
  }
}

export async function newFence(stores: Stores, source: Source, deployment: string): Promise<MemberFence> {
  const { replicaSetId, ...identity } = source.identity;
  const claim = await createMember(stores, {
    deployment,
    source: { ...identity, replicaSetId: ObjectId.createFromHexString(replicaSetId) },
    daemon: 'here',
    phase: 'initial-sync',
  });
  return fenceOf(claim);
}

/** Claims a deployment anew, as the next run of its lifecycle does. */
export async function claimAgain({ stores, fence }: Deployment): Promise<MemberFence> {
  const [deployment = ''] = fence.key.split('/');
  const { member } = await claimBackup(stores, { deployment, claimant: 'here' });
  if (!member) throw new Error('the deployment has no member');
  return fenceOf(member);
}

/** The listed collection of that name. */
export async function listed({ stores, fence }: Deployment, ns: string): Promise<SyncCollectionRecord> {
  const { collections } = await listCollectionsToBuild(stores, fence.incarnation);
  const found = collections.find(({ db, name }) => `${db}.${name}` === ns);
  if (!found) throw new Error(`${ns} is not listed`);
  return found;
}

/** All stored documents of a collection as they would be loaded, one buffer each, in their order. */
export async function storedDocuments(deployment: Deployment, ns: string): Promise<Buffer[]> {
  const { _id } = await listed(deployment, ns);
  const { slices } = await readChain(deployment.stores, _id.incarnation, _id.uuid);
  const documents: Buffer[] = [];
  for (const slice of slices) documents.push(...split(await readSlice(deployment.stores, slice)));
  return documents;
}

/** The documents of a run. */
export function split(run: Buffer): Buffer[] {
  const documents: Buffer[] = [];
  for (let at = 0; at < run.length; at += documentLength(run, at)) {
    documents.push(run.subarray(at, at + documentLength(run, at)));
  }
  return documents;
}

/** The raw documents of a collection as the source itself gives them, by the driver's own cursor. */
export async function sourceDocuments(client: MongoClient, ns: string): Promise<Buffer[]> {
  const dot = ns.indexOf('.');
  const cursor = client
    .db(ns.slice(0, dot))
    .collection(ns.slice(dot + 1))
    .find({}, { raw: true, hint: { $natural: 1 } });
  return (await cursor.toArray()).map((raw) => Buffer.from(raw as unknown as Uint8Array));
}

/** One hash over documents in any order. */
export function digest(documents: readonly Buffer[]): string {
  const hashes = documents.map((document) => sha256(document).toString('hex')).sort();
  return sha256(Buffer.from(hashes.join(''))).toString('hex');
}
