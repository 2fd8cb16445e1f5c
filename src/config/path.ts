/** Which file is the configuration. */
import { resolve } from 'node:path';

const DEFAULT_CONFIG_FILE = 'lifeboat.yaml';

/** `file` must be there; without it the default one of the working directory, which need not be. */
export interface ConfigChoice {
  readonly file?: string | undefined;
  readonly cwd?: string | undefined;
}

/** Absolute path of the file that is chosen. */
export function configPath({ file = DEFAULT_CONFIG_FILE, cwd = process.cwd() }: ConfigChoice): string {
  return resolve(cwd, file);
}
