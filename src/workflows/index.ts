/** The workflow types. Every function exported here is one; nothing else may be exported. */
export { backup } from './backup.ts';
export { doctor } from './doctor.ts';
export { applyRetention, checkpoint, groom, scheduleGrooms } from './not-built-yet.ts';
export { purge } from './purge.ts';
export { retireDaemon } from './retire-daemon.ts';
export { restore } from './restore.ts';
export { snapshot } from './snapshot.ts';
export { verifySnapshot } from './verify-snapshot.ts';
