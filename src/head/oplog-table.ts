/**
 * Every kind of oplog entry that MongoDB 4.4 to 8.x writes, and what becomes of it here: data alone. What is not in it
 * stops the backup (known-entries.ts). docs/oplog-entries.md is printed from it.
 *
 * Sources, each by a short name in `source`: "oplog.cpp", the server's own list of what it applies (opsMap, read in the
 * 4.2, 6.x, 7.x and 8.2 lines); "idl", `oplog_entry.idl`, whose parser refuses every kind that it does not name (6.1 and
 * 8.2); `tried`: which of them the parsers of 4.4.2, 5.0.32, 6.0.5 and 6.0.27 take (test/oplog-table.test.ts);
 * "mongorestore", its lists of what it applies, passes over and refuses (`mongorestore/oplog.go`).
 */
import type { Series } from './entry-fields.ts';

/**
 * `crud`: applied as it is, many at a time.
 * `operations`: an `applyOps`; its operations are applied, at once or when its transaction commits.
 * `commit`, `abort`: decide a transaction.
 * `command`: applied as it is, alone.
 * `index`: translated: an index is built, changed or dropped by a command of its own.
 * `ignore`: it has no effect on data that a backup holds; only its optime counts.
 * `stop`: it cannot be replayed.
 */
export type EntryAction = 'crud' | 'operations' | 'commit' | 'abort' | 'command' | 'index' | 'ignore' | 'stop';

export interface EntryKind {
  readonly action: EntryAction;
  /** The first series whose servers know it; 4.4 when it is older. */
  readonly since: Series;
  /** The last one, where it is gone from a later. */
  readonly until?: Series;
  /** What it is, and what is done. */
  readonly what: string;
  readonly source: string;
}

export interface CommandKind extends EntryKind {
  /**
   * The fields of its `o` beside its name, each with the first series that writes it. Of commands without, `o` is looked
   * at by nobody, or holds names of a user's choice.
   */
  readonly fields?: Readonly<Record<string, Series>>;
}

/** By `op`; `c` has a table of its own. */
export const operationKinds: Readonly<Record<string, EntryKind>> = {
  i: {
    action: 'crud',
    since: '4.4',
    what: 'A document is inserted. It is stored with the bytes that it has.',
    source: 'idl, tried',
  },
  u: {
    action: 'crud',
    since: '4.4',
    what: 'A document is changed by operators (`$v: 1`, up to 4.4), by a difference (`$v: 2`), or replaced. One that is not there is a divergence.',
    source: 'idl, tried',
  },
  d: { action: 'crud', since: '4.4', what: 'A document is deleted.', source: 'idl, tried' },
  n: {
    action: 'ignore',
    since: '4.4',
    what: 'Nothing happens: the mark of an idle set or a new primary, a note, an image for a retry.',
    source: 'idl, tried',
  },
  xi: {
    action: 'stop',
    since: '6.1',
    until: '8.0',
    what: 'A key of a global index is inserted. Behind a feature flag, never released.',
    source: 'idl 6.1; gone in 8.2',
  },
  xd: {
    action: 'stop',
    since: '6.1',
    until: '8.0',
    what: 'A key of a global index is deleted. Behind a feature flag, never released.',
    source: '`oplog_entry.h` of the 6.2 line; gone in 8.2',
  },
  km: {
    action: 'ignore',
    since: '8.3',
    what: 'Which keys of an index are multikey: each server finds that out by itself.',
    source: 'mongorestore',
  },
  ci: {
    action: 'stop',
    since: '8.3',
    what: "Something is inserted into a table of the storage engine's that is no collection.",
    source: '`container_oplog_entry.idl`',
  },
  cu: {
    action: 'stop',
    since: '8.3',
    what: 'Something in such a table is changed.',
    source: '`container_oplog_entry.idl`',
  },
  cd: {
    action: 'stop',
    since: '8.3',
    what: 'Something in such a table is deleted.',
    source: '`container_oplog_entry.idl`',
  },
};

