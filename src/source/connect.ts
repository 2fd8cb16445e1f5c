/** Connecting to a deployment that is backed up. Nothing here writes to it. */
import {
  MongoClient,
  MongoServerSelectionError,
  ReadPreference,
  type Document,
  type MongoClientOptions,
  type ObjectId,
  type ReadPreferenceMode,
} from 'mongodb';
import { run } from '../mongo/commands.ts';
import { castDriverError, explainConnectError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberRecord } from '../stores/records.ts';
import { copyIdentity, type CopyIdentity } from './copy-identity.ts';
import { lastWrite } from './positions.ts';
import { requireRoles } from './privileges.ts';
import { ReadPace, type ReadLimit } from './read-pace.ts';
import { directUri, isDirect } from './uri.ts';

export interface SourceOptions {
  /** The deployment's name, for messages. */
  readonly name: string;
  readonly uri: string;
  /** Which members are read from; `secondaryPreferred` when left out. */
  readonly readFrom?: ReadPreferenceMode | undefined;
  /** How fast its documents may be read; without a limit when left out. */
  readonly readLimit?: ReadLimit | undefined;
}

export interface SourceIdentity {
  /** Hex. */
  readonly replicaSetId: string;
  readonly setName: string;
  /** `x.y.z` */
  readonly version: string;
  /** `x.y` */
  readonly featureCompatibilityVersion: string;
}

/** One data-bearing member; its client talks to no other. */
export interface PinnedMember {
  readonly host: string;
  /** As it was when the connection was made. */
  readonly copy: CopyIdentity;
  readonly client: MongoClient;
  close(): Promise<void>;
}

/** An open source. Whoever opened it closes it. */
export interface Source {
  readonly name: string;
  /** Talks to the whole set, with the read preference of the configuration. */
  readonly client: MongoClient;
  readonly identity: SourceIdentity;
  /** Asked before documents are read. */
  readonly pace: ReadPace;
  /**
   * Connects to one member: to `host`, else to one of the configuration's read preference.
   * @throws LifeboatError `SourceUnavailable` when it does not answer or holds no data just now
   */
  pinned(host?: string): Promise<PinnedMember>;
  /**
   * Hosts of all members, but arbiters and hidden ones; behind a direct URI, its own alone.
   * @throws LifeboatError `SourceUnavailable`
   */
  hosts(): Promise<readonly string[]>;
  /** The newest entry that is known to be on a majority: the primary's word, or another member's while there is none. */
  majorityPosition(): Promise<Position>;
  close(): Promise<void>;
}

/** How long the driver looks for a member, and how long a silent one is waited for, in milliseconds. */
const SELECTION_TIMEOUT_MS = 8_000;
const SOCKET_TIMEOUT_MS = 120_000;
const PROBE_TIMEOUT_MS = 3_000;

/** Commands go to the primary alone unless told: a set without one can still be looked at. */
const ANY_MEMBER = { readPreference: ReadPreference.primaryPreferred };

const clientOptions: MongoClientOptions = {
  appName: 'lifeboat',
  serverSelectionTimeoutMS: SELECTION_TIMEOUT_MS,
  connectTimeoutMS: SELECTION_TIMEOUT_MS,
  socketTimeoutMS: SOCKET_TIMEOUT_MS,
  // A copy goes on from a place of its own after an error: a retry of the driver would only hide it.
  retryReads: false,
};

function newClient(name: string, uri: string, options: MongoClientOptions): MongoClient {
  try {
    return new MongoClient(uri, options);
  } catch (error) {
    throw new LifeboatError('BadUri', `the connection string of ${name} is not valid`, { cause: error });
  }
}

/**
 * Opens a source and checks that it can be backed up.
 * @throws LifeboatError `BadUri`, `AuthFailed`, `TlsFailed`, `NotAuthorized`, `NotAReplicaSet` (a standalone), `NoDataMember` (only
 *   arbiters answer), `UnsupportedSource` (part of a sharded cluster); `SourceUnavailable` (retryable)
 */
