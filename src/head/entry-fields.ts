/**
 * Every field that an oplog entry has, from MongoDB 4.4 to 8.x. A field that is not here, or that the head's version does
 * not know, may change what the entry means: it stops the backup.
 *
 * Sources, each by a short name in `source`: the server's own `src/mongo/db/repl/oplog_entry.idl`, whose parser refuses
 * what it does not name ("idl", read at a commit of the 6.1 and one of the 8.2 line); `oplog_entry.h` of the 8.3 line
 * ("h 8.3"); `tried`: which fields the parsers of 4.4.2, 5.0.32, 6.0.5 and 6.0.27 take (test/oplog-table.test.ts).
 */
import { BsonType } from '../bson/raw.ts';

/** A series of versions, as `x.y`. */
export type Series = `${number}.${number}`;

/**
 * `read`: it says what is to be done, or where the entry belongs.
 * `none`: it changes nothing on a server that stands alone and replays.
 * `stop`: it is known, and what it asks for cannot be done.
 */
export type FieldEffect = 'read' | 'none' | 'stop';

export interface EntryField {
  readonly name: string;
  /** The BSON types that its value has. */
  readonly types: readonly number[];
  readonly effect: FieldEffect;
  /** The first series that writes it; 4.4 when it is older. */
  readonly since: Series;
  readonly what: string;
  readonly source: string;
}

const { binary, boolean, date, int32, int64, object, string, timestamp } = BsonType;
const NUMBERS = [int64, int32, BsonType.double];
const ANY = Object.values(BsonType);

