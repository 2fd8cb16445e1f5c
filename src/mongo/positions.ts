/** Optimes and positions between their JSON shape and the one that is stored and sent to servers. */
import { Long, Timestamp } from 'mongodb';
import type { Optime, Position } from '../shared/optime.ts';
import type { StoredPosition } from '../stores/records.ts';

export function toTimestamp(optime: Optime): Timestamp {
  return new Timestamp({ t: optime.t, i: optime.i });
}

export function fromTimestamp(timestamp: Timestamp): Optime {
  return { t: timestamp.t, i: timestamp.i };
}

export function toStoredPosition(position: Position): StoredPosition {
  return { ts: toTimestamp(position.ts), t: Long.fromNumber(position.term) };
}

/** Takes `t` as whatever number type the driver made of it. */
export function fromStoredPosition(stored: { readonly ts: Timestamp; readonly t: Long | number | bigint }): Position {
  return { ts: fromTimestamp(stored.ts), term: Number(stored.t) };
}
