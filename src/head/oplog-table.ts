/**
 * Every kind of oplog entry that MongoDB 4.4 to 8.x writes, and what becomes of it here. The one such table; what is
 * not in it stops the backup. Sources: research, mongodb-internals §1 (oplog.cpp, oplog_entry.idl; mongorestore's list).
 */
import { LifeboatError } from '../shared/errors.ts';
import { formatOptime } from '../shared/optime.ts';
import { commandName, type OplogEntry } from './entry.ts';

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

const operations: Readonly<Record<string, EntryAction>> = {
  i: 'crud',
  u: 'crud',
  d: 'crud',
  // Also the marker of an idle set, appendOplogNote, and the images of retryable findAndModify up to 5.0.
  n: 'ignore',
  // Of global indexes (6.2 to 8.0): behind a feature flag, never released.
  xi: 'stop',
  xd: 'stop',
  // Bookkeeping of record ids and the catalog (8.3): each server makes its own.
  km: 'ignore',
  ci: 'stop',
  cu: 'stop',
  cd: 'stop',
};

const commands: Readonly<Record<string, EntryAction>> = {
  create: 'command',
  drop: 'command',
  dropDatabase: 'command',
  renameCollection: 'command',
  collMod: 'command',
  // A test command's; entries that an old server wrote can still hold it.
  emptycapped: 'command',
  createIndexes: 'index',
  commitIndexBuild: 'index',
  dropIndexes: 'index',
  dropIndex: 'index',
  deleteIndexes: 'index',
  deleteIndex: 'index',
  // Seen only when it commits: until then the index is in no listing.
  startIndexBuild: 'ignore',
  abortIndexBuild: 'ignore',
  applyOps: 'operations',
  commitTransaction: 'commit',
  abortTransaction: 'abort',
  // It would start a check of the head, against nothing.
  dbCheck: 'ignore',
  setMultikeyMetadata: 'ignore',
  dropIdent: 'ignore',
  // Since 4.4 written as create, inserts and rename; applyOps does not take it.
  convertToCapped: 'stop',
  // Brings files that a backup cannot read.
  importCollection: 'stop',
  createGlobalIndex: 'stop',
  dropGlobalIndex: 'stop',
  modifyCollectionShardingIndexCatalog: 'stop',
  createDatabaseMetadata: 'stop',
  dropDatabaseMetadata: 'stop',
  truncateRange: 'stop',
  upgradeDowngradeViewlessTimeseries: 'stop',
};

/**
 * What becomes of an entry.
 * @param at the optime to name: of an operation inside a transaction, that of the entry it stands in
 * @throws LifeboatError `UnknownEntry`, `EntryNotSupported`: the backup stops before it
 */
export function actionFor(entry: OplogEntry, at: OplogEntry = entry): EntryAction {
  const isCommand = entry.op === 'c';
  const name = isCommand ? commandName(entry) : entry.op;
  const table = isCommand ? commands : operations;
  const action = Object.hasOwn(table, name) ? table[name] : undefined;
  const where = `at ${formatOptime({ t: at.tsT, i: at.tsI })} on ${entry.ns}`;
  if (action === undefined) {
    throw new LifeboatError('UnknownEntry', `the oplog entry ${where} is of an unknown kind "${name}"`);
  }
  if (action === 'stop') throw new LifeboatError('EntryNotSupported', `the "${name}" ${where} cannot be replayed`);
  return action;
}
