/** The database of a head in which a server is asked what it makes of something. */
import type { OpenHead } from './open-head.ts';
import { succeeded } from './socket.ts';

/**
 * It is on the head alone, and only while something is tried out in it. No source has one of this name: the id in it was
 * made for this initial sync.
 */
export function scratchDatabase({ record }: OpenHead): string {
  return `lifeboat_${record.identity.incarnation}`;
}

/** Removes it, whether this attempt left something in it or one that was cut short, which the catalog then lists. */
export async function dropScratch(head: OpenHead): Promise<void> {
  const scratch = scratchDatabase(head);
  succeeded(await head.socket.command(scratch, { dropDatabase: 1 }), 'dropping the scratch database');
  head.catalog.deleteDatabase(scratch);
}
