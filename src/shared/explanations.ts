/**
 * What an error means and why it comes, where the fix alone leaves a person with questions. Apart from the table of
 * errors, because workflows carry that one and need none of this.
 */
import type { ErrorName } from './errors.ts';

const texts: Partial<Record<ErrorName, string>> = {
  OplogGap:
    'The oplog of a replica set is a ring: its oldest entries make room for new ones. Whoever was away for longer than the oplog reaches back has lost entries that nothing can bring back; the head no longer can be what the source is. Snapshots that were taken before stay good.',
  SourceRolledBack:
    'Only entries that a majority of the members had are stored, and those do not roll back while a majority of the members keep their data. Members that were forced to another history (a restored disk, a reconfiguration with force) break that.',
  AccessLapsed:
    'The login worked in this worker before, so this is most likely a change of the password or of a certificate that has not reached Lifeboat yet. It is tried again every half minute at the latest.',
  OplogWindowTooShort:
    'The oplog reaches back less far than minOplogWindow asks for. A backup that stands still for longer than the oplog reaches back needs a new initial sync.',
  StoreFull:
    'The blockstore has no room, or its server refuses writes for want of it. What has to be stored waits, and nothing that is stored is lost; but entries that the source drops from its oplog meanwhile are a gap.',
  StoreUnavailable:
    'The stores do not answer, or not for writes at majority: the work waits and is tried again. What is on disk already stays.',
  HeadMissing:
    'The disk of the daemon lost the head, and there is no snapshot from which the stored entries lead on. With pointInTime.window of 0 that is the usual case.',
  Diverged:
    'An oplog entry met a head on which it cannot have the effect that it had on the source. The head is not followed any further; snapshots that were taken before stay as they are.',
  UnknownEntry:
    'An entry whose effect is not known, or one with a field that the version of the head does not know, cannot be passed over: the head would no longer be the source. The backup stops before it. docs/oplog-entries.md has all that are known.',
  BlockDamaged:
    'Each block is checked against its SHA-256 whenever it is read. A block that does not match is marked, and the next snapshot stores it again from the head; what the head no longer holds stays damaged in the older snapshots.',
  FenceLost:
    'Each claim of a backup has a number. An attempt that finds a newer claim than its own stops before it writes. It is what a process sees that was stopped, replaced, and woke up.',
  DaemonSilent:
    'The daemon that owns the backup has not been heard of. Its work waits for it, because the head lies on its disk; after daemon.takeoverAfter, or once it is retired, another daemon takes over.',
  DaemonPresent:
    'A daemon that was heard of in the last half minute may still write. Two daemons with one head would be two histories, so it is not retired.',
  VersionUnverified:
    'The tests run sources of MongoDB 4.4, 5.0 and 6.0. Entries of another version may mean something else.',
  StoreOnSource:
    'Each write to the stores would be an entry of the source, which is stored, which is an entry of the source, without an end.',
};

/** More than the fix says, or undefined where that says all. Plain text, one paragraph. */
export function explanationOf(name: ErrorName): string | undefined {
  return texts[name];
}