/** What an `applyOps` of a person can hold besides: it is logged as it was sent (apply_ops.cpp). */
const OF_APPLY_OPS = {
  partialTxn: '4.4',
  prepare: '4.4',
  count: '4.4',
  allowAtomic: '4.4',
  alwaysUpsert: '4.4',
  bypassDocumentValidation: '4.4',
  writeConcern: '4.4',
  lsid: '4.4',
  txnNumber: '4.4',
  comment: '4.4',
  maxTimeMS: '4.4',
  readConcern: '4.4',
  apiVersion: '5.0',
  apiStrict: '5.0',
  apiDeprecationErrors: '5.0',
} as const;

/** Options of a collection (collection_options.cpp, create.idl). */
const OF_CREATE = {
  capped: '4.4',
  size: '4.4',
  max: '4.4',
  autoIndexId: '4.4',
  flags: '4.4',
  temp: '4.4',
  storageEngine: '4.4',
  indexOptionDefaults: '4.4',
  validator: '4.4',
  validationLevel: '4.4',
  validationAction: '4.4',
  collation: '4.4',
  viewOn: '4.4',
  pipeline: '4.4',
  recordPreImages: '4.4',
  idIndex: '4.4',
  expireAfterSeconds: '5.0',
  clusteredIndex: '5.0',
  timeseries: '5.0',
  changeStreamPreAndPostImages: '6.0',
  encryptedFields: '6.0',
  recordIdsReplicated: '8.0',
} as const;

/** Of coll_mod.idl. Arguments that any command takes are not logged (coll_mod.cpp, parseCollModRequest). */
const OF_COLL_MOD = {
  index: '4.4',
  validator: '4.4',
  validationLevel: '4.4',
  validationAction: '4.4',
  viewOn: '4.4',
  pipeline: '4.4',
  recordPreImages: '4.4',
  noPadding: '4.4',
  usePowerOf2Sizes: '4.4',
  expireAfterSeconds: '5.0',
  timeseries: '5.0',
  clusteredIndex: '5.0',
  isTimeseriesNamespace: '5.0',
  timeseriesBucketsMayHaveMixedSchemaData: '5.0',
  changeStreamPreAndPostImages: '6.0',
  cappedSize: '6.0',
  cappedMax: '6.0',
  collectionUUID: '6.0',
  _removeLegacyTimeseriesBucketingParametersHaveChanged: '7.1',
} as const;

const OF_INDEX_BUILD = { indexBuildUUID: '4.4', indexes: '4.4', cause: '4.4' } as const;

/** One index; the whole database's way of saying it in 4.4 had a key pattern too. */
const OF_DROP_INDEXES = { index: '4.4' } as const;

