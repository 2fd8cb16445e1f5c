/** Step: bring a snapshot back as a directory that `mongod` starts on. */
import { LifeboatError } from '../shared/errors.ts';
import type { RestoreSummary } from '../shared/messages.ts';
import type { Stores } from '../stores/connect.ts';
import type { StepContext } from './context.ts';

export interface RestoreParts {
  readonly stores: Stores;
  /** Id of this daemon. */
  readonly daemon: string;
  /** The path of a mongod that can open files of mongod `version` (`x.y.z`), for the proof. */
  readonly mongodFor: (version: string) => Promise<string>;
}

export interface RestoreRequest {
  /** Id of the restore; a rerun with the same id goes on where it stood, or answers what it found. */
  readonly id: string;
  readonly snapshot: string;
  /** Absolute path of the directory: absent, empty, or holding this same restore unfinished. */
  readonly path: string;
}

/**
 * Restores `snapshot` into `path`, proves it (hashes, a started mongod, `validate` of every collection) and hands it
 * over; until then mongod refuses to start on it.
 * @throws LifeboatError `TargetNotEmpty`, `TargetUnusable`, `UnknownSnapshot`, `BlockDamaged`, `BlockMissing`,
 *   `ManifestDamaged`, `RestoreProofFailed`; `TargetFull`, `StoreUnavailable`, `FenceLost` (retryable)
 */
export async function restoreDirectory(
  ctx: StepContext,
  parts: RestoreParts,
  request: RestoreRequest,
): Promise<RestoreSummary> {
  void [ctx, parts, request];
  return Promise.reject(new LifeboatError('NotBuiltYet', 'snapshots cannot be restored yet'));
}
