/**
 * The daemon: what one worker process holds open between its activities. The configuration as it is now, the stores,
 * the sources, the heads, and the boards on which people read how it goes.
 */
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { watchableConfig, type WatchedConfig } from '../config/load.ts';
import type { Config, DeploymentConfig } from '../config/schema.ts';
import type { SecretCommands } from '../config/secret-command.ts';
import { steadily } from '../config/steady.ts';
import { deploymentUri, unknownDeployment } from '../config/uris.ts';
import { Metrics } from '../metrics/registry.ts';
import { headMongodFor, mongodFor } from '../mongod/binary.ts';
import type { Machine } from '../preflight/deployment.ts';
import { isLifeboatError, LifeboatError, type ErrorName } from '../shared/errors.ts';
import type { MemberClaim } from '../shared/messages.ts';
import { daemonTaskQueue } from '../shared/names.ts';
import { openSource, type Source } from '../source/connect.ts';
import type { VerificationParts } from '../steps/verify-part.ts';
import { Arrivals } from '../stores/arrivals.ts';
import { fenceOf } from '../stores/claims.ts';
import { discardedHeads, headDiscarded } from '../stores/daemons.ts';
import { openStores, type StoreUris, type Stores } from '../stores/connect.ts';
import { updateMember } from '../stores/members.ts';
import { FreshSlices } from '../syncstore/fresh-slices.ts';
import { ProgressBoard, TroubleBoard } from './boards.ts';
import { takeDataDir, type DataDir } from './data-dir.ts';
import { Heads } from './heads.ts';
import { recordTrouble } from './phases.ts';
import { leaveTakenOver } from './taken-over.ts';
import { Sights } from './sights.ts';
import { slicesFrom, type SliceTimes } from './slices.ts';

export interface DaemonOptions {
  readonly configFile: string | undefined;
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;
  readonly logger: Logger;
  /** Runs what prints a connection string. */
  readonly commands: SecretCommands;
  /** Where the stores are, as the configuration or the embedded blockstore says. */
  readonly storeUris: (config: Config) => Promise<StoreUris>;
}

const GIB = 2 ** 30;

const SOURCE_REFUSALS: ReadonlySet<ErrorName> = new Set<ErrorName>(['AuthFailed', 'TlsFailed']);
const STORE_REFUSALS: ReadonlySet<ErrorName> = new Set<ErrorName>(['StoreAuthFailed', 'StoreTlsFailed']);

export class Daemon {
  readonly id: string;
  readonly taskQueue: string;
  readonly logger: Logger;
  readonly slices: SliceTimes;
  readonly heads: Heads;
  readonly metrics = new Metrics();
  readonly sights = new Sights();
  readonly #options: DaemonOptions;
  readonly #dataDir: DataDir;
  readonly #config: WatchedConfig;
  readonly #arrivals = new Map<string, Arrivals>();
  readonly #freshSlices = new Map<string, FreshSlices>();
  readonly #progress = new Map<string, ProgressBoard>();
  readonly #troubles = new Map<string, TroubleBoard>();
  readonly #sources = new Map<
    string,
    { readonly key: string; readonly uri: string; readonly source: Promise<Source> }
  >();
  #stores: { readonly key: string; readonly stores: Promise<Stores> } | undefined;
  /** Deployments whose source has let this process in, and whether the stores have. */
  readonly #letIn = new Set<string>();
  #storesLetIn = false;

  private constructor(options: DaemonOptions, dataDir: DataDir, config: WatchedConfig) {
    this.id = dataDir.daemonId;
    this.taskQueue = daemonTaskQueue(this.id);
    this.logger = options.logger.child({ daemon: this.id });
    this.slices = slicesFrom(options.env);
    this.#options = options;
    this.#dataDir = dataDir;
    this.#config = config;
    this.heads = new Heads({
      daemon: this.id,
      dataDir: dataDir.path,
      logger: this.logger,
      mongod: async ({ source }) => ({
        binary: await this.headMongodFor(source.version),
        cacheGiB: await this.headCacheGiB(),
      }),
    });
  }

