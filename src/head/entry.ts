/**
 * An oplog entry as places in the bytes it came in (oplog_entry.idl; research, mongodb-internals §1). Nothing is decoded
 * but what says where the entry belongs; the operations inside a transaction have the same shape without a position.
 */
import { BsonType, documentLength, valueEnd } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { formatOptime, type Position } from '../shared/optime.ts';
import { entryFields, type EntryFieldName } from './entry-fields.ts';

export interface OplogEntry {
  readonly buffer: Buffer;
  /** Where the entry begins and ends in the buffer. */
  readonly start: number;
  readonly end: number;
  readonly op: string;
  readonly ns: string;
  /** UUID of the collection, hex; '' when the entry has none. */
  readonly ui: string;
  /** `o`, a document; both 0 when there is none. */
  readonly oStart: number;
  readonly oEnd: number;
  readonly o2Start: number;
  readonly o2End: number;
  /** An update that inserts when there is nothing to update. */
  readonly upsert: boolean;
  /** Seconds and ordinal of `ts`, and the term `t`. */
  readonly tsT: number;
  readonly tsI: number;
  readonly term: number;
  /** Milliseconds. */
  readonly wall: number;
  /** The raw value of `lsid`, which may hold more than an id; both 0 when there is none. */
  readonly lsidStart: number;
  readonly lsidEnd: number;
  /** -1 when there is none. */
  readonly txnNumber: bigint;
  /** 1: vectored inserts of 8.0, which have a session but are no transaction. */
  readonly multiOpType: number;
  /** Which fields it has: the bits of their places in `entryFields`. */
  readonly fields: number;
}

/** Each field's bit, and how its name is found: up to four bytes by the number that they make, longer ones by their text. */
interface FieldPlace {
  readonly name: EntryFieldName;
  readonly bit: number;
  /** Nearly always the one; of more, the others. */
  readonly type: number;
  readonly types: readonly number[];
}

const SHORT_NAME = 4;
const shortNames = new Map<number, FieldPlace>();
const longNames = new Map<string, FieldPlace>();
for (const [index, { name, types }] of entryFields.entries()) {
  const place: FieldPlace = { name, bit: 1 << index, type: types[0], types };
  if (name.length <= SHORT_NAME) {
    shortNames.set(
      Buffer.from(name, 'latin1').reduce((key, byte) => (key << 8) | byte, 0),
      place,
    );
  } else {
    longNames.set(name, place);
  }
}

/**
 * Finds the fields of the entry at `start`.
 * @param at the entry that it stands in, whose optime is named: an operation of a transaction has none of its own
 * @throws LifeboatError `UnknownEntry` when it has a field that no version has, or not of that type, or one twice
 */
export function parseEntry(buffer: Buffer, start: number, at?: OplogEntry): OplogEntry {
  const end = start + documentLength(buffer, start);
  const last = end - 1;
  let op = '';
  let ns = '';
  let ui = '';
  let oStart = 0;
  let oEnd = 0;
  let o2Start = 0;
  let o2End = 0;
  let upsert = false;
  let tsT = 0;
  let tsI = 0;
  let term = -1;
  let wall = 0;
  let lsidStart = 0;
  let lsidEnd = 0;
  let txnNumber = -1n;
  let multiOpType = 0;
  let fields = 0;
  let wrong = '';
  let next = start + 4;
  while (next < last) {
    const type = buffer[next] ?? 0;
    const name = next + 1;
    let value = name;
    let key = 0;
    for (;;) {
      const byte = buffer[value] ?? 0;
      value += 1;
      if (byte === 0) break;
      key = (key << 8) | byte;
    }
    next = valueEnd(buffer, type, value);
    const isShort = value - 1 - name <= SHORT_NAME;
    const field = isShort ? shortNames.get(key) : longNames.get(buffer.toString('latin1', name, value - 1));
    if (field === undefined) {
      wrong = `a field "${buffer.toString('utf8', name, value - 1)}" that is not known`;
      continue;
    }
    if (type !== field.type && !field.types.includes(type)) {
      wrong = `a field "${field.name}" of a type that is not known (${type})`;
      continue;
    }
    if ((fields & field.bit) !== 0) wrong = `the field "${field.name}" twice`;
    fields |= field.bit;
    switch (field.name) {
      case 'op':
        op = text(buffer, value);
        break;
      case 'ns':
        ns = text(buffer, value);
        break;
      case 'ui':
        ui = buffer.toString('hex', value + 5, next);
        break;
      case 'o':
        oStart = value;
        oEnd = next;
        break;
      case 'o2':
        o2Start = value;
        o2End = next;
        break;
      case 'b':
        upsert = buffer[value] === 1;
        break;
      case 'ts':
        tsI = buffer.readUInt32LE(value);
        tsT = buffer.readUInt32LE(value + 4);
        break;
      case 't':
        term = numberAt(buffer, type, value);
        break;
      case 'wall':
        wall = Number(buffer.readBigInt64LE(value));
        break;
      case 'lsid':
        lsidStart = value;
        lsidEnd = next;
        break;
      case 'txnNumber':
        txnNumber = BigInt(numberAt(buffer, type, value));
        break;
      case 'multiOpType':
        multiOpType = numberAt(buffer, type, value);
        break;
      default:
    }
  }
  if (next !== last) throw new LifeboatError('Internal', 'an oplog entry is not well-formed');
  const entry = {
    buffer,
    start,
    end,
    op,
    ns,
    ui,
    oStart,
    oEnd,
    o2Start,
    o2End,
    upsert,
    tsT,
    tsI,
    term,
    wall,
    lsidStart,
    lsidEnd,
    txnNumber,
    multiOpType,
    fields,
  };
  if (wrong !== '') throw new LifeboatError('UnknownEntry', `${describe(entry, at)} has ${wrong}`);
  return entry;
}

