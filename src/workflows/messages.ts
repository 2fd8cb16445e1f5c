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

export const pause = defineUpdate<PhaseAnswer, [{ readonly reason?: string }]>('pause');
export const resume = defineUpdate<PhaseAnswer, [Readonly<Record<string, never>>]>('resume');
export const resync = defineUpdate<PhaseAnswer, [{ readonly reason?: string }]>('resync');
export const stop = defineUpdate<PhaseAnswer, [Readonly<Record<string, never>>]>('stop');
export const daemonRetired = defineSignal('daemonRetired');
/** Asks for nothing: whoever sends it learns whether the backup runs. */
export const knock = defineSignal('knock');
export const status = defineQuery<LifecycleStatus>('status');