  /**
   * Reads the configuration and takes the data directory for this process.
   * @throws LifeboatError what loadConfig and takeDataDir throw
   */
  static async open(options: DaemonOptions): Promise<Daemon> {
    const watched = await watchableConfig({ file: options.configFile });
    const { config } = await watched.read();
    const path = config.daemon.dataDir ?? join(options.home, 'daemon');
    return new Daemon(options, await takeDataDir(path, config.daemon.id ?? undefined), watched);
  }

  /** Cache of a mongod that entries are applied to, in GiB. */
  async headCacheGiB(): Promise<number> {
    return (await this.config()).daemon.headCacheBytes / GIB;
  }

  /** The configuration as its file has it now; an edit with a mistake is told in the log and not followed. */
  async config(): Promise<Config> {
    const { config, problem } = await this.#config.read();
    if (problem) this.logger.warn({ code: problem.code }, `${problem.message}; the edit is not in effect`);
    return config;
  }

  /** @throws LifeboatError `UnknownDeployment` */
  async deployment(name: string): Promise<DeploymentConfig> {
    const config = await this.config();
    const deployment = config.deployments.get(name);
    if (!deployment) throw unknownDeployment(config, name);
    return deployment;
  }

  /** The stores, connected when they are first asked for, and anew when their URIs were edited. */
  async stores(): Promise<Stores> {
    const read = async (): Promise<string> => JSON.stringify(await this.#options.storeUris(await this.config()));
    const key = await steadily(read, this.#stores?.key);
    const uris = JSON.parse(key) as StoreUris;
    if (this.#stores?.key !== key) {
      const old = this.#stores;
      this.#stores = { key, stores: openStores(uris, `lifeboat ${this.id}`) };
      void old?.stores.then((stores) => stores.close()).catch(() => undefined);
    }
    const opening = this.#stores;
    try {
      const stores = await opening.stores;
      this.#storesLetIn = true;
      return stores;
    } catch (error) {
      if (this.#stores === opening) this.#stores = undefined;
      throw error;
    }
  }

  /** The source of a deployment, connected when it is first asked for, and anew when its URI was edited. */
  async source(name: string): Promise<Source> {
    const { readFrom } = await this.deployment(name);
    const { env, commands } = this.#options;
    const read = async (): Promise<string> => deploymentUri(await this.config(), name, env, commands);
    const uri = await steadily(read, this.#sources.get(name)?.uri);
    const key = `${readFrom} ${uri}`;
    const known = this.#sources.get(name);
    if (known && known.key !== key) {
      this.#sources.delete(name);
      void known.source.then((source) => source.close()).catch(() => undefined);
    }
    const opening = this.#sources.get(name) ?? {
      key,
      uri,
      source: openSource({ name, uri, readFrom, readLimit: () => this.#readLimit() }),
    };
    this.#sources.set(name, opening);
    try {
      const source = await opening.source;
      this.#letIn.add(name);
      return source;
    } catch (error) {
      if (this.#sources.get(name) === opening) this.#sources.delete(name);
      throw error;
    }
  }

  async #readLimit(): Promise<number | null> {
    return (await this.config()).limits.sourceReadBytesPerSecond;
  }

  /** How a part of the head of a deployment is compared with its source, as the configuration has it now. */
  async verification(name: string): Promise<VerificationParts> {
    const { limits } = await this.config();
    const { verifyWithin } = await this.deployment(name);
    const readLimit = async (): Promise<number> => {
      const { verifyReadBytesPerSecond, sourceReadBytesPerSecond } = (await this.config()).limits;
      return Math.min(verifyReadBytesPerSecond, sourceReadBytesPerSecond ?? Infinity);
    };
    return { source: () => this.source(name), readLimit, maxMs: limits.verifyForMs, within: verifyWithin };
  }

  /** Lets go of a source, so that the next activity connects anew. */
  async closeSource(name: string): Promise<void> {
    const known = this.#sources.get(name);
    this.#sources.delete(name);
    await known?.source.then((source) => source.close()).catch(() => undefined);
  }

  /** Lets go of heads that another daemon has taken over. */
  async leaveTakenOver(): Promise<void> {
    await leaveTakenOver(this.heads, await this.stores(), this.#dataDir.path, this.logger);
  }

  /** Removes from the disk the heads of purged deployments that this daemon was left word of. */
  async discardHeads(): Promise<void> {
    const stores = await this.stores();
    for (const head of await discardedHeads(stores, this.id)) {
      await this.heads.discard(head);
      await headDiscarded(stores, this.id, head);
      this.logger.info({ deployment: head.deployment, member: head.member }, 'the head of a purged deployment is gone');
    }
  }

  /**
   * What the failure of an activity means. Access that is refused after it worked is most often one whose password or
   * certificate is being changed: the secret is read anew for the next attempt, and the backup need not be sent on by a person.
   */
  async failureOf(error: unknown, deployment?: string): Promise<unknown> {
    if (!isLifeboatError(error)) return error;
    if (STORE_REFUSALS.has(error.kind) && this.#storesLetIn) {
      this.#options.commands.forget();
      return new LifeboatError('StoreAccessLapsed', error.message, { cause: error });
    }
    if (SOURCE_REFUSALS.has(error.kind) && deployment !== undefined && this.#letIn.has(deployment)) {
      this.#options.commands.forget();
      await this.closeSource(deployment);
      return new LifeboatError('AccessLapsed', error.message, { cause: error });
    }
    return error;
  }

  /** The machine that the heads of a deployment are on, for the checks. */
  machine(name: string): Machine {
    const dataDir = this.#dataDir.path;
    return { dataDir, heads: join(dataDir, 'heads', name), mongodFor: (version) => this.headMongodFor(version) };
  }

  /**
   * A source that nobody else uses, whom the caller closes.
   * @throws LifeboatError what openSource throws
   */
  async openSource(name: string): Promise<Source> {
    const { readFrom } = await this.deployment(name);
    const { env, commands } = this.#options;
    return openSource({ name, uri: await deploymentUri(await this.config(), name, env, commands), readFrom });
  }

  /** Where this daemon and the embedded servers keep their data. */
  get ownFolders(): readonly string[] {
    return [resolve(this.#options.home), this.#dataDir.path];
  }

  /** The path of a mongod that opens files of mongod `version`. */
  async mongodFor(version: string): Promise<string> {
    return mongodFor(version, (await this.config()).daemon.mongod, this.#options.env);
  }

  /** The same, of one that entries of mongod `version` are applied to. */
  async headMongodFor(version: string): Promise<string> {
    return headMongodFor(version, (await this.config()).daemon.mongod, this.#options.env);
  }

  arrivals(key: string): Arrivals {
    return kept(this.#arrivals, key, () => new Arrivals());
  }

  /** What the copy of a member hands to the building of its head. */
  freshSlices(key: string): FreshSlices {
    return kept(this.#freshSlices, key, () => new FreshSlices());
  }

  /** The progress of a member under that claim. */
  progress(member: MemberClaim): ProgressBoard {
    return kept(this.#progress, `${member.key} ${member.incarnation} ${member.epoch}`, () => {
      const fence = fenceOf(member);
      return new ProgressBoard((working) =>
        this.#quietly(async () => {
          const stores = await this.stores();
          const [first, ...alongside] = working;
          await updateMember(stores, fence, { progress: first ? { ...first, at: new Date() } : null, alongside });
        }),
      );
    });
  }

  troubles(deployment: string): TroubleBoard {
    return kept(
      this.#troubles,
      deployment,
      () =>
        new TroubleBoard((trouble) =>
          this.#quietly(async () => recordTrouble(await this.stores(), deployment, trouble)),
        ),
    );
  }

  /** Closes everything; afterwards another worker may take the data directory. */
  async close(): Promise<void> {
    await this.heads.closeAll();
    await Promise.all([...this.#sources.keys()].map((name) => this.closeSource(name)));
    await this.#stores?.stores.then((stores) => stores.close()).catch(() => undefined);
    this.#dataDir.release();
  }

  /** What people read is worth no failure: a store that does not answer shows in the work itself. */
  async #quietly(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      const code = isLifeboatError(error) ? error.code : undefined;
      this.logger.debug({ code }, 'the state of the work could not be written');
    }
  }
}

function kept<V>(map: Map<string, V>, key: string, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
