/**
 * Workflow `backup`: the lifecycle of one deployment, for as long as it is backed up.
 *
 * It is a loop that decides (lifecycle.ts) and then does one thing, in a scope that a command cancels. Activities wait
 * for their own cancellation, so when a command takes effect nothing of the work before it still runs.
 */
import {
  allHandlersFinished,
  CancelledFailure,
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { DaemonActivities, MemberWork } from '../activities/types.ts';
import type { BackupInput } from '../shared/messages.ts';
import { backupWorkflowId } from '../shared/names.ts';
import { detailsOf, type Seen } from './details.ts';
import { failure, failureOf, isKind, wasNotTakenUp, workflowFailure } from './failures.ts';
import { deploymentField, fieldsOf, reasonOf, refuseFields } from './input.ts';
import * as lifecycle from './lifecycle.ts';
import { nextStep, phaseOf, recordKey, type Lifecycle, type Step } from './lifecycle.ts';
import {
  daemonRetired,
  knock,
  pause,
  resume,
  resync,
  status,
  stop,
  type LifecycleStatus,
  type PhaseAnswer,
} from './messages.ts';
import { onDaemon, shared } from './options.ts';
import { recordingOn } from './recording.ts';
import { runSession } from './session.ts';
import { tagDeployment, tagPhase } from './tags.ts';

/** What one run of the workflow hands to the next: the input, and all that a handler may have changed. */
export interface BackupState extends BackupInput {
  readonly lifecycle?: Lifecycle;
}

/** How long an update waits for its phase. */
const EFFECT_TIMEOUT = '30 seconds';
/** Between two claims that were lost at once, so that two rivals do not spin. */
const RECLAIM_PAUSE = '5 seconds';
/** Between two watches of the oplog, when the first could not be kept. */
const WATCH_PAUSE = '10 minutes';
/** Indexes are not built twice for the sake of a shorter history, up to this many events. The server ends it at 51,200. */
const MAX_HISTORY_TO_FINISH = 20_000;

export async function backup(state: BackupState): Promise<PhaseAnswer> {
  const continued = workflowInfo().continuedFromExecutionRunId !== undefined;
  const fields = fieldsOf('backup', state, continued ? ['deployment', 'lifecycle'] : ['deployment']);
  const deployment = deploymentField('backup', fields);
  requireOwnId(deployment);
  const run = new BackupRun(deployment, state.lifecycle ?? lifecycle.newLifecycle(now()));
  run.listen();
  tagDeployment(deployment);
  const root = CancellationScope.current();
  // A cancelled workflow stops its backup like the update does, and then says that it was cancelled.
  root.cancelRequested.catch(() => run.command((life) => lifecycle.stopWished(life, now())));
  const answer = await CancellationScope.nonCancellable(() => run.untilOver());
  if (root.consideredCancelled) throw new CancelledFailure('the backup was stopped');
  return answer;
}

/** Two lifecycles of one deployment would take the claim from each other for ever: there is one id, so there is one. */
function requireOwnId(deployment: string): void {
  const { workflowId } = workflowInfo();
  const wanted = backupWorkflowId(deployment);
  if (workflowId === wanted) return;
  throw workflowFailure(
    failure('BadInput', `the workflow id of the backup of ${deployment} must be ${wanted}, not ${workflowId}`),
  );
}

function now(): string {
  return new Date().toISOString();
}

class BackupRun {
  readonly #deployment: string;
  #life: Lifecycle;
  /** Commands are numbered; one is handled when the loop has acted on it, or on a later one. */
  #issued = 0;
  #handled = 0;
  #over = false;
  /** What a command interrupts. */
  #scope: CancellationScope | undefined;
  /** Set while what is being done cannot go on where it stopped. */
  #finishing = false;
  /** What was last seen of the work at hand. */
  #seen: Seen | null = null;

  constructor(deployment: string, life: Lifecycle) {
    this.#deployment = deployment;
    this.#life = life;
  }

  listen(): void {
    setHandler(pause, (input) => this.obey((life) => lifecycle.pauseWished(life, reasonOf('pause', input), now())), {
      description: 'Stop reading from the source, and keep everything. {"reason": "…"}',
      validator: (input) => {
        this.refuseWhenStopping();
        reasonOf('pause', input);
      },
    });
    setHandler(resume, () => this.obey((life) => lifecycle.resumeWished(life, now()), true), {
      description: 'Go on after a pause, or try again after a problem. {}',
      validator: (input) => {
        this.refuseWhenStopping();
        refuseFields('resume', input);
      },
    });
    setHandler(
      resync,
      (input) => this.obey((life) => lifecycle.resyncWished(life, reasonOf('resync', input), now()), true),
      {
        description: 'Begin a new initial sync; snapshots stay. {"reason": "…"}',
        validator: (input) => {
          this.refuseWhenStopping();
          reasonOf('resync', input);
        },
      },
    );
    setHandler(stop, () => this.obey((life) => lifecycle.stopWished(life, now())), {
      description: 'End the backup; snapshots stay. {}',
      validator: (input) => refuseFields('stop', input),
    });
    setHandler(daemonRetired, () => this.command(lifecycle.daemonSilent), {
      description: 'Ask whether the daemon is gone. Sent when an operator retires it',
    });
    setHandler(knock, () => undefined, { description: 'Does nothing: a purge finds out by it that the backup runs' });
    setHandler(status, () => this.status(), { description: 'Phase, problem, daemon and positions' });
  }

  refuseWhenStopping(): void {
    if (this.#life.wish !== 'stop') return;
    throw workflowFailure(failure('NoBackup', `the backup of ${this.#deployment} is being stopped`));
  }

  /** Changes what is wished for; the work at hand is cancelled if that made a difference. */
  command(change: (life: Lifecycle) => Lifecycle): void {
    const changed = change(this.#life);
    if (changed === this.#life) return;
    this.#life = changed;
    this.#issued += 1;
    this.#scope?.cancel();
  }

  /** A command, and its effect. With `report`, a problem that it ran into at once is its failure. */
  async obey(change: (life: Lifecycle) => Lifecycle, report = false): Promise<PhaseAnswer> {
    this.command(change);
    const issued = this.#issued;
    const isInEffect = await condition(() => this.#handled >= issued || this.#over, EFFECT_TIMEOUT, {
      summary: 'the longest that a command waits for its effect',
    });
    if (!isInEffect) throw workflowFailure(failure('NotInEffectYet', this.pending()));
    const { problem } = this.#life;
    if (report && problem) throw workflowFailure(problem);
    return this.answer();
  }

  pending(): string {
    const { claim, superseded } = this.#life;
    const waiting = claim ? `; it waits for daemon ${claim.daemon}` : '';
    const removing = superseded.length > 0 ? ', which also removes what was given up' : '';
    return `the command to the backup of ${this.#deployment} is noted and not in effect yet${waiting}${removing}`;
  }

  answer(): PhaseAnswer {
    return { phase: phaseOf(this.#life), problem: this.#life.problem };
  }

  status(): LifecycleStatus {
    const { since, reason, claim, seen, applied, warnings } = this.#life;
    return {
      deployment: this.#deployment,
      ...this.answer(),
      since,
      reason,
      warnings,
      daemon: claim?.daemon ?? null,
      member: claim?.member?.member ?? null,
      seen,
      appliedThrough: applied,
    };
  }

  /** Decides and acts until the backup has ended, or hands over to a new run. */
  async untilOver(): Promise<PhaseAnswer> {
    for (;;) {
      this.show();
      const step = nextStep(this.#life);
      const issued = this.#issued;
      if (step === 'work' || step === 'wait') {
        this.#handled = issued;
      }
      if (this.mayHandOver(step)) {
        await this.handOver(issued);
        continue;
      }
      if (step === 'end' || step === 'fail') return this.finish(step);
      await this.act(step);
    }
  }

  /** Between two steps of one command a history is only handed over when it is very long: the command waits for both. */
  mayHandOver(step: Step): boolean {
    const { continueAsNewSuggested, historyLength } = workflowInfo();
    if (step === 'end' || step === 'fail') return false;
    const isBetween = step !== 'work' && step !== 'wait';
    return continueAsNewSuggested && (!isBetween || historyLength > MAX_HISTORY_TO_FINISH);
  }

  /** Starts the next run, unless a command comes in between: that is acted upon first. */
  async handOver(issued: number): Promise<void> {
    await condition(() => allHandlersFinished() || this.#issued > issued);
    if (this.#issued > issued) return;
    await continueAsNew<typeof backup>({ deployment: this.#deployment, lifecycle: this.#life });
  }

  async finish(step: 'end' | 'fail'): Promise<PhaseAnswer> {
    const work = this.work();
    if (work && step === 'end') await this.release(work);
    this.#over = true;
    await condition(allHandlersFinished);
    if (step === 'fail' && this.#life.problem) throw workflowFailure(this.#life.problem);
    return this.answer();
  }

  /** Best effort: a daemon that is gone has no head to close, and one that comes back ends what it finds. */
  async release(work: MemberWork): Promise<void> {
    try {
      await this.activities().releaseMember(work);
    } catch (error) {
      if (!failureOf(error)) throw error;
    }
  }

  async act(step: Exclude<Step, 'end' | 'fail'>): Promise<void> {
    const scope = new CancellationScope({ cancellable: true });
    this.#scope = scope;
    try {
      await scope.run(() => this.take(step));
    } catch (error) {
      // What was cancelled is decided about again, whatever it was: a cancelled activity is not tried again, so that one
      // whose worker died just then ends as timed out, and one that was about to be tried again as failed.
      const isGivenUp = isCancellation(error) || (scope.consideredCancelled && failureOf(error) !== undefined);
      if (!isGivenUp) await this.failed(error, step);
    } finally {
      this.#scope = undefined;
      this.#finishing = false;
      this.#seen = null;
    }
  }

  async failed(error: unknown, step: Step): Promise<void> {
    if (wasNotTakenUp(error)) {
      this.#life = lifecycle.daemonSilent(this.#life);
      return;
    }
    const found = failureOf(error);
    // Not a failure of an activity: a defect of this workflow, which the workflow task is to show.
    if (!found) throw error;
    if (isKind(found, 'FenceLost')) {
      this.#life = lifecycle.claimWasLost(this.#life);
      // Without a claim nothing can be recorded, and the claim has failed before.
      if (step === 'record' && this.#life.failedStep === 'claim') this.#life = lifecycle.unrecorded(this.#life);
      const issued = this.#issued;
      await condition(() => this.#issued > issued, RECLAIM_PAUSE, { summary: 'before the next claim' });
      return;
    }
    this.#life = lifecycle.failed(this.#life, found, now(), step);
  }

  async take(step: Exclude<Step, 'end' | 'fail'>): Promise<void> {
    switch (step) {
      case 'claim':
        return this.claim();
      case 'record':
        return this.record();
      case 'discard':
        return this.discard();
      case 'prepare':
        return this.prepare();
      case 'work':
        return this.session();
      case 'wait':
        return this.rest();
    }
  }

  async claim(): Promise<void> {
    const replace = lifecycle.replacedBy(this.#life);
    const deployment = this.#deployment;
    const claim = await shared().claim(
      lifecycle.asksForTakeover(this.#life)
        ? { purpose: 'takeover', deployment }
        : { purpose: 'backup', deployment, ...(replace === undefined ? {} : { replace }) },
    );
    this.#life = lifecycle.claimed(this.#life, claim);
  }

  async record(): Promise<void> {
    const life = this.#life;
    tagPhase(phaseOf(life));
    if (life.claim) {
      const { taskQueue, member } = life.claim;
      const { since, problem } = life;
      const change = { deployment: this.#deployment, member, phase: phaseOf(life), since, problem };
      await recordingOn(taskQueue, (activities) => activities.recordPhase(change));
    }
    this.#life = { ...this.#life, recorded: recordKey(life) };
  }

  async discard(): Promise<void> {
    const work = this.work();
    for (const incarnation of this.#life.superseded) {
      if (work) await this.activities().discardIncarnation({ ...work, incarnation });
    }
    this.#life = { ...this.#life, superseded: [] };
  }

  async prepare(): Promise<void> {
    const member = this.#life.claim?.member ?? null;
    const result = await this.activities().prepareMember({ deployment: this.#deployment, member });
    this.#life = lifecycle.prepared(this.#life, result, now());
  }

  async session(): Promise<void> {
    const work = this.work();
    if (!work) throw new Error('a session without a member');
    await runSession({
      activities: this.activities(),
      work,
      stage: this.#life.stage,
      seed: this.#life.seed,
      seeded: () => {
        this.#life = lifecycle.seeded(this.#life);
      },
      finishing: (finishing) => {
        this.#finishing = finishing;
      },
      reached: async (stage) => {
        this.#life = lifecycle.stageReached(this.#life, stage, now());
        if (this.#life.recorded !== recordKey(this.#life)) await this.record();
        this.show();
      },
      stageNow: () => this.#life.stage,
      saw: (sight) => {
        this.#seen = { sight, at: now() };
        this.show();
        if (this.historyIsLong()) this.#scope?.cancel();
      },
      sliceDone: ({ seen, applied, warnings }) => {
        const life = this.#life;
        this.#life = {
          ...life,
          seen: seen ?? life.seen,
          applied: applied ?? life.applied,
          warnings: warnings ?? life.warnings,
        };
        this.show();
        if (this.historyIsLong()) this.#scope?.cancel();
      },
    });
  }

  /** Until a command cancels it. Rejected and repeated commands lengthen the history too. */
  async rest(): Promise<void> {
    const work = this.work();
    while (work && lifecycle.isFallingBehind(this.#life) && !workflowInfo().continueAsNewSuggested) {
      try {
        const { warnings } = await this.activities().watchOplog(work);
        this.#life = { ...this.#life, warnings };
        this.show();
      } catch (error) {
        // A watch that cannot be kept is no problem of a backup that rests: what ails it shows when it goes on.
        if (isCancellation(error) || !failureOf(error)) throw error;
        await condition(() => workflowInfo().continueAsNewSuggested, WATCH_PAUSE);
      }
    }
    await condition(() => workflowInfo().continueAsNewSuggested);
  }

  historyIsLong(): boolean {
    const { continueAsNewSuggested, historyLength } = workflowInfo();
    return continueAsNewSuggested && (!this.#finishing || historyLength > MAX_HISTORY_TO_FINISH);
  }

  activities(): DaemonActivities {
    const { claim } = this.#life;
    if (!claim) throw new Error('activities without a claim');
    return onDaemon(claim.taskQueue, claim.patienceMs);
  }

  work(): MemberWork | undefined {
    const { claim } = this.#life;
    return claim?.member ? { deployment: this.#deployment, member: claim.member } : undefined;
  }

  /** The details do not outlive a run, so each one sets them anew. */
  show(): void {
    setCurrentDetails(detailsOf(this.#deployment, this.#life, this.#seen));
  }
}
