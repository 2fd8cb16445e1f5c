/** A whole Lifeboat for a test: Temporal, stores, a source, and a worker in a process of its own. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client, WorkflowHandle } from '@temporalio/client';
import type { BackupStatus, Phase } from '../../src/shared/messages.ts';
import { backupWorkflowId, TASK_QUEUE } from '../../src/shared/names.ts';
import { openStores, type Stores } from '../../src/stores/connect.ts';
import { readStatus } from '../../src/status/backup-status.ts';
import type { backup } from '../../src/workflows/index.ts';
import type { PhaseAnswer } from '../../src/workflows/messages.ts';
import { testFolder } from './folders.ts';
import { startReplicaSet, until, type TestReplicaSet } from './replica-set.ts';
import { startTestTemporal } from './temporal.ts';
import { endHead, startWorker, type WorkerProcess, type WorkerSetting } from './worker.ts';

export interface LifeboatOptions {
  /** `limit.historyCount.suggestContinueAsNew`: how many events make a history long. */
  readonly longHistory?: number;
  /** How long one slice of work is, in milliseconds. */
  readonly sliceMs?: number;
  /** Lets tests set failpoints on the source. */
  readonly testCommands?: boolean;
  /** The mongod of the source and of its head, by path and major version; the one of the environment when left out. */
  readonly mongod?: { readonly path: string; readonly major: string };
  /** Members of the source's replica set; one when left out. */
  readonly sourceMembers?: number;
  /** Of each member of the source, such as `--oplogSize`. */
  readonly sourceArgs?: readonly string[];
  /** Given to the worker. */
  readonly env?: Readonly<Record<string, string>>;
  /** `pointInTime.window` of the deployment; the default of the product when left out. */
  readonly window?: string;
  /** `daemon.takeoverAfter` of every daemon. */
  readonly takeoverAfter?: string;
  /** Keys of the section `daemon` of the configuration, beside its id. */
  readonly daemon?: object;
  /** The section `limits` of the configuration. */
  readonly limits?: object;
}

/** A further daemon: a worker of its own, with its own home and data directory. */
export interface TestDaemon {
  readonly id: string;
  readonly home: string;
  readonly worker: () => WorkerProcess;
  readonly restart: () => Promise<WorkerProcess>;
}

export interface TestLifeboat extends AsyncDisposable {
  readonly client: Client;
  readonly temporalAddress: string;
  readonly temporalPid: number;
  readonly source: TestReplicaSet;
  readonly storeSet: TestReplicaSet;
  readonly stores: Stores;
  readonly folder: string;
  readonly setting: WorkerSetting;
  /** The worker that runs now. */
  worker(): WorkerProcess;
  /** Starts a worker again after it was killed or ended. */
  restartWorker(): Promise<WorkerProcess>;
  /** Writes the configuration: deployments by name, as URIs or as they stand in the file, and other sections. The worker sees it without a restart. */
  configure(deployments: Readonly<Record<string, string | object>>, more?: object): Promise<void>;
  /** Starts the worker of another daemon; it is ended with everything else. */
  startDaemon(id: string): Promise<TestDaemon>;
  startBackup(deployment: string): Promise<WorkflowHandle<typeof backup>>;
  status(deployment: string): Promise<BackupStatus>;
  untilPhase(deployment: string, phase: BackupStatus['phase'], timeoutMs?: number): Promise<BackupStatus>;
}