export async function openSource(options: SourceOptions): Promise<Source> {
  const { name, uri, readFrom = 'secondaryPreferred', readLimit } = options;
  const client = newClient(name, uri, { ...clientOptions, readPreference: readFrom });
  try {
    await client.connect();
    requireDataMember(name, await client.db('admin').command({ hello: 1 }, ANY_MEMBER));
    await requireRoles(name, client);
    const identity = await identify(name, client);
    return {
      name,
      client,
      identity,
      pace: new ReadPace(readLimit),
      pinned: (host) => pin({ name, uri, client, identity }, host),
      hosts: () => allHosts(name, uri, client),
      majorityPosition: () => majorityPosition(name, client),
      close: () => client.close(),
    };
  } catch (error) {
    const found = error instanceof MongoServerSelectionError ? await diagnose(name, uri, client) : undefined;
    const cast = found ?? (await explainConnectError(error, client, 'source', `connecting to ${name}`));
    await client.close();
    throw cast;
  }
}

function requireDataMember(name: string, hello: Document): void {
  if (hello['msg'] === 'isdbgrid') {
    throw new LifeboatError('UnsupportedSource', `${name} is a sharded cluster (its URI reaches a mongos)`);
  }
  if (hello['arbiterOnly'] === true)
    throw new LifeboatError('NoDataMember', `the URI of ${name} reaches only an arbiter`);
  if (typeof hello['setName'] === 'string') return;
  if (hello['isreplicaset'] === true) {
    throw new LifeboatError('NotAReplicaSet', `${name} was started as a replica set that was never initiated`);
  }
  throw new LifeboatError('NotAReplicaSet', `${name} is a standalone server`);
}

/** Why no member was found: what each host of the URI says of itself, or undefined when none says anything new. */
async function diagnose(name: string, uri: string, client: MongoClient): Promise<LifeboatError | undefined> {
  const answers = await Promise.all(client.options.hosts.map(async (host) => probe(uri, host.toString(), client)));
  const found = answers.filter((hello) => hello !== undefined);
  // A member that holds data may be back in a moment; only a set without one is in need of another URI.
  if (found.some(holdsData)) return undefined;
  for (const hello of found) {
    try {
      requireDataMember(name, hello);
    } catch (error) {
      if (error instanceof LifeboatError) return error;
    }
  }
  return undefined;
}

function holdsData(hello: Document): boolean {
  return typeof hello['setName'] === 'string' && (hello['isWritablePrimary'] === true || hello['secondary'] === true);
}

/** The unauthenticated `hello` of one host. */
async function probe(uri: string, host: string, client: MongoClient): Promise<Document | undefined> {
  const direct = directUri(uri.replace(/\/\/[^@/]*@/, '//'), host, { tls: client.options.tls });
  if (direct === undefined) return undefined;
  try {
    const bare = direct.replace(/([?&])auth(Source|Mechanism|MechanismProperties)=[^&]*/gi, '$1');
    await using member = new MongoClient(bare, {
      ...clientOptions,
      serverSelectionTimeoutMS: PROBE_TIMEOUT_MS,
      connectTimeoutMS: PROBE_TIMEOUT_MS,
    });
    return await member.db('admin').command({ hello: 1 });
  } catch {
    return undefined;
  }
}

interface SetConfig {
  readonly config: { readonly _id: string; readonly settings: { readonly replicaSetId: ObjectId } };
}

async function identify(name: string, client: MongoClient): Promise<SourceIdentity> {
  const admin = client.db('admin');
  const ask = <T extends object>(command: Document): Promise<T> => run<T>(admin, command, ANY_MEMBER);
  const { config } = await ask<SetConfig>({ replSetGetConfig: 1 });
  const { parsed } = await ask<{ parsed: { sharding?: { clusterRole?: string } } }>({ getCmdLineOpts: 1 });
  const role = parsed.sharding?.clusterRole;
  if (role !== undefined) {
    throw new LifeboatError('UnsupportedSource', `${name} is part of a sharded cluster (a ${role})`);
  }
  // Only a server of 4.4 or older can be started without them (tried on 4.4.2); everything is read at majority.
  const { storageEngine } = await ask<{ storageEngine: { supportsCommittedReads: boolean } }>({ serverStatus: 1 });
  if (!storageEngine.supportsCommittedReads) {
    throw new LifeboatError('UnsupportedSource', `${name} runs with enableMajorityReadConcern: false`);
  }
  const { version } = await ask<{ version: string }>({ buildInfo: 1 });
  const { featureCompatibilityVersion } = await ask<{ featureCompatibilityVersion: { version: string } }>({
    getParameter: 1,
    featureCompatibilityVersion: 1,
  });
  return {
    replicaSetId: config.settings.replicaSetId.toHexString(),
    setName: config._id,
    version,
    featureCompatibilityVersion: featureCompatibilityVersion.version,
  };
}

