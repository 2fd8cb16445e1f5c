/** Oplog entries made by hand: what no server at hand writes, or not when it is wanted. */
import { serialize } from 'bson';
import { Long, type UUID, type Document } from 'mongodb';
import { toTimestamp } from '../../src/mongo/positions.ts';
import type { Position } from '../../src/shared/optime.ts';

/** Second in which the entries of a test are written. */
const SECOND = 1_700_000_000;

export function at(ordinal: number): Position {
  return { ts: { t: SECOND, i: ordinal }, term: 1 };
}

/** An entry as a server of 6.0 writes it; `fields` may add to it and take its place. */
export function entry(ordinal: number, fields: Document): Buffer {
  return Buffer.from(
    serialize({
      ...fields,
      ts: toTimestamp(at(ordinal).ts),
      t: Long.fromNumber(at(ordinal).term),
      v: Long.fromNumber(2),
      wall: new Date(SECOND * 1000 + ordinal),
    }),
  );
}

/** The fields of an entry of a session's transaction. */
export function inTransaction(session: UUID, number: number): Document {
  return { lsid: { id: session }, txnNumber: Long.fromNumber(number) };
}

export function insertOf(ns: string, ui: UUID, o: Document): Document {
  return { op: 'i', ns, ui, o, o2: { _id: o['_id'] } };
}

export function createOf(ns: string, ui: UUID): Document {
  const [db = '', ...name] = ns.split('.');
  return { op: 'c', ns: `${db}.$cmd`, ui, o: { create: name.join('.') } };
}
