/** The stores as the command line sees them: to read from. */
import { setTimeout as delay } from 'node:timers/promises';
import { configuredStores, hostsOf } from '../config/uris.ts';
import { readUp } from '../embedded/up.ts';
import { isLifeboatError, LifeboatError } from '../shared/errors.ts';
import { openStores, type StoreUris, type Stores } from '../stores/connect.ts';
import type { CliContext } from './context.ts';

/** An answer, or that there is none, within ten seconds: the connection may hang where nothing refuses it. */
const ANSWER_TIMEOUT_MS = 9_500;

/**
 * Where the stores are: as the configuration says, else the embedded blockstore, else as the environment says, which
 * is what a worker goes by.
 * @throws LifeboatError `NoStore` when there is none; `SecretMissing`, `StoreBadUri`, what `loadConfig` throws
 */
export async function storeUris(context: CliContext): Promise<StoreUris> {
  const configured = await configuredStores(await context.config(), context.env);
  const blockstore =
    configured.blockstore ??
    (await readUp(context.home))?.blockstore.uri ??
    nonEmpty(context.env['LIFEBOAT_BLOCKSTORE_URI']);
  if (blockstore !== undefined) return { ...configured, blockstore };
  throw new LifeboatError(
    'NoStore',
    `${context.configPath} names no blockstore, and no \`lifeboat up\` runs in ${context.home}`,
  );
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/**
 * Opens the stores for as long as `use` runs, which is to be short.
 * @throws LifeboatError `NoStore`; `StoreUnavailable`, with the hosts; what `use` and `openStores` throw
 */
export async function withStores<T>(context: CliContext, use: (stores: Stores) => Promise<T>): Promise<T> {
  const uris = await storeUris(context);
  const answered = new AbortController();
  const late = delay(ANSWER_TIMEOUT_MS, undefined, { signal: answered.signal }).then(() => {
    throw unavailable(uris);
  });
  const work = openStores(uris, 'lifeboat cli').then(async (stores) => {
    try {
      return await use(stores);
    } finally {
      await stores.close();
    }
  });
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    // What lost the race is no longer of interest, however it ends.
    work.catch(() => undefined);
    throw isLifeboatError(error, 'StoreUnavailable') ? unavailable(uris, error) : error;
  } finally {
    late.catch(() => undefined);
    answered.abort();
  }
}

function unavailable({ blockstore, syncStore, oplogStore }: StoreUris, cause?: unknown): LifeboatError {
  const all = [blockstore, syncStore, oplogStore].flatMap((uri) => (uri === undefined ? [] : [hostsOf(uri)]));
  return new LifeboatError('StoreUnavailable', `the blockstore does not answer (${[...new Set(all)].join(', ')})`, {
    cause,
  });
}
