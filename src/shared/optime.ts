/**
 * Optimes and oplog positions.
 *
 * An *optime* is a BSON Timestamp, `{t, i}`: seconds since the epoch and an ordinal within that second. A *position*
 * is the optime together with the election term of the entry that carries it: two entries of one oplog never share an
 * optime, but after a rollback the same optime can come back under another term, so only both together name an entry.
 */
import { LifeboatError } from './errors.ts';

/** A BSON Timestamp as plain JSON: `t` in seconds since the epoch, `i` an ordinal; both unsigned 32-bit. */
export interface Optime {
  readonly t: number;
  readonly i: number;
}

/** The place of one oplog entry: its optime and the election term it was written in. */
export interface Position {
  readonly ts: Optime;
  readonly term: number;
}

/** Smaller than every optime a server writes. */
export const ZERO_OPTIME: Optime = { t: 0, i: 0 };

/** Negative when `a` is before `b`, 0 when equal, positive when after. */
export function compareOptimes(a: Optime, b: Optime): number {
  return a.t === b.t ? a.i - b.i : a.t - b.t;
}

export function maxOptime(a: Optime, b: Optime): Optime {
  return compareOptimes(a, b) >= 0 ? a : b;
}

export function minOptime(a: Optime, b: Optime): Optime {
  return compareOptimes(a, b) <= 0 ? a : b;
}

/** The one whose entry comes first. */
export function earlierPosition(a: Position, b: Position): Position {
  return compareOptimes(a.ts, b.ts) <= 0 ? a : b;
}

/** True when both name the same oplog entry: optime and term agree. */
export function samePosition(a: Position, b: Position): boolean {
  return a.term === b.term && compareOptimes(a.ts, b.ts) === 0;
}

/** `SECONDS,ORDINAL`, the form of the command line. */
export function formatOptime(optime: Optime): string {
  return `${optime.t},${optime.i}`;
}

/**
 * Reads `SECONDS,ORDINAL`.
 * @throws LifeboatError `BadOptime` when the text is not that.
 */
export function parseOptime(text: string): Optime {
  const match = /^(\d{1,10}),(\d{1,10})$/.exec(text);
  const [t, i] = [Number(match?.[1]), Number(match?.[2])];
  if (!match || t > 0xffffffff || i > 0xffffffff) {
    throw new LifeboatError('BadOptime', `"${text}" is not an optime`);
  }
  return { t, i };
}
