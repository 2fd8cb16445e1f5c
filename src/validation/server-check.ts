/** The server's own check of a collection: `validate`. */
import type { HeadCollection } from '../head/catalog.ts';
import type { HeadConnection } from '../head/connections.ts';
import { replyValues } from '../head/socket.ts';
import { isSound } from '../mongo/validate-reply.ts';

const NAMESPACE_NOT_FOUND = 26;

/**
 * Reads all of a collection and of its indexes. Nothing is applied meanwhile, and it cannot be ended early.
 * @returns what the server says; a collection that it cannot check is damaged. Its texts may quote documents, and stay here
 * @throws LifeboatError `HeadLost`, `DiskFull` (retryable)
 */
export async function checkCollection(
  { head, socket }: HeadConnection,
  { db, name }: HeadCollection,
): Promise<'sound' | 'damaged' | 'gone'> {
  const reply = await socket.command(db, { validate: name });
  if (reply.code === NAMESPACE_NOT_FOUND) return 'gone';
  if (!reply.ok) head.refuseTrouble(reply);
  return reply.ok && isSound(replyValues(reply)) ? 'sound' : 'damaged';
}