/** By the first field of `o`, of entries whose `op` is `c`. */
export const commandKinds: Readonly<Record<string, CommandKind>> = {
  create: {
    action: 'command',
    since: '4.4',
    what: 'A collection is made, with the UUID that it has; a `temp` is left out, because a standalone drops those at its start.',
    source: 'oplog.cpp, tried',
    fields: OF_CREATE,
  },
  drop: {
    action: 'command',
    since: '4.4',
    what: 'The collection of that UUID is dropped, under the name it has on the head.',
    source: 'oplog.cpp, tried',
    fields: {},
  },
  dropDatabase: {
    action: 'command',
    since: '4.4',
    what: 'A database goes, after an entry for each of its collections.',
    source: 'oplog.cpp, tried',
    fields: {},
  },
  renameCollection: {
    action: 'command',
    since: '4.4',
    what: 'A collection gets another name in its database. One that changes the database is logged as `create`, inserts, this and `drop`.',
    source: 'oplog.cpp, tried',
    fields: { to: '4.4', stayTemp: '4.4', dropTarget: '4.4' },
  },
  collMod: {
    action: 'command',
    since: '4.4',
    what: 'Options of a collection, a view or an index change; those of an index that is yet to be built, where it is noted.',
    source: 'oplog.cpp, tried',
    fields: OF_COLL_MOD,
  },
  emptycapped: {
    action: 'command',
    since: '4.4',
    until: '8.0',
    what: 'A capped collection is emptied. A command for tests writes it.',
    source: 'oplog.cpp, op_observer_impl.cpp, tried; gone from idl 8.2',
    fields: {},
  },
  createIndexes: {
    action: 'index',
    since: '4.4',
    what: 'An index of an empty collection, or of one that its transaction made, is built.',
    source: 'oplog.cpp, tried',
  },
  startIndexBuild: {
    action: 'ignore',
    since: '4.4',
    what: 'An index build begins. It is in no listing until it commits.',
    source: 'oplog.cpp, tried',
  },
  commitIndexBuild: {
    action: 'index',
    since: '4.4',
    what: 'The indexes of a build are there from now on, and are built.',
    source: 'oplog.cpp, tried',
    fields: OF_INDEX_BUILD,
  },
  abortIndexBuild: {
    action: 'ignore',
    since: '4.4',
    what: 'An index build was given up; nothing was made of it here.',
    source: 'oplog.cpp, tried',
  },
  dropIndexes: {
    action: 'index',
    since: '4.4',
    what: 'An index is dropped, or taken from those that are yet to be built.',
    source: 'oplog.cpp, tried',
    fields: OF_DROP_INDEXES,
  },
  deleteIndexes: {
    action: 'index',
    since: '4.4',
    until: '8.0',
    what: 'An old name of `dropIndexes`.',
    source: 'oplog.cpp, tried; gone from idl 8.2',
    fields: OF_DROP_INDEXES,
  },
  applyOps: {
    action: 'operations',
    since: '4.4',
    what: 'Operations that are done all together: by themselves, or a part of a transaction, which is kept until it is decided.',
    source: 'oplog.cpp, apply_ops.idl, tried',
    fields: OF_APPLY_OPS,
  },
  commitTransaction: {
    action: 'commit',
    since: '4.4',
    what: 'A prepared transaction commits: its operations are applied.',
    source: 'oplog.cpp, tried',
    fields: { commitTimestamp: '4.4', prepared: '4.4' },
  },
  abortTransaction: {
    action: 'abort',
    since: '4.4',
    what: 'A transaction is given up: its operations are forgotten.',
    source: 'oplog.cpp, tried',
    fields: {},
  },
  dbCheck: {
    action: 'ignore',
    since: '4.4',
    what: 'Members compare a collection with one another, which would be against nothing on a head.',
    source: 'oplog.cpp, tried',
  },
  convertToCapped: {
    action: 'stop',
    since: '4.4',
    until: '4.4',
    what: 'Nobody writes it: a conversion is logged as `create`, inserts and `renameCollection`, which are applied. The parser of 4.4 still takes it.',
    source: 'oplog.cpp, tried',
  },
  importCollection: {
    action: 'stop',
    since: '5.0',
    what: 'Files become a collection (MongoDB Enterprise). A backup cannot read them.',
    source: 'oplog.cpp, tried',
  },
  createGlobalIndex: {
    action: 'stop',
    since: '6.1',
    until: '8.0',
    what: 'Behind a feature flag, never released.',
    source: '`oplog_entry.h` of the 6.2 line; gone in 8.2',
  },
  dropGlobalIndex: {
    action: 'stop',
    since: '6.1',
    until: '8.0',
    what: 'Behind a feature flag, never released.',
    source: '`oplog_entry.h` of the 6.2 line; gone in 8.2',
  },
  modifyCollectionShardingIndexCatalog: {
    action: 'stop',
    since: '6.1',
    what: 'The catalog of global indexes changes. Behind a feature flag, never released.',
    source: 'oplog.cpp of the 7.x line, idl 8.2',
  },
  createDatabaseMetadata: {
    action: 'stop',
    since: '8.1',
    what: 'A shard notes that it is the primary of a database.',
    source: 'idl 8.2',
  },
  dropDatabaseMetadata: {
    action: 'stop',
    since: '8.1',
    what: 'A shard notes that it is no longer the primary of a database.',
    source: 'idl 8.2',
  },
  truncateRange: {
    action: 'stop',
    since: '8.3',
    what: 'A range of records is cut off by their ids, which a head does not have.',
    source: '`replicated_fast_count` of the 8.3 line',
  },
  setMultikeyMetadata: {
    action: 'ignore',
    since: '8.3',
    what: 'Which keys of an index are multikey: each server finds that out by itself.',
    source: 'mongorestore',
  },
  dropIdent: {
    action: 'ignore',
    since: '8.3',
    what: 'A file of a member goes, after its collection or index was dropped.',
    source: 'mongorestore (SERVER-118737)',
  },
  upgradeDowngradeViewlessTimeseries: {
    action: 'stop',
    since: '8.3',
    what: 'A time-series collection loses its view and buckets, or gets them back.',
    source: 'mongorestore (SERVER-114505)',
  },
};
