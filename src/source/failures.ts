/** What an error means for whoever was reading from a member. */
import { MongoServerError } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { isLifeboatError } from '../shared/errors.ts';

/**
 * `dropped`: the collection is not there. `token-gone`: the record to go on after was deleted. `cursor-lost`: the same
 * member can be asked again. `member-lost`: it does not answer, or not as a data-bearing member. `fatal`: asking again is no use.
 */
export type ReadFailure = 'dropped' | 'token-gone' | 'cursor-lost' | 'member-lost' | 'fatal';

const NAMESPACE_NOT_FOUND = 26;
const KEY_NOT_FOUND = 211;

/** Server error codes (error_codes.yml) after which the place is known and can be read on from. */
const CURSOR_LOST = new Set([
  43, // CursorNotFound: killed, or the member restarted
  50, // MaxTimeMSExpired
  112, // WriteConflict
  136, // CappedPositionLost
  175, // QueryPlanKilled: an index or the collection changed
  237, // CursorKilled
  246, // SnapshotUnavailable: the collection changed after the newest majority
  11601, // Interrupted
]);

/** Reads an error of a command on a member. */
export function readFailure(error: unknown): ReadFailure {
  if (error instanceof MongoServerError) {
    if (error.code === NAMESPACE_NOT_FOUND) return 'dropped';
    if (error.code === KEY_NOT_FOUND) return 'token-gone';
    if (CURSOR_LOST.has(Number(error.code))) return 'cursor-lost';
  }
  return isLifeboatError(castDriverError(error, 'source', ''), 'SourceUnavailable') ? 'member-lost' : 'fatal';
}
