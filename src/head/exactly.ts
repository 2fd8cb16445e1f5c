/** Storing documents byte by byte where others may be, by operations that are not all or nothing. */
import { BsonType, elements, findElement } from '../bson/raw.ts';
import { isCapped, type OpTarget } from './batch.ts';
import { LifeboatError } from '../shared/errors.ts';
import { booleanElement, document, element, elementBytes, stringElement } from './bytes.ts';
import { namespaceOf, type HeadCollection } from './catalog.ts';
import type { HeadConnection } from './connections.ts';
import type { OplogEntry } from './entry.ts';
import { anew, hasZeroTimestamp, isStoredAsGiven, zerosAgain } from './exact.ts';
import { succeeded } from './socket.ts';

/**
 * `entry`, and if it is an insert, what stores its bytes even where a document of that `_id` is; if it replaces a document,
 * what stores those.
 *
 * In a capped collection one that is there is the same, or of the future, and stays: a 4.4 takes nothing out of such a
 * collection (tried on 4.4.2: IllegalOperation).
 * @throws LifeboatError `HeadLost`, `HeadStrained` (retryable); `EntryNotSupported` of a replacement whose Timestamp(0,0)
 *   the head takes away and that cannot be put back (zerosAgain)
 */
export async function exactly(on: HeadConnection, target: OpTarget, entry: OplogEntry): Promise<readonly OplogEntry[]> {
  if (entry.op === 'u' && hasZeroTimestamp(entry.buffer, entry.oStart)) return replaced(on, entry);
  if (entry.op !== 'i' || isStoredAsGiven(entry.buffer, entry.oStart)) return [entry];
  if (!('db' in target) || !isCapped(target)) return anew(entry);
  return (await holdsId(on, target, entry)) ? [] : [entry];
}

async function replaced({ head, socket }: HeadConnection, entry: OplogEntry): Promise<readonly OplogEntry[]> {
  if (!(await head.takesZeros(socket))) return [entry];
  const again = zerosAgain(entry, head.takesDeltas);
  if (again) return [entry, again];
  const what = `a document of ${entry.ns} is replaced by one with a Timestamp(0,0) in a field that is there twice or has an odd name`;
  throw new LifeboatError('EntryNotSupported', `${head.label}: ${what}, and mongod ${head.version} takes it away`);
}

/** Whether the head has a document of the `_id` that `entry` inserts. */
async function holdsId(
  { head, socket }: HeadConnection,
  target: OpTarget & HeadCollection,
  entry: OplogEntry,
): Promise<boolean> {
  const id = findElement(entry.buffer, '_id', entry.oStart);
  if (!id) return false;
  const command = document(
    stringElement('find', target.name),
    element(BsonType.object, 'filter', document(elementBytes(entry.buffer, id))),
    booleanElement('singleBatch', true),
  );
  const reply = await socket.raw(target.db, command);
  head.refuseTrouble(reply);
  const { body } = succeeded(reply, `looking into ${namespaceOf(target)}`);
  const cursor = findElement(body, 'cursor');
  const batch = cursor && findElement(body, 'firstBatch', cursor.valueStart);
  return batch !== undefined && !elements(body, batch.valueStart).next().done;
}
