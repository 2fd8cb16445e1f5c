/**
 * What a failed reply of a head says: something of the head itself, which passes or is to be mended, or something of
 * the data. Only the latter can show that a head differs from its source, or that an index cannot be built.
 */
import { LifeboatError } from '../shared/errors.ts';
import type { Reply } from './socket.ts';

/** Shutdown, interruption and the like: the operation was given up, the data is as it was. */
const INTERRUPTED = new Set([6, 89, 91, 262, 276, 290, 11600, 11601, 11602]);
/** OutOfDiskSpace, and the disk use threshold that newer servers raise. */
const DISK_FULL = new Set([14031, 371]);
/** TemporarilyUnavailable and TransactionTooLargeForCache: one piece of this size does not fit the cache. */
const TOO_LARGE = new Set([365, 388]);
/** LockTimeout, LockBusy, MaxTimeMSExpired, WriteConflict, ExceededMemoryLimit, SnapshotUnavailable. */
const BUSY = new Set([24, 46, 50, 112, 146, 246]);

/**
 * What speaks of a document, a key or a catalog (error_codes.yml of 6.0): BadValue, FailedToParse, TypeMismatch,
 * IllegalOperation, NamespaceNotFound, IndexNotFound, PathNotViable, NoMatchingDocument, NamespaceExists,
 * DollarPrefixedFieldName, EmptyFieldName, DottedFieldName, ImmutableField, CannotCreateIndex, InvalidOptions,
 * InvalidNamespace, IndexOptionsConflict, IndexKeySpecsConflict, OperationFailed, CommandNotSupportedOnView,
 * DocumentValidationFailure, OptionNotSupportedOnView, CannotIndexParallelArrays, CollectionUUIDMismatch,
 * InvalidIndexSpecificationOption, 218 (an all-or-nothing applyOps found no document), BSONObjectTooLarge, DuplicateKey.
 */
const OF_THE_DATA = new Set([
  2, 9, 14, 20, 26, 27, 28, 47, 48, 52, 56, 57, 66, 67, 72, 73, 85, 86, 96, 166, 121, 167, 171, 361, 197, 218, 10334,
  11000,
]);
/** Codes from here on that have no name ("Location…") are of checks of keys, shapes and specs. */
const FIRST_LOCATION = 12_000;

/** True when one piece of this size does not fit the cache of the head. */
export function isTooLarge({ ok, code }: Reply): boolean {
  return !ok && TOO_LARGE.has(code);
}

/** True when a failed reply is about the data, the keys or the catalog, and would be the same if it were tried again. */
export function isOfTheData({ code }: Reply): boolean {
  if (INTERRUPTED.has(code) || DISK_FULL.has(code) || TOO_LARGE.has(code) || BUSY.has(code)) return false;
  return OF_THE_DATA.has(code) || code >= FIRST_LOCATION;
}

/**
 * Raises what a failed reply says of the head itself.
 * @param what was being done and to what, or to which head, without any document
 * @throws LifeboatError `HeadLost`, `DiskFull`, `HeadStrained` (retryable)
 */
export function refuseTrouble({ code, codeName }: Reply, what: string): void {
  if (INTERRUPTED.has(code)) {
    throw new LifeboatError('HeadLost', `${what}: the head gave it up (${codeName})`);
  }
  if (DISK_FULL.has(code)) throw new LifeboatError('DiskFull', `${what}: the disk of the head is full`);
  if (TOO_LARGE.has(code) || BUSY.has(code)) {
    throw new LifeboatError('HeadStrained', `${what}: the head could not do it now (${code} ${codeName})`);
  }
}

/**
 * Raises what a failed reply says, unless it is about the data: then the caller knows what that means.
 * @throws LifeboatError as refuseTrouble; `Internal` (retryable) for a code of which nothing is known
 */
export function refuseUnlessOfTheData(reply: Reply, what: string): void {
  refuseTrouble(reply, what);
  if (isOfTheData(reply)) return;
  throw new LifeboatError('Internal', `${what}: the head answered ${reply.code} ${reply.codeName}`);
}
