/** When this daemon takes over the backups of one that is gone, and when a workflow is to ask about that. */
import type { Config } from '../config/schema.ts';
import { isLifeboatError } from '../shared/errors.ts';
import { seedsOf } from '../steps/seed-head.ts';
import type { TakeoverTerms } from '../stores/claims.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberRecord } from '../stores/records.ts';
import type { Daemon } from './daemon.ts';

const LEAST_PATIENCE_MS = 10_000;
const MOST_PATIENCE_MS = 120_000;

/**
 * How long work may lie on a daemon's queue before a workflow asks whether the daemon is gone. Asking costs a few events
 * and changes nothing by itself, so it is a small part of the time after which the answer can be yes.
 */
export function patienceMs({ daemon }: Config): number {
  return Math.round(Math.min(MOST_PATIENCE_MS, Math.max(LEAST_PATIENCE_MS, daemon.takeoverAfterMs / 3)));
}

/** The terms under which this daemon takes over. */
export async function takeoverTerms(daemon: Daemon): Promise<TakeoverTerms> {
  const { takeoverAfterMs } = (await daemon.config()).daemon;
  return {
    afterMs: takeoverAfterMs,
    ready: async (member, { needsHead }) =>
      (await canWorkOn(daemon, member)) && (!needsHead || (await canBeRebuilt(await daemon.stores(), member))),
  };
}

/** A daemon without the deployment, or without a mongod for it, leaves it to others. */
async function canWorkOn(daemon: Daemon, { deployment, source }: MemberRecord): Promise<boolean> {
  try {
    await daemon.deployment(deployment);
    await daemon.headMongodFor(source.version);
    return true;
  } catch (error) {
    if (!isLifeboatError(error)) throw error;
    daemon.logger.warn({ code: error.code, deployment }, `${error.message}; its backup is not taken over`);
    return false;
  }
}

/**
 * What an owner that is only silent still has on its disk is worth more than a new initial sync: it is left alone unless
 * the head can be had without it.
 */
async function canBeRebuilt(stores: Stores, member: MemberRecord): Promise<boolean> {
  // Until then it is built from the slices.
  if (member.sync?.stage !== 'validated') return true;
  return 'snapshots' in (await seedsOf(stores, member));
}
