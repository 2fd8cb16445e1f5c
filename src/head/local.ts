/**
 * Writing what a head keeps for itself in its `local` database.
 *
 * A server from 5.0 on takes no notice of `j: true` in a write to `local` (6.0.5: each of eight such writes was lost when
 * the mongod was killed right after its answer, and none of eight by `applyOps`, which is a command on `admin`; 4.4.2 does
 * take notice). So all that must be durable goes by `applyOps`.
 */
import type { Document } from 'mongodb';
import { succeeded, type HeadSocket } from './socket.ts';

export const LOCAL_COLLECTIONS = ['lifeboat.state', 'lifeboat.load', 'lifeboat.indexes', 'lifeboat.missing'] as const;
export type LocalCollection = (typeof LOCAL_COLLECTIONS)[number];

const NAMESPACE_EXISTS = 48;

/** `applyOps` makes no collections. */
export async function makeLocalCollections(socket: HeadSocket): Promise<void> {
  for (const name of LOCAL_COLLECTIONS) await makeLocal(socket, name);
}

/** Makes a collection of `local` unless it is there. */
export async function makeLocal(socket: HeadSocket, name: string): Promise<void> {
  const reply = await socket.command('local', { create: name });
  if (reply.code !== NAMESPACE_EXISTS) succeeded(reply, `making local.${name}`);
}

/**
 * Writes records in place of those of the same `_id`.
 * @param options with `journaled` they, and everything that was written before, are durable when this settles
 */
export async function writeLocal(
  socket: HeadSocket,
  collection: LocalCollection,
  records: readonly Document[],
  options: { readonly journaled: boolean },
): Promise<void> {
  const command = {
    applyOps: records.map((o) => ({ op: 'i', ns: `local.${collection}`, o })),
    allowAtomic: false,
    alwaysUpsert: false,
    writeConcern: { w: 1, j: options.journaled },
  };
  succeeded(await socket.command('admin', command), `writing local.${collection}`);
}
