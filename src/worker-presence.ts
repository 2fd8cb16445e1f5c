/** A daemon's record in the stores, for as long as its worker runs. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Daemon } from './activities/daemon.ts';
import { isLifeboatError } from './shared/errors.ts';
import { commandLineOf } from './host/processes.ts';
import { DAEMON_HEARTBEAT_MS, registerDaemon, touchDaemon } from './stores/daemons.ts';

export class Presence {
  readonly #daemon: Daemon;
  readonly #process = randomUUID();
  #registered = false;

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
  }

  /**
   * Registers the daemon. Stores that do not answer yet are waited for later.
   * @throws LifeboatError when a store refuses the daemon: that does not pass by itself
   */
  async begin(): Promise<void> {
    try {
      await this.#tell();
    } catch (error) {
      if (!isLifeboatError(error) || !error.retryable) throw error;
      this.#daemon.logger.warn({ code: error.code }, error.message);
    }
  }

  /**
   * Says every few seconds that the daemon is there, and looks for heads that are no longer its own, until `signal` is
   * aborted.
   * @throws LifeboatError `DaemonIdTaken` when another worker has taken its id meanwhile: this one is to end
   */
  async keep(signal: AbortSignal): Promise<void> {
    // Apart from each other: a head that is long in ending must not make its daemon one that is silent.
    await Promise.all([
      this.#again(signal, 'the daemon could not say that it is there', () => this.#tell()),
      this.#again(signal, 'the daemon could not look for heads that are no longer its own', () => this.#tidy()),
    ]);
  }

  async #again(signal: AbortSignal, failure: string, work: () => Promise<void>): Promise<void> {
    while (await waited(signal)) {
      try {
        await work();
      } catch (error) {
        if (isLifeboatError(error, 'DaemonIdTaken')) {
          this.#daemon.logger.error({ code: error.code }, `${error.message}; this worker ends`);
          throw error;
        }
        const code = isLifeboatError(error) ? error.code : undefined;
        this.#daemon.logger.warn({ code }, failure);
      }
    }
  }

  /** A daemon that was away for long finds here what was taken over or purged meanwhile. */
  async #tidy(): Promise<void> {
    await this.#daemon.leaveTakenOver();
    await this.#daemon.discardHeads();
  }

  async #tell(): Promise<void> {
    const { id } = this.#daemon;
    const stores = await this.#daemon.stores();
    if (this.#registered) return touchDaemon(stores, { id, process: this.#process });
    const identity = {
      id,
      host: hostname(),
      pid: process.pid,
      process: this.#process,
      version: await packageVersion(),
    };
    await registerDaemon(stores, identity, async (pid) => (await commandLineOf(pid)) === undefined);
    this.#registered = true;
  }
}

/** True after the time between two heartbeats, false as soon as `signal` is aborted. */
async function waited(signal: AbortSignal): Promise<boolean> {
  return delay(DAEMON_HEARTBEAT_MS, true, { signal }).catch(() => false);
}

/** The package's file lies beside `src` and beside `dist`. */
async function packageVersion(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
