/** Limits on reading, as rules; test/copy-limits.test.ts holds them against a real source. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteBudget } from '../src/shared/budget.ts';
import { Crew } from '../src/shared/crew.ts';
import { TokenBucket } from '../src/shared/token-bucket.ts';

/** A clock that is turned by hand. */
function handClock(): { now: () => number; turn: (ms: number) => void } {
  let at = 1_000;
  return { now: () => at, turn: (ms) => (at += ms) };
}

/** Takes helpings of that size as soon as each may be taken; how many tokens a second were taken. */
function takenPerSecond(bucket: TokenBucket, clock: ReturnType<typeof handClock>, size: number, ms: number): number {
  let taken = 0;
  const end = clock.now() + ms;
  for (;;) {
    clock.turn(bucket.waitMs());
    if (clock.now() >= end) return (taken * 1000) / (clock.now() - end + ms);
    bucket.take(size);
    taken += size;
  }
}

test('whatever the size of the helpings, the average keeps to the rate', () => {
  for (const size of [10, 999, 10_000]) {
    const clock = handClock();
    const rate = takenPerSecond(new TokenBucket(clock.now, 1_000), clock, size, 60_000);
    assert.ok(rate > 980 && rate <= 1_010, `${size}: ${rate}`);
  }
});

test('a pause saves up no more than a burst', () => {
  const clock = handClock();
  const bucket = new TokenBucket(clock.now, 1_000);
  clock.turn(3_600_000);
  bucket.take(250);
  assert.equal(bucket.waitMs(), 0);
  bucket.take(1_000);
  assert.equal(bucket.waitMs(), 1_000);
});

test('a rate that is changed holds from then on, for what is owed as well; without one nothing is waited for', () => {
  const clock = handClock();
  const bucket = new TokenBucket(clock.now, 1_000);
  bucket.take(10_250);
  assert.equal(bucket.waitMs(), 10_000);
  clock.turn(5_000);
  bucket.setRate(10_000);
  assert.equal(bucket.waitMs(), 500);
  bucket.setRate(null);
  assert.equal(bucket.waitMs(), 0);
  bucket.take(1e9);
  assert.equal(bucket.waitMs(), 0);
  bucket.setRate(1_000);
  assert.equal(bucket.waitMs(), 0);
});

test('what was taken and not needed is given back', () => {
  const clock = handClock();
  const bucket = new TokenBucket(clock.now, 1_000);
  bucket.take(5_250);
  assert.equal(bucket.waitMs(), 5_000);
  bucket.take(-5_000);
  assert.equal(bucket.waitMs(), 0);
});

test('a budget that is made larger lets the next one in, and one made smaller none until enough was given back', async () => {
  const { signal } = new AbortController();
  const budget = new ByteBudget(10);
  await budget.take(10, signal);
  let let_in = 0;
  const second = budget.take(10, signal).then(() => (let_in += 1));
  await Promise.resolve();
  assert.equal(let_in, 0);
  budget.setBound(20);
  await second;
  budget.setBound(10);
  const third = budget.take(5, signal).then(() => (let_in += 1));
  budget.adjust(-10);
  await new Promise(setImmediate);
  assert.equal(let_in, 1, 'ten are held still');
  budget.adjust(-5);
  await third;
  assert.equal(let_in, 2);
});

test('a crew grows and shrinks while it works, does every task once, and is never without a worker', async () => {
  let [next, now, most] = [0, 0, 0];
  const crew: Crew = new Crew(async () => {
    if (next >= 60) return false;
    next += 1;
    now += 1;
    most = Math.max(most, now);
    await new Promise(setImmediate);
    now -= 1;
    if (next === 20) {
      assert.equal(most, 2);
      crew.resize(5);
    }
    if (next === 40) {
      assert.equal(most, 5);
      crew.resize(1);
    }
    if (next === 50) most = 0;
    return true;
  });
  crew.resize(2);
  await crew.ended();
  assert.deepEqual([next, now, most], [60, 0, 1]);
});
