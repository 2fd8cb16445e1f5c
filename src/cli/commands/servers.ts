/** `lifeboat up`, `down` and `worker`. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { chooseTemporal } from '../../config/temporal.ts';
import { down, readUp, up, type UpState } from '../../embedded/up.ts';
import { LifeboatError } from '../../shared/errors.ts';
import type { CliContext } from '../context.ts';
import { show, type Outcome } from '../outcome.ts';
import { fields } from '../text.ts';

/**
 * Starts what is missing. Without `detach` it shows that, stays until it is interrupted, and then stops everything.
 */
export async function startUp(context: CliContext, detach: boolean): Promise<Outcome | undefined> {
  if (context.configFile !== undefined && (await makeFile(context.configFile))) {
    context.note(`Made ${context.configFile}, which was not there.`);
  }
  // Refused here, with its line, and not in the log of a worker that did not start.
  await context.config();
  const state = await up(context.home, { configFile: context.configFile, env: context.env });
  const outcome: Outcome = { result: state, text: upText(state) };
  if (detach) return outcome;
  const interrupted = context.interrupts.claim();
  show(outcome, context.json);
  context.note('Ctrl-C stops all of it.');
  await watchUntil(interrupted, context);
  context.note('Stopping ...');
  await down(context.home);
  return undefined;
}

const LOOK_EVERY_MS = 2_000;

/** Tells when the worker ends before it is told to. */
async function watchUntil(interrupted: AbortSignal, context: CliContext): Promise<void> {
  let told = false;
  for (;;) {
    await delay(LOOK_EVERY_MS, undefined, { signal: interrupted }).catch(() => undefined);
    if (interrupted.aborted) return;
    const gone = !(await readUp(context.home))?.worker;
    const log = join(context.home, 'logs', 'worker.log');
    if (gone && !told) context.note(`The worker has ended; see ${log}, and start it by \`lifeboat up\`.`);
    told = gone;
  }
}

/** `deployments add` fills it; until then the worker has nothing to follow. */
async function makeFile(file: string): Promise<boolean> {
  try {
    await (await open(file, 'wx')).close();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw new LifeboatError('ConfigMissing', `there is no file ${file}, and it cannot be made`, { cause: error });
  }
}

function upText({ temporal, blockstore, worker, home }: UpState): string {
  return fields([
    ['Temporal', `${temporal.address}, namespace ${temporal.namespace}`],
    ['web UI', temporal.ui],
    ['blockstore', blockstore.uri],
    ['worker', worker && `process ${worker.pid}`],
    ['home', home],
  ]);
}

/** Stops what runs; what it was is the answer. */
export async function stopUp(context: CliContext): Promise<Outcome> {
  const before = await readUp(context.home);
  await down(context.home);
  const { home } = context;
  return before
    ? { result: before, text: `Stopped what ran in ${home}; its state is kept.` }
    : { result: { temporal: null, blockstore: null, worker: null, home }, text: `Nothing runs in ${home}.` };
}

/** What the worker finds its servers by: where `up` of the home runs and is meant, that one's addresses. */
async function workerEnvironment({ home, homeGiven, env }: CliContext): Promise<NodeJS.ProcessEnv> {
  const running = await readUp(home);
  if (!running) return env;
  const withStore = { ...env, LIFEBOAT_BLOCKSTORE_URI: running.blockstore.uri };
  const { address, namespace } = chooseTemporal({ home, homeGiven, up: running.temporal, env });
  if (address !== running.temporal.address) return withStore;
  // A person's keys and profiles are for another server than the embedded one.
  const kept = Object.entries(withStore).filter(([name]) => !name.startsWith('TEMPORAL_'));
  return {
    ...Object.fromEntries(kept),
    TEMPORAL_ADDRESS: address,
    TEMPORAL_NAMESPACE: namespace,
    // The SDK passes over a file that is not there, and trips over an empty one.
    TEMPORAL_CONFIG_FILE: join(running.home, 'temporal.toml'),
  };
}

/** Runs a worker here until it is interrupted. Its log goes to standard error. */
export async function runWorkerHere(context: CliContext): Promise<Outcome> {
  const { home, configFile } = context;
  const signal = context.interrupts.claim();
  const { runWorker } = await import('../../worker.ts');
  await runWorker({ configFile, home, env: await workerEnvironment(context), signal });
  return { result: { home }, text: '' };
}