/** No more than 31: an entry's fields are the bits of a number. */
export const entryFields = [
  {
    name: 'op',
    types: [string],
    effect: 'read',
    since: '4.4',
    what: 'The kind of the entry.',
    source: 'idl, tried',
  },
  {
    name: 'ns',
    types: [string],
    effect: 'read',
    since: '4.4',
    what: 'The namespace. The UUID counts more, where there is one.',
    source: 'idl, tried',
  },
  {
    name: 'ui',
    types: [binary],
    effect: 'read',
    since: '4.4',
    what: 'UUID of the collection.',
    source: 'idl, tried',
  },
  {
    name: 'o',
    types: [object],
    effect: 'read',
    since: '4.4',
    what: 'The document, the change, the `_id` that goes, or the command.',
    source: 'idl, tried',
  },
  {
    name: 'o2',
    types: [object],
    effect: 'read',
    since: '4.4',
    what: 'Which document an update changes; of a command, what was there before.',
    source: 'idl, tried',
  },
  {
    name: 'b',
    types: [boolean],
    effect: 'read',
    since: '4.4',
    what: 'The update inserts when there is nothing to update.',
    source: 'idl, tried',
  },
  {
    name: 'ts',
    types: [timestamp],
    effect: 'read',
    since: '4.4',
    what: 'The optime.',
    source: 'idl, tried',
  },
  {
    name: 't',
    types: NUMBERS,
    effect: 'read',
    since: '4.4',
    what: "The term: whose primary's entry it is.",
    source: 'idl, tried',
  },
  {
    name: 'v',
    types: NUMBERS,
    effect: 'none',
    since: '4.4',
    what: 'Version of the format, 2 for all of these.',
    source: 'idl, tried',
  },
  {
    name: 'wall',
    types: [date],
    effect: 'read',
    since: '4.4',
    what: 'Time of day of the primary.',
    source: 'idl, tried',
  },
  {
    name: 'lsid',
    types: [object],
    effect: 'read',
    since: '4.4',
    what: 'The session, by which the entries of a transaction are told from others.',
    source: 'idl, tried',
  },
  {
    name: 'txnNumber',
    types: NUMBERS,
    effect: 'read',
    since: '4.4',
    what: 'Number of the transaction, or of the retryable write, in its session.',
    source: 'idl, tried',
  },
  {
    name: 'multiOpType',
    types: NUMBERS,
    effect: 'read',
    since: '8.0',
    what: '1: an `applyOps` with a session that is a retryable insert of many, and no transaction.',
    source: 'idl 8.2, mongo-tools `common/txn/meta.go`',
  },
  {
    name: 'h',
    types: NUMBERS,
    effect: 'none',
    since: '4.4',
    what: 'A hash that servers up to 4.0 wrote.',
    source: 'idl, tried; gone in 8.2',
  },
  {
    name: '_id',
    types: ANY,
    effect: 'none',
    since: '4.4',
    what: 'Of entries that a sharded cluster keeps elsewhere while it reshards.',
    source: 'idl, tried',
  },
  {
    name: 'stmtId',
    types: [int32, BsonType.array],
    effect: 'none',
    since: '4.4',
    what: 'Statement of a retryable write, or several.',
    source: 'idl, tried',
  },
  {
    name: 'prevOpTime',
    types: [object],
    effect: 'none',
    since: '4.4',
    what: 'The entry before it in its session.',
    source: 'idl, tried',
  },
  {
    name: 'preImageOpTime',
    types: [object],
    effect: 'none',
    since: '4.4',
    what: 'The `n` entry with the document as it was before, for a retry of `findAndModify` or a change stream.',
    source: 'idl, tried',
  },
  {
    name: 'postImageOpTime',
    types: [object],
    effect: 'none',
    since: '4.4',
    what: 'The same of the document as it is afterwards.',
    source: 'idl, tried',
  },
  {
    name: 'needsRetryImage',
    types: [string],
    effect: 'none',
    since: '4.4',
    what: 'A member is to keep an image in `config.image_collection`, which is no part of a backup.',
    source: 'idl, tried; not in 4.4.2, backported to later ones',
  },
  {
    name: 'fromMigrate',
    types: [boolean],
    effect: 'none',
    since: '4.4',
    what: 'Hidden from change streams: it moves data and does not change it.',
    source: 'idl, tried',
  },
  {
    name: 'fromTenantMigration',
    types: [binary],
    effect: 'none',
    since: '5.0',
    what: 'Of a migration between serverless deployments.',
    source: 'idl 6.1, tried; gone in 8.2',
  },
  {
    name: 'destinedRecipient',
    types: [string],
    effect: 'none',
    since: '5.0',
    what: 'The shard that the document goes to when resharding is done.',
    source: 'idl, tried',
  },
  {
    name: 'checkExistenceForDiffInsert',
    types: [boolean],
    effect: 'none',
    since: '6.0',
    what: 'A secondary is to look whether a field is there already; the result is the same.',
    source: 'idl 8.2, tried; in 6.0.27, not in 6.0.5',
  },
  {
    name: 'tid',
    types: [BsonType.objectId],
    effect: 'stop',
    since: '6.0',
    what: 'The tenant of a serverless deployment: no head keeps tenants apart.',
    source: 'idl 6.1 and 8.2, tried',
  },
  {
    name: 'rid',
    types: ANY,
    effect: 'none',
    since: '8.0',
    what: 'Record id of a collection with `recordIdsReplicated`; a head gives its own.',
    source: 'idl 8.2',
  },
  {
    name: 'versionContext',
    types: [object],
    effect: 'none',
    since: '8.2',
    what: 'Feature compatibility that a catalog operation began with.',
    source: 'idl 8.2, h 8.3',
  },
  {
    name: 'm',
    types: ANY,
    effect: 'none',
    since: '8.3',
    what: 'By how much the size of the collection changes; a head counts by itself.',
    source: '`replicated_fast_count` of the 8.3 line',
  },
  {
    name: 'isTimeseries',
    types: [boolean],
    effect: 'stop',
    since: '8.3',
    what: 'Of a time-series collection without buckets of its own name, which a head does not make yet.',
    source: 'h 8.3',
  },
  {
    name: 'container',
    types: [string],
    effect: 'stop',
    since: '8.3',
    what: 'What a `ci`, `cu` or `cd` is about.',
    source: 'h 8.3',
  },
] as const satisfies readonly EntryField[];

export type EntryFieldName = (typeof entryFields)[number]['name'];

/** A series as a number that grows with it. */
export function seriesNumber(version: string): number {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major * 100 + minor;
}
