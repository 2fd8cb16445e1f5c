/**
 * Documents that an entry wanted to change and that the head does not have.
 *
 * On a head that was validated that is a divergence. Before that it is what the validation is there to find: the update is
 * passed over, and the document written down, durably before the head's position is behind the entry, to be fetched anew.
 */
import { Binary, Long } from 'mongodb';
import { uuidBinary } from '../mongo/uuid.ts';
import { document, elementBytes } from './bytes.ts';
import { findElement } from '../bson/raw.ts';
import { writeLocal } from './local.ts';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';

const MISSING = 'lifeboat.missing';

/** How many are read at a time. */
const AT_ONCE = 1_000;

export interface MissingDocument {
  /** Of the collection, hex. */
  readonly uuid: string;
  /** Raw `{_id}`. */
  readonly id: Buffer;
}

interface StoredMissing {
  readonly _id: { readonly uuid: Binary; readonly id: Binary };
}

/** `{_id}` of the document at `offset`, raw; undefined when it has none. */
export function idDocument(buffer: Buffer, offset: number): Buffer | undefined {
  const id = findElement(buffer, '_id', offset);
  return id && document(elementBytes(buffer, id));
}

function stored({ uuid, id }: MissingDocument): StoredMissing {
  return { _id: { uuid: uuidBinary(uuid), id: new Binary(id) } };
}

/** Writes documents down. Not journaled by itself: what is written behind it is not durable before it. */
export async function noteMissing(socket: HeadSocket, documents: readonly MissingDocument[]): Promise<void> {
  for (let at = 0; at < documents.length; at += AT_ONCE) {
    await writeLocal(socket, MISSING, documents.slice(at, at + AT_ONCE).map(stored), { journaled: false });
  }
}

/** Some of those that are written down. */
export async function readMissing(socket: HeadSocket): Promise<MissingDocument[]> {
  const command = { find: MISSING, limit: AT_ONCE, batchSize: AT_ONCE };
  let reply = succeeded(await socket.command('local', command), 'reading its list of missing documents');
  const found: MissingDocument[] = [];
  for (;;) {
    const { cursor } = replyValues(reply) as {
      cursor: { id: Long | number; firstBatch?: StoredMissing[]; nextBatch?: StoredMissing[] };
    };
    for (const { _id } of cursor.firstBatch ?? cursor.nextBatch ?? []) {
      found.push({ uuid: Buffer.from(_id.uuid.buffer).toString('hex'), id: Buffer.from(_id.id.buffer) });
    }
    if (Number(cursor.id) === 0) return found;
    const more = { getMore: Long.fromValue(cursor.id), collection: MISSING };
    reply = succeeded(await socket.command('local', more), 'reading its list of missing documents');
  }
}

/** Takes documents off the list: somebody else sees to them. */
export async function forgetMissing(socket: HeadSocket, documents: readonly MissingDocument[]): Promise<void> {
  if (documents.length === 0) return;
  const deletes = documents.map((one) => ({ q: stored(one), limit: 1 }));
  succeeded(await socket.command('local', { delete: MISSING, deletes }), 'writing its list of missing documents');
}
