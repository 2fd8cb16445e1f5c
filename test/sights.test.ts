/** What a workflow is shown of its activities while they run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sights } from '../src/activities/sights.ts';
import { LifeboatError } from '../src/shared/errors.ts';
import type { Progress } from '../src/shared/messages.ts';
import { lookAfter } from '../src/workflows/observing.ts';

const { signal } = new AbortController();

function progress(stage: string): Progress {
  return { stage, done: 1, total: 2, unit: 'bytes', perSecond: null, etaSeconds: null };
}

test('what people wait for first is seen first, and what has ended no more', () => {
  const sights = new Sights();
  const build = sights.observer('backup/shop', 'buildHead');
  const copy = sights.observer('backup/shop', 'copySource');
  build.progress?.(progress('load'));
  copy.progress?.(progress('copy'));
  sights.observer('backup/other', 'copySource').progress?.(progress('other'));
  const stages = (): string[] => sights.of('backup/shop').working.map(({ stage }) => stage);
  assert.deepEqual(stages(), ['copy', 'load']);
  copy.ended?.();
  assert.deepEqual(stages(), ['load']);
});

test('trouble is seen from the attempt that failed until one goes well, and since when', () => {
  const sights = new Sights();
  const first = sights.observer('backup/shop', 'tailOplog');
  first.troubled?.(new LifeboatError('SourceUnavailable', 'no member answers'));
  first.ended?.();
  const { trouble } = sights.of('backup/shop');
  assert.equal(trouble?.code, 'LB2002');
  const second = sights.observer('backup/shop', 'tailOplog');
  second.troubled?.(new LifeboatError('SourceUnavailable', 'no member answers'));
  assert.equal(sights.of('backup/shop').trouble?.since, trouble.since);
  second.well?.();
  assert.equal(sights.of('backup/shop').trouble, null);
});

test('who looks is told when the last activity ends, without waiting', async () => {
  const sights = new Sights();
  const observer = sights.observer('snapshot/shop/1', 'takeSnapshot');
  observer.progress?.(progress('snapshot'));
  const shown = sights.of('snapshot/shop/1');
  const next = sights.next('snapshot/shop/1', shown, 3_600_000, signal);
  observer.ended?.();
  assert.deepEqual(await next, { working: [], trouble: null });
});

test('who looks is told what there is when the time is over, and ends with its own cancellation', async () => {
  const sights = new Sights();
  sights.observer('backup/shop', 'copySource').progress?.(progress('copy'));
  assert.deepEqual((await sights.next('backup/shop', null, 0, signal)).working, [progress('copy')]);
  const cancelled = new AbortController();
  const next = sights.next('backup/shop', null, 3_600_000, cancelled.signal);
  cancelled.abort(new Error('cancelled'));
  await assert.rejects(next, /cancelled/);
});

test('looks come ever more seldom, and fewer than twenty-five in any later hour', () => {
  let passed = 0;
  const looks: number[] = [];
  while (passed < 4 * 3_600_000) {
    passed += lookAfter(passed);
    looks.push(passed);
  }
  assert.equal(looks[0], 15_000);
  const inHour = (hour: number): number => looks.filter((at) => Math.floor(at / 3_600_000) === hour).length;
  assert.ok(inHour(0) < 60, `${inHour(0)}`);
  for (const hour of [1, 2, 3]) assert.ok(inHour(hour) < 25, `${inHour(hour)}`);
});