interface PinContext extends Pick<Source, 'name' | 'client' | 'identity'> {
  readonly uri: string;
}

async function pin({ name, uri, client, identity }: PinContext, wanted?: string): Promise<PinnedMember> {
  const host = wanted ?? (await selectHost(name, uri, client));
  const { credentials, tls } = client.options;
  const direct = directUri(uri, host, { tls, authSource: credentials?.source });
  if (direct === undefined) throw new LifeboatError('BadUri', `the connection string of ${name} is not valid`);
  const member = newClient(name, direct, { ...clientOptions, readPreference: 'primaryPreferred' });
  try {
    const hello = await member.db('admin').command({ hello: 1 });
    if (!holdsData(hello)) {
      throw new LifeboatError('SourceUnavailable', `member ${host} of ${name} holds no data just now`);
    }
    const { config } = await run<SetConfig>(member.db('admin'), { replSetGetConfig: 1 });
    requireSameSet(name, config.settings.replicaSetId.toHexString(), identity.replicaSetId);
    return { host, copy: await copyIdentity(member), client: member, close: () => member.close() };
  } catch (error) {
    await member.close();
    throw castDriverError(error, 'source', `connecting to member ${host} of ${name}`);
  }
}

/** A member by the name that the set's configuration has for it; behind a direct URI, the URI's own. */
async function selectHost(name: string, uri: string, client: MongoClient): Promise<string> {
  const [seed] = client.options.hosts;
  if (isDirect(uri) && seed) return seed.toString();
  try {
    const { readPreference } = client.options;
    const hello = await client.db('admin').command({ hello: 1 }, { readPreference });
    return String(hello['me']);
  } catch (error) {
    throw castDriverError(error, 'source', `looking for a member of ${name}`);
  }
}

async function allHosts(name: string, uri: string, client: MongoClient): Promise<readonly string[]> {
  if (isDirect(uri)) return [await selectHost(name, uri, client)];
  try {
    const { hosts, passives = [] } = await run<{ hosts: string[]; passives?: string[] }>(
      client.db('admin'),
      { hello: 1 },
      ANY_MEMBER,
    );
    return [...hosts, ...passives];
  } catch (error) {
    throw castDriverError(error, 'source', `looking for the members of ${name}`);
  }
}

async function majorityPosition(name: string, client: MongoClient): Promise<Position> {
  try {
    const { majority } = await lastWrite(client);
    return majority;
  } catch (error) {
    throw castDriverError(error, 'source', `reading the newest optime of ${name}`);
  }
}

/**
 * Refuses another replica set than the recorded one.
 * @throws LifeboatError `WrongReplicaSet`
 */
export function requireRecordedSet(source: Source, recorded: MemberRecord['source']): void {
  requireSameSet(source.name, source.identity.replicaSetId, recorded.replicaSetId.toHexString());
}

function requireSameSet(name: string, found: string, expected: string): void {
  if (found === expected) return;
  throw new LifeboatError('WrongReplicaSet', `the URI of ${name} reaches the replica set ${found}, not ${expected}`);
}

/**
 * Refuses stores on the source's own set: their entries would feed themselves.
 * @throws LifeboatError `StoreOnSource`
 */
export function refuseStoreOnSource(
  source: Pick<Source, 'name' | 'identity'>,
  stores: Pick<Stores, 'replicaSetIds'>,
): void {
  if (!stores.replicaSetIds.includes(source.identity.replicaSetId)) return;
  throw new LifeboatError('StoreOnSource', `a store is on the replica set of ${source.name} itself`);
}
