/** Asking a source for what the checks need; each question has a time limit of its own. */
import { ReadPreference, type MongoClient, type ReadPreferenceMode } from 'mongodb';
import { run } from '../mongo/commands.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { PinnedMember, Source } from '../source/connect.ts';
import { namespaceFilter, type NamespaceFilter } from '../source/filter.ts';
import { leftOutOf } from '../source/left-out.ts';
import { readOplogExtent, type OplogExtent } from '../source/oplog-window.ts';
import { inTime, type Fact } from './in-time.ts';
import type { MemberState, SetState } from './members.ts';

export interface SourceSizes {
  /** Without the database `local`, which no head holds of its source, and what the deployment leaves out. */
  readonly collections: number;
  readonly indexes: number;
  /** Of the files of collections and indexes. */
  readonly bytes: number;
}

export interface SourceFacts {
  readonly set: Fact<SetState>;
  /** Of the member that is read from. */
  readonly oplog: Fact<{ readonly host: string; readonly extent: OplogExtent }>;
  readonly sizes: Fact<SourceSizes>;
}

/** How long one question may take, in milliseconds; a silent member is given up before by the driver. */
const LIMIT_MS = 15_000;
/** Databases that are asked for their sizes at a time. */
const ASKED_AT_ONCE = 8;

const ANY_MEMBER = { readPreference: ReadPreference.primaryPreferred };

/** @throws the signal's reason when it is aborted */
export async function gatherSource(
  source: Source,
  readFrom: ReadPreferenceMode,
  exclude: readonly string[],
  signal: AbortSignal,
): Promise<SourceFacts> {
  const look = <T>(what: string, ask: (signal: AbortSignal) => Promise<T>): Promise<Fact<T>> =>
    inTime({ what: `${what} ${source.name}`, side: 'source', limit: LIMIT_MS, signal }, ask);
  const pinning = look('connecting to a member of', () => source.pinned());
  const onMember = async <T>(what: string, ask: (m: PinnedMember, signal: AbortSignal) => Promise<T>) => {
    const pinned = await pinning;
    return 'error' in pinned ? pinned : look(what, (limited) => ask(pinned.value, limited));
  };
  try {
    const [set, oplog, sizes] = await Promise.all([
      onMember('asking for the members of', async ({ host }, limited) => ({
        name: source.name,
        ...source.identity,
        members: await memberStates(source.client, limited),
        readFrom,
        readHost: host,
      })),
      onMember('measuring the oplog of', async ({ host, client }, limited) => {
        const extent = await readOplogExtent(client, limited);
        if (!extent) throw new LifeboatError('SourceNotReady', `the oplog of ${host} is empty`);
        return { host, extent };
      }),
      look('measuring the data of', (limited) => sizesOf(source.client, namespaceFilter(exclude), limited)),
    ]);
    return { set, oplog, sizes };
  } finally {
    void pinning.then((pinned) => ('value' in pinned ? pinned.value.close() : undefined)).catch(() => undefined);
  }
}

interface StatusReply {
  readonly members: readonly { readonly name: string; readonly health: number; readonly stateStr: string }[];
}

async function memberStates(client: MongoClient, signal: AbortSignal): Promise<MemberState[]> {
  const { members } = await run<StatusReply>(client.db('admin'), { replSetGetStatus: 1 }, { ...ANY_MEMBER, signal });
  return members.map(({ name, health, stateStr }) => ({ host: name, state: health === 1 ? stateStr : 'DOWN' }));
}

interface Sizes {
  readonly collections: number;
  readonly indexes: number;
  readonly storageSize: number;
  readonly indexSize: number;
}

async function sizesOf(client: MongoClient, filter: NamespaceFilter, signal: AbortSignal): Promise<SourceSizes> {
  const { databases } = await run<{ databases: { name: string }[] }>(
    client.db('admin'),
    { listDatabases: 1, nameOnly: true },
    { ...ANY_MEMBER, signal },
  );
  const names = databases.map(({ name }) => name).filter((name) => name !== 'local');
  let [collections, indexes, bytes] = [0, 0, 0];
  const askOn = async (): Promise<void> => {
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      const sizes = await run<Sizes>(client.db(name), { dbStats: 1 }, { ...ANY_MEMBER, signal });
      const without = await leftOutOf(client.db(name), filter, { ...ANY_MEMBER, signal });
      collections += sizes.collections - without.collections;
      indexes += sizes.indexes - without.indexes;
      bytes += Math.max(0, sizes.storageSize + sizes.indexSize - without.fileBytes);
    }
  };
  await Promise.all(Array.from({ length: ASKED_AT_ONCE }, askOn));
  return { collections, indexes, bytes };
}
