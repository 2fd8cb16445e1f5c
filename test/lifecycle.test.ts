/** The decisions of a backup's lifecycle, without Temporal. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Claim } from '../src/shared/messages.ts';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import * as lifecycle from '../src/workflows/lifecycle.ts';
import { newLifecycle, nextStep, phaseOf, recordKey, type Lifecycle, type Step } from '../src/workflows/lifecycle.ts';

const T0 = '2026-01-01T00:00:00.000Z';
const T1 = '2026-01-01T00:00:01.000Z';
const T2 = '2026-01-01T00:00:02.000Z';
const member = { key: 'shop/rs0', member: 'rs0', incarnation: 'a'.repeat(24), epoch: 1 };
const claim: Claim = { daemon: 'd1', taskQueue: 'lifeboat.daemon.d1', member };

function recorded(life: Lifecycle): Lifecycle {
  return { ...life, recorded: recordKey(life) };
}

function running(stage: 'sync' | 'routine' = 'routine'): Lifecycle {
  const claimed = lifecycle.claimed(newLifecycle(T0), claim);
  return recorded(lifecycle.prepared(claimed, { member, stage, seed: false, warnings: [] }, T0));
}

function problem(kind: ErrorName): { code: string; message: string; fix: string } {
  return { code: errorKind(kind).code, message: 'it happened', fix: 'mend it' };
}

test('a new backup is claimed, recorded, prepared and then works', () => {
  let life = recorded(newLifecycle(T0));
  assert.equal(nextStep(life), 'claim');
  life = lifecycle.claimed(life, { ...claim, member: null });
  assert.equal(nextStep(life), 'record');
  life = recorded(life);
  assert.equal(nextStep(life), 'prepare');
  life = lifecycle.prepared(life, { member, stage: 'sync', seed: false, warnings: [] }, T1);
  assert.equal(nextStep(life), 'record');
  assert.equal(nextStep(recorded(life)), 'work');
  assert.equal(phaseOf(life), 'initial-sync');
});

test('a failure before anything is stored fails the workflow, and one after it waits for a command', () => {
  const fresh = lifecycle.claimed(newLifecycle(T0), { ...claim, member: null });
  assert.equal(nextStep(recorded(lifecycle.failed(fresh, problem('AuthFailed'), T1))), 'fail');
  const stored = lifecycle.failed(running(), problem('AuthFailed'), T1);
  assert.equal(nextStep(stored), 'record');
  assert.equal(nextStep(recorded(stored)), 'wait');
});

test('a broken chain needs a resync, and what an operator can mend has failed', () => {
  assert.equal(phaseOf(lifecycle.failed(running(), problem('OplogGap'), T1)), 'resync-needed');
  assert.equal(phaseOf(lifecycle.failed(running(), problem('SourceRolledBack'), T1)), 'resync-needed');
  assert.equal(phaseOf(lifecycle.failed(running(), problem('WrongReplicaSet'), T1)), 'failed');
  assert.equal(phaseOf(lifecycle.failed(running(), problem('UnknownEntry'), T1)), 'failed');
});

test('pausing and resuming keep the claim and check everything again', () => {
  const paused = lifecycle.pauseWished(running(), 'upgrade', T1);
  assert.equal(phaseOf(paused), 'paused');
  assert.equal(paused.since, T1);
  assert.equal(nextStep(recorded(paused)), 'wait');
  const resumed = lifecycle.resumeWished(recorded(paused), T2);
  assert.equal(phaseOf(resumed), 'routine');
  assert.equal(nextStep(resumed), 'record');
  assert.equal(nextStep(recorded(resumed)), 'prepare');
  assert.deepEqual(resumed.claim, claim);
});

test('pausing what is paused and resuming what runs change nothing', () => {
  const paused = lifecycle.pauseWished(running(), 'upgrade', T1);
  assert.equal(lifecycle.pauseWished(paused, 'again', T2), paused);
  const life = running();
  assert.equal(lifecycle.resumeWished(life, T1), life);
});

test('a resync replaces the incarnation under a new claim, and what it replaced is discarded', () => {
  const asked = lifecycle.resyncWished(lifecycle.failed(running(), problem('OplogGap'), T1), null, T2);
  assert.equal(phaseOf(asked), 'initial-sync');
  assert.equal(nextStep(asked), 'claim');
  assert.equal(lifecycle.replacedBy(asked), member.incarnation);
  const next = { ...claim, member: { ...member, incarnation: 'b'.repeat(24), epoch: 2 } };
  const again = recorded(lifecycle.claimed(asked, next));
  assert.deepEqual(again.superseded, [member.incarnation]);
  assert.equal(nextStep(again), 'discard');
  assert.equal(nextStep({ ...again, superseded: [] }), 'prepare');
});

test('a resync that comes before the first claim replaces what that claim finds', () => {
  const asked = lifecycle.resyncWished(recorded(newLifecycle(T0)), null, T1);
  const found = recorded(lifecycle.claimed(asked, claim));
  assert.equal(nextStep(found), 'claim');
  assert.equal(lifecycle.replacedBy(found), member.incarnation);
  const nothing = recorded(lifecycle.claimed(asked, { ...claim, member: null }));
  assert.equal(nextStep(nothing), 'prepare');
});

test('a step that failed for good is not taken again before a command', () => {
  const lost = (life: Lifecycle): Lifecycle => lifecycle.claimWasLost(life);
  const starting: readonly (readonly [Step, Lifecycle])[] = [
    ['claim', lost(running())],
    ['claim', recorded(lifecycle.resyncWished(running(), null, T1))],
    ['claim', lifecycle.daemonSilent(running())],
    ['record', lifecycle.pauseWished(running(), null, T1)],
    ['record', lifecycle.stopWished(running(), T1)],
    ['prepare', recorded(lifecycle.claimed(newLifecycle(T0), claim))],
    ['work', running()],
  ];
  for (const [step, life] of starting) {
    assert.equal(nextStep(life), step);
    let after = lifecycle.failed(life, problem('StoreBadUri'), T2, step);
    const steps: Step[] = [];
    for (let next = nextStep(after); next === 'record'; next = nextStep(after)) {
      steps.push(next);
      after = recorded(after);
    }
    if (step === 'record') assert.deepEqual(steps, []);
    assert.ok(['wait', 'end'].includes(nextStep(after)), `${step}: ${nextStep(after)}`);
    if (nextStep(after) === 'wait') {
      assert.notEqual(nextStep(recorded(lifecycle.resumeWished(after, T2))), 'wait', 'a command tries it again');
    }
  }
});

test('a lost claim is made anew before anything else, in every phase', () => {
  assert.equal(nextStep(lifecycle.claimWasLost(running())), 'claim');
  assert.equal(nextStep(lifecycle.claimWasLost(lifecycle.pauseWished(running(), null, T1))), 'claim');
});

test('stopping records the phase and ends, whatever went on', () => {
  for (const life of [running('sync'), running(), lifecycle.pauseWished(running(), null, T1)]) {
    const stopped = lifecycle.stopWished(life, T2);
    assert.equal(phaseOf(stopped), 'stopped');
    assert.equal(nextStep(stopped), 'record');
    assert.equal(nextStep(recorded(stopped)), 'end');
    assert.equal(lifecycle.resumeWished(stopped, T2), stopped);
  }
});
