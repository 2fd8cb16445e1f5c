/** The workflow types. Every function exported here is one; nothing else may be exported. */
export { applyRetention } from './apply-retention.ts';
export { backup } from './backup.ts';
export { deleteSnapshot } from './delete-snapshot.ts';
export { doctor } from './doctor.ts';
export { groom } from './groom.ts';
export { checkpoint, scheduleGrooms } from './not-built-yet.ts';
export { holdSnapshot } from './hold-snapshot.ts';
export { purge } from './purge.ts';
export { releaseSnapshot } from './release-snapshot.ts';
export { retireDaemon } from './retire-daemon.ts';
export { restore } from './restore.ts';
export { snapshot } from './snapshot.ts';
export { verifySnapshot } from './verify-snapshot.ts';