/** The deployment `shop`, whose source is the replica set `rs0`. */
export async function startLifeboat(options: LifeboatOptions = {}): Promise<TestLifeboat> {
  const stack = new AsyncDisposableStack();
  try {
    const { longHistory } = options;
    const dynamicConfig = longHistory === undefined ? {} : { 'limit.historyCount.suggestContinueAsNew': longHistory };
    const folder = stack.use(await testFolder()).path;
    // One after the other, each ended with the test from the moment it runs, also when the next one fails.
    const source = stack.use(
      await startReplicaSet({
        name: 'rs0',
        members: options.sourceMembers ?? 1,
        setParameters: { enableTestCommands: options.testCommands ?? false },
        ...(options.mongod ? { binary: options.mongod.path } : {}),
        extraArgs: options.sourceArgs ?? [],
      }),
    );
    const storeSet = stack.use(await startReplicaSet({ name: 'blocks' }));
    const temporal = stack.use(await startTestTemporal({ dynamicConfig }));
    const stores = await openStores({ blockstore: storeSet.uri });
    stack.defer(() => stores.close());
    const home = join(folder, 'home');
    await mkdir(home);
    const setting: WorkerSetting = {
      configFile: join(folder, 'lifeboat.yaml'),
      home,
      env: {
        ...temporal.env,
        LIFEBOAT_SLICE_MS: String(options.sliceMs ?? 3_000),
        ...options.env,
      },
    };
    const { window, takeoverAfter } = options;
    const pointInTime = window === undefined ? {} : { pointInTime: { window } };
    const daemonFiles = new Map([['test-daemon', setting.configFile]]);
    let writeFor: (id: string) => object = () => ({});
    const writeConfigs = async (): Promise<void> => {
      // JSON is YAML.
      for (const [id, file] of daemonFiles) await writeFile(file, JSON.stringify(writeFor(id)));
    };
    const configure: TestLifeboat['configure'] = async (deployments, more = {}) => {
      const entries = Object.entries(deployments).map(
        ([name, entry]) => [name, typeof entry === 'string' ? { uri: entry, ...pointInTime } : entry] as const,
      );
      writeFor = (id) => ({
        daemon: {
          id,
          ...(options.mongod ? { mongod: { [options.mongod.major]: options.mongod.path } } : {}),
          ...(takeoverAfter === undefined ? {} : { takeoverAfter }),
          ...options.daemon,
        },
        blockstore: { uri: storeSet.uri },
        deployments: Object.fromEntries(entries),
        ...(options.limits ? { limits: options.limits } : {}),
        ...more,
      });
      await writeConfigs();
    };
    await configure({ shop: source.uri });
    let worker = await startWorker(setting);
    stack.defer(() => endHead(home, 'shop', 'rs0'));
    stack.defer(async () => worker[Symbol.asyncDispose]());
    const { client } = temporal;
    const status = (deployment: string): Promise<BackupStatus> => readStatus(stores, deployment);
    const resources = stack.move();
    const startDaemon = async (id: string): Promise<TestDaemon> => {
      const own: WorkerSetting = {
        configFile: join(folder, `lifeboat-${id}.yaml`),
        home: join(folder, `home-${id}`),
        env: setting.env,
      };
      await mkdir(own.home);
      daemonFiles.set(id, own.configFile);
      await writeConfigs();
      let process = await startWorker(own);
      resources.defer(() => endHead(own.home, 'shop', 'rs0'));
      resources.defer(async () => process[Symbol.asyncDispose]());
      return {
        id,
        home: own.home,
        worker: () => process,
        async restart() {
          process = await startWorker(own);
          return process;
        },
      };
    };
    return {
      client,
      temporalAddress: temporal.address,
      temporalPid: temporal.pid,
      source,
      storeSet,
      stores,
      folder,
      setting,
      worker: () => worker,
      async restartWorker() {
        worker = await startWorker(setting);
        return worker;
      },
      configure,
      startDaemon,
      startBackup: (deployment) =>
        client.workflow.start<typeof backup>('backup', {
          workflowId: backupWorkflowId(deployment),
          taskQueue: TASK_QUEUE,
          args: [{ deployment }],
        }),
      status,
      async untilPhase(deployment, phase, timeoutMs = 60_000) {
        let last: BackupStatus | undefined;
        const reached = async (): Promise<boolean> => {
          last = await status(deployment).catch(() => undefined);
          return last?.phase === phase;
        };
        await until(reached, `${deployment} is ${phase}`, timeoutMs).catch((error: unknown) => {
          throw new Error(`${String(error)}; it is ${JSON.stringify(last)}`);
        });
        if (!last) throw new Error('no status');
        return last;
      },
      [Symbol.asyncDispose]: () => resources.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/** Sends an update to a backup; the phase that it answers. */
export async function command(
  handle: WorkflowHandle<typeof backup>,
  update: 'pause' | 'resume' | 'resync' | 'stop',
  input: { readonly reason?: string } = {},
): Promise<Phase> {
  const { phase } = await handle.executeUpdate<PhaseAnswer, [typeof input]>(update, { args: [input] });
  return phase;
}
