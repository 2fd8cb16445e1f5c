/** How a running backup is spoken to. Each update returns when its phase is in effect. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { Phase, Problem } from '../shared/messages.ts';
import type { Optime } from '../shared/optime.ts';

/** What an update answers. */
export interface PhaseAnswer {
  readonly phase: Phase;
  readonly problem: Problem | null;
}

/** What the workflow itself knows; `lifeboat backup status` shows more, from the stores. */
export interface LifecycleStatus extends PhaseAnswer {
  readonly deployment: string;
  /** ISO 8601. */
  readonly since: string;
  /** What the operator gave as the reason of a pause or resync. */
  readonly reason: string | null;
  /** What stops nothing yet. */
  readonly warnings: readonly Problem[];
  readonly daemon: string | null;
  readonly member: string | null;
  readonly seen: Optime | null;
  readonly appliedThrough: Optime | null;
}

/** Stop reading from the source, and keep everything. */
export const pause = defineUpdate<PhaseAnswer, [{ readonly reason?: string }]>('pause');
/** Go on after a pause, or try again after a problem. */
export const resume = defineUpdate<PhaseAnswer, [Readonly<Record<string, never>>]>('resume');
/** Begin a new initial sync; snapshots stay. */
export const resync = defineUpdate<PhaseAnswer, [{ readonly reason?: string }]>('resync');
/** End the backup; snapshots stay. The workflow completes. */
export const stop = defineUpdate<PhaseAnswer, [Readonly<Record<string, never>>]>('stop');
/** A daemon was retired: a backup that waits for it asks again who is to do its work. Sent by `retireDaemon`. */
export const daemonRetired = defineSignal('daemonRetired');
/** Asks for nothing: whoever sends it learns whether the backup runs. */
export const knock = defineSignal('knock');
/** How it stands, as far as the workflow knows. */
export const status = defineQuery<LifecycleStatus>('status');
