/** Heads on this daemon's disk that another daemon has taken over while this one was away. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Stores } from '../stores/connect.ts';
import type { Heads } from './heads.ts';

/**
 * Looks at each head in `dataDir` and lets go of those that are another daemon's now. Nothing is written to a head by
 * that, and a claim that comes back finds either the head or nothing, and makes it again.
 */
export async function leaveTakenOver(heads: Heads, stores: Stores, dataDir: string, logger: Logger): Promise<void> {
  for (const head of await headsIn(dataDir)) {
    const became = await heads.leave(stores, head);
    if (became === 'removed') logger.info({ ...head }, 'another daemon has taken over this head; it was removed here');
  }
}

/** The heads that have a directory, by the names of the folders. */
export async function headsIn(
  dataDir: string,
): Promise<readonly { readonly deployment: string; readonly member: string }[]> {
  const root = join(dataDir, 'heads');
  const found: { readonly deployment: string; readonly member: string }[] = [];
  for (const deployment of await readdir(root).catch(() => [])) {
    for (const member of await readdir(join(root, deployment)).catch(() => [])) found.push({ deployment, member });
  }
  return found;
}
