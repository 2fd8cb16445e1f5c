/** Speeds and remaining times that are those of now. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Meter } from '../src/shared/meter.ts';
import { Pace, secondsLeft } from '../src/shared/pace.ts';

function clock() {
  let now = 5_000_000;
  return {
    read: () => now,
    pass: (ms: number): void => {
      now += ms;
    },
  };
}

test('a source that slows down is seen within half a minute, however fast it was before', () => {
  const { read, pass } = clock();
  const pace = new Pace(read);
  for (let second = 0; second < 600; second += 1) {
    pass(1_000);
    pace.add(100);
  }
  assert.equal(Math.round(pace.perSecond()!), 103);
  for (let second = 0; second < 31; second += 1) {
    pass(1_000);
    pace.add(10);
  }
  assert.ok(pace.perSecond()! < 11);
});

test('work that has come to a stop has the speed 0 and no end', () => {
  const { read, pass } = clock();
  const meter = new Meter('copy', 'bytes', 1_000, { clock: read });
  pass(2_000);
  assert.deepEqual([meter.add(500).perSecond, meter.now().etaSeconds], [250, 2]);
  pass(31_000);
  assert.deepEqual([meter.now().perSecond, meter.now().etaSeconds], [0, null]);
});

test('no speed is made up in the first second', () => {
  const { read, pass } = clock();
  const pace = new Pace(read);
  pace.add(1_000_000);
  pass(999);
  assert.equal(pace.perSecond(), null);
  pass(1);
  assert.equal(pace.perSecond(), 1_000_000);
});

test('what earlier runs did is done, and makes nothing faster', () => {
  const { read, pass } = clock();
  const meter = new Meter('load', 'bytes', 1_000, { clock: read, done: 300 });
  meter.skip(200);
  pass(10_000);
  assert.deepEqual(meter.add(100), {
    stage: 'load',
    done: 600,
    total: 1_000,
    unit: 'bytes',
    perSecond: 10,
    etaSeconds: 40,
  });
});

test('an estimate that turns out too small grows with what is done', () => {
  const meter = new Meter('copy', 'bytes', 100);
  const { done, total, etaSeconds } = meter.add(150);
  assert.deepEqual({ done, total, etaSeconds }, { done: 150, total: 150, etaSeconds: 0 });
});

test('many small amounts are kept as few', () => {
  const { read, pass } = clock();
  const pace = new Pace(read);
  for (let at = 0; at < 100_000; at += 1) {
    pass(1);
    pace.add(1);
  }
  assert.ok(Math.abs(pace.perSecond()! - 1_000) < 20);
});

test('the time left needs a speed, and nothing left takes no time', () => {
  assert.equal(secondsLeft(10, null), null);
  assert.equal(secondsLeft(10, 0), null);
  assert.equal(secondsLeft(0, null), 0);
  assert.equal(secondsLeft(10, 4), 3);
});
