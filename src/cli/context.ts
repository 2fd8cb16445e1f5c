/** What every command is given: where it runs, what it was told for all commands, and how it is interrupted. */
import { resolve } from 'node:path';
import { configPath } from '../config/path.ts';
import type { Config } from '../config/schema.ts';
import { ExitCode } from './outcome.ts';
import { screenOf, type Screen } from './screen.ts';

export interface GlobalFlags {
  readonly config?: string | undefined;
  readonly home?: string | undefined;
  readonly json?: true | undefined;
}

export const DEFAULT_HOME = '.lifeboat';

export class CliContext {
  readonly env: NodeJS.ProcessEnv = process.env;
  readonly cwd: string = process.cwd();
  readonly json: boolean;
  /** Absolute. */
  readonly home: string;
  readonly homeGiven: boolean;
  /** Absolute path of what `--config` names, which must be there; undefined for the default file, which need not. */
  readonly configFile: string | undefined;
  readonly interrupts: Interrupts;
  #progress: Screen | undefined;

  constructor(flags: GlobalFlags, interrupts: Interrupts) {
    this.json = flags.json === true;
    this.home = resolve(this.cwd, flags.home ?? DEFAULT_HOME);
    this.homeGiven = flags.home !== undefined;
    this.configFile = flags.config === undefined ? undefined : configPath({ file: flags.config, cwd: this.cwd });
    this.interrupts = interrupts;
  }

  /** @throws LifeboatError `ConfigMissing`, `ConfigInvalid`, `NotBuiltYet` */
  async config(): Promise<Config> {
    const { loadConfig } = await import('../config/load.ts');
    return loadConfig({ file: this.configFile, cwd: this.cwd });
  }

  /** Absolute path of the configuration file, whether or not it is there. */
  get configPath(): string {
    return configPath({ file: this.configFile, cwd: this.cwd });
  }

  /** Where progress is shown: standard error, so that results can be piped on. */
  get progress(): Screen {
    return (this.#progress ??= screenOf(process.stderr, this.env));
  }

  /** Text for people, beside the result. */
  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }
}

/** A second Ctrl-C ends the process at once. One press can come twice: from the terminal, and from a parent process. */
const IMPATIENT_AFTER_MS = 500;

/** Ctrl-C and SIGTERM. */
export class Interrupts {
  readonly #controller = new AbortController();
  #claimed = false;
  #at = 0;

  constructor() {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => this.#interrupted());
  }

  #interrupted(): void {
    if (!this.#controller.signal.aborted) {
      this.#at = performance.now();
      this.#controller.abort();
    } else if (performance.now() - this.#at > IMPATIENT_AFTER_MS) {
      process.exit(ExitCode.interrupted);
    }
  }

  /** For a command that does something about an interrupt; any other is simply ended by it. */
  claim(): AbortSignal {
    this.#claimed = true;
    return this.#controller.signal;
  }

  /** Settles with true at an interrupt that no command wants to deal with. */
  unclaimed(): Promise<true> {
    return new Promise((settle) => {
      this.#controller.signal.addEventListener('abort', () => {
        if (!this.#claimed) settle(true);
      });
    });
  }
}
