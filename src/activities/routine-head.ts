/** A head that gives up waiting to be locked when its backup no longer runs: nothing would be applied to it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { LockedHead } from '../head/types.ts';
import type { Optime } from '../shared/optime.ts';
import { requireRoutine } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import type { LockableHead } from '../steps/take-snapshot.ts';

const LOOK_EVERY_MS = 3_000;

/** @throws LifeboatError from `lock`: `BackupNotRunning` once the backup has left routine operation */
export function headWhileRoutine(head: LockableHead, stores: Stores, deployment: string): LockableHead {
  return {
    async lock(minimum: Optime, signal: AbortSignal): Promise<LockedHead> {
      const locked = new AbortController();
      const gaveUp = new AbortController();
      const watching = watch(stores, deployment, locked.signal).catch((error: unknown) => gaveUp.abort(error));
      try {
        return await head.lock(minimum, AbortSignal.any([signal, gaveUp.signal]));
      } catch (error) {
        if (gaveUp.signal.aborted && !signal.aborted) throw gaveUp.signal.reason;
        throw error;
      } finally {
        locked.abort();
        await watching;
      }
    },
  };
}

/** Settles when `until` is aborted; fails as soon as the backup is not in routine operation. */
async function watch(stores: Stores, deployment: string, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    await requireRoutine(stores, deployment);
    await delay(LOOK_EVERY_MS, undefined, { signal: until }).catch(() => undefined);
  }
}