/**
 * An entry for a message: its optime, type and namespace, and nothing of its document.
 * @param at the entry that it stands in
 */
export function describe(entry: OplogEntry, at: OplogEntry = entry): string {
  const inside = at === entry ? '' : ' inside the entry';
  const kind = entry.op === 'c' ? `c ${commandName(entry)}` : entry.op;
  return `the operation "${kind}" on ${entry.ns}${inside} at ${formatOptime({ t: at.tsT, i: at.tsI })}`;
}

/** An operation of our own on one document, as if it had come as an entry; `o` is the document, or `{_id}` of one that goes. */
export function documentEntry(op: 'i' | 'd', o: Buffer): OplogEntry {
  return {
    buffer: o,
    start: 0,
    end: o.length,
    op,
    ns: '',
    ui: '',
    oStart: 0,
    oEnd: o.length,
    o2Start: 0,
    o2End: 0,
    upsert: false,
    tsT: 0,
    tsI: 0,
    term: 0,
    wall: 0,
    lsidStart: 0,
    lsidEnd: 0,
    txnNumber: -1n,
    multiOpType: 0,
    fields: 0,
  };
}

/** Place of the entry in the oplog. Operations inside a transaction have none of their own. */
export function positionOf(entry: OplogEntry): Position {
  return { ts: { t: entry.tsT, i: entry.tsI }, term: entry.term };
}

function text(buffer: Buffer, value: number): string {
  return buffer.toString('utf8', value + 4, value + 3 + buffer.readInt32LE(value));
}

/** A number of whatever type it has. */
function numberAt(buffer: Buffer, type: number, value: number): number {
  if (type === BsonType.int32) return buffer.readInt32LE(value);
  return type === BsonType.double ? buffer.readDoubleLE(value) : Number(buffer.readBigInt64LE(value));
}

/** The first field of a command entry's `o`: the name of the command. */
export function commandName(entry: OplogEntry): string {
  const { buffer, oStart, oEnd } = entry;
  if (oEnd - oStart <= 5) return '';
  return buffer.toString('utf8', oStart + 5, buffer.indexOf(0, oStart + 5));
}

/**
 * The operations of an `applyOps` entry, in their order.
 * @param at the entry that it stands in itself, if it does
 */
export function innerOperations(entry: OplogEntry, at: OplogEntry = entry): OplogEntry[] {
  const { buffer, oStart } = entry;
  const inner: OplogEntry[] = [];
  const array = buffer.indexOf(0, oStart + 5) + 1;
  const end = array + documentLength(buffer, array) - 1;
  for (let next = array + 4; next < end;) {
    const value = buffer.indexOf(0, next + 1) + 1;
    const one = parseEntry(buffer, value, at);
    inner.push(one);
    next = one.end;
  }
  return inner;
}
