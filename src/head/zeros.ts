/**
 * Whether a server puts the time of day in place of a Timestamp(0,0) at the top of a document that an entry replaces.
 *
 * Some do, whoever replaces, whole or one by one (tried: 4.4.2 and 6.0.5 do, 5.0.32 and 6.0.27 do not). It is tried where
 * it matters: no list of versions would be whole, and putting back what was not taken may harm.
 */
import { Timestamp } from 'mongodb';
import { makeLocal } from './local.ts';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';

const TRIED = 'lifeboat.zeros';
const ZERO = new Timestamp({ t: 0, i: 0 });

/** Asks the server itself, in a collection of its `local` database that is there only meanwhile. */
export async function takesZeros(socket: HeadSocket): Promise<boolean> {
  const trying = 'trying how it stores a Timestamp(0,0)';
  await makeLocal(socket, TRIED);
  const ns = `local.${TRIED}`;
  const operations = [
    { op: 'i', ns, o: { _id: 1 } },
    { op: 'u', ns, o2: { _id: 1 }, o: { _id: 1, zero: ZERO } },
  ];
  const applied = await socket.command('admin', { applyOps: operations, allowAtomic: false, alwaysUpsert: false });
  succeeded(applied, trying);
  const read = replyValues(succeeded(await socket.command('local', { find: TRIED }), trying));
  const [stored] = (read['cursor'] as { firstBatch: { zero: Timestamp }[] }).firstBatch;
  succeeded(await socket.command('local', { drop: TRIED }), trying);
  return !stored?.zero.equals(ZERO);
}
