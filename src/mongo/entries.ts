/** Looking into raw oplog entries. */
import { BsonType, elementName, elements } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';

/** What places an entry in the oplog. */
export interface EntryPlace extends Position {
  /** Wall time of the server that wrote it. */
  readonly wall: Date;
}

/** The server's own mark (OpTime::kUninitializedTerm). */
const NO_TERM = -1;

/** A run of entries as it was read. */
export interface EntryRun {
  /** Concatenated raw entries. */
  readonly bytes: Buffer;
  readonly entries: number;
  readonly first: Position;
  readonly last: EntryPlace;
}

/**
 * Place of the entry at `offset`.
 * @throws LifeboatError `Internal` when the bytes are not an oplog entry
 */
export function entryPlace(buffer: Buffer, offset = 0): EntryPlace {
  let ts: Position['ts'] | undefined;
  let term: number | undefined;
  let wall: Date | undefined;
  for (const element of elements(buffer, offset)) {
    const at = element.valueStart;
    const name = elementName(buffer, element);
    if (name === 'ts' && element.type === BsonType.timestamp) {
      ts = { t: buffer.readUInt32LE(at + 4), i: buffer.readUInt32LE(at) };
    } else if (name === 't' && element.type === BsonType.int64) {
      term = Number(buffer.readBigInt64LE(at));
    } else if (name === 'wall' && element.type === BsonType.date) {
      wall = new Date(Number(buffer.readBigInt64LE(at)));
    }
    // The object of an entry can be 16 MB of any bytes: what was looked for usually stands before it.
    if (ts && term !== undefined && wall) return { ts, term, wall };
  }
  // The entry that initiates a set was written before there was a term.
  if (ts && wall) return { ts, term: term ?? NO_TERM, wall };
  throw new LifeboatError('Internal', 'bytes that are not an oplog entry');
}
