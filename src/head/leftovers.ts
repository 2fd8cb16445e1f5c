/** What the replay of entries over data of the future can leave on a head that no source has. */
import { namespaceOf } from './catalog.ts';
import type { OpenHead } from './open-head.ts';
import { dropScratch, scratchDatabase } from './scratch.ts';
import { succeeded } from './socket.ts';

/**
 * A server that makes or renames a collection moves one that has the name out of the way (create_collection.cpp,
 * rename_collection.cpp). One that is of the source gets a name of its own by a later entry; what is still called so at
 * the end was made by the head itself.
 */
const MOVED_AWAY = /^tmp[A-Za-z0-9]{5}\.(create|rename)$/;

/**
 * Removes it.
 * @param listed UUIDs of the source's collections: these stay, whatever they are called
 * @returns how many collections went
 */
export async function removeLeftovers(head: OpenHead, listed: ReadonlySet<string>): Promise<number> {
  const { socket, catalog } = head;
  const scratch = scratchDatabase(head);
  const triedOut = [...catalog.collections].filter(({ db }) => db === scratch);
  if (triedOut.length > 0) await dropScratch(head);
  const leftovers = [...catalog.collections].filter(({ uuid, name }) => !listed.has(uuid) && MOVED_AWAY.test(name));
  for (const collection of leftovers) {
    const reply = await socket.command(collection.db, { drop: collection.name });
    succeeded(reply, `removing ${namespaceOf(collection)}`);
    catalog.delete(collection.uuid);
  }
  return triedOut.length + leftovers.length;
}
