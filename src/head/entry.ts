/**
 * An oplog entry as places in the bytes it came in (oplog_entry.idl; research, mongodb-internals §1). Nothing is decoded
 * but what says where the entry belongs; the operations inside a transaction have the same shape without a position.
 */
import { BsonType, documentLength } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { formatOptime, type Position } from '../shared/optime.ts';

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
}

/**
 * Fields that change nothing on a standalone that replays, or that only say where an entry comes from. A field that is
 * neither here nor read below may change what the entry means: it stops the backup.
 */
const WITHOUT_EFFECT = new Set([
  'v',
  'h',
  'stmtId',
  'prevOpTime',
  'preImageOpTime',
  'postImageOpTime',
  'needsRetryImage',
  'fromMigrate',
  'fromTenantMigration',
  'destinedRecipient',
  'donorTxnNumber',
  'checkExistenceForDiffInsert',
  'rid',
  'versionContext',
  'tid',
  '_id',
]);

/**
 * Finds the fields of the entry at `start`.
 * @throws LifeboatError `UnknownEntry` when it has a field that this version does not know
 */
export function parseEntry(buffer: Buffer, start: number): OplogEntry {
  const end = start + documentLength(buffer, start);
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
  let unknown = '';
  let at = start + 4;
  while (at < end - 1) {
    const type = buffer[at] ?? 0;
    const nameEnd = buffer.indexOf(0, at + 1);
    const name = buffer.toString('latin1', at + 1, nameEnd);
    const value = nameEnd + 1;
    const next = value + valueLength(buffer, type, value);
    switch (name) {
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
        term = Number(buffer.readBigInt64LE(value));
        break;
      case 'wall':
        wall = Number(buffer.readBigInt64LE(value));
        break;
      case 'lsid':
        lsidStart = value;
        lsidEnd = next;
        break;
      case 'txnNumber':
        txnNumber = buffer.readBigInt64LE(value);
        break;
      case 'multiOpType':
        multiOpType = buffer.readInt32LE(value);
        break;
      default:
        if (!WITHOUT_EFFECT.has(name)) unknown = name;
    }
    at = next;
  }
  if (at !== end - 1) throw new LifeboatError('Internal', 'an oplog entry is not well-formed');
  if (unknown !== '') {
    const where = formatOptime({ t: tsT, i: tsI });
    throw new LifeboatError(
      'UnknownEntry',
      `the entry at ${where} on ${ns} has a field "${unknown}" that is not known`,
    );
  }
  return {
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
  };
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
  };
}

/** Place of the entry in the oplog. Operations inside a transaction have none of their own. */
export function positionOf(entry: OplogEntry): Position {
  return { ts: { t: entry.tsT, i: entry.tsI }, term: entry.term };
}

function text(buffer: Buffer, value: number): string {
  return buffer.toString('utf8', value + 4, value + 3 + buffer.readInt32LE(value));
}

/** Lengths of the types that stand at the top of an entry; a faster twin of what bson/raw.ts knows of all types. */
function valueLength(buffer: Buffer, type: number, value: number): number {
  switch (type) {
    case BsonType.string:
      return 4 + buffer.readInt32LE(value);
    case BsonType.object:
    case BsonType.array:
      return buffer.readInt32LE(value);
    case BsonType.binary:
      return 5 + buffer.readInt32LE(value);
    case BsonType.timestamp:
    case BsonType.int64:
    case BsonType.date:
    case BsonType.double:
      return 8;
    case BsonType.int32:
      return 4;
    case BsonType.boolean:
      return 1;
    case BsonType.objectId:
      return 12;
    case BsonType.null:
      return 0;
    default:
      throw new LifeboatError('Internal', 'an oplog entry holds a type of value that none has');
  }
}

/** The first field of a command entry's `o`: the name of the command. */
export function commandName(entry: OplogEntry): string {
  const { buffer, oStart, oEnd } = entry;
  if (oEnd - oStart <= 5) return '';
  return buffer.toString('utf8', oStart + 5, buffer.indexOf(0, oStart + 5));
}

/** The operations of an `applyOps` entry, in their order. */
export function innerOperations(entry: OplogEntry): OplogEntry[] {
  const { buffer, oStart } = entry;
  const inner: OplogEntry[] = [];
  const array = buffer.indexOf(0, oStart + 5) + 1;
  const end = array + documentLength(buffer, array) - 1;
  for (let at = array + 4; at < end;) {
    const value = buffer.indexOf(0, at + 1) + 1;
    const one = parseEntry(buffer, value);
    inner.push(one);
    at = one.end;
  }
  return inner;
}
