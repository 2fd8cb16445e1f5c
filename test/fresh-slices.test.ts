/** Slices handed from a copy to the head that is built beside it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Binary, ObjectId } from 'mongodb';
import type { SliceRecord } from '../src/stores/records.ts';
import { FreshSlices, type FreshSlice } from '../src/syncstore/fresh-slices.ts';

const incarnation = new ObjectId();
const [a, b] = [1, 2].map((n) => new Binary(Buffer.alloc(16, n), Binary.SUBTYPE_UUID)) as [Binary, Binary];

function sliceOf(
  uuid: Binary,
  seq: number,
  bytes = 10,
): { id: SliceRecord['_id']; slice: FreshSlice; freed: string[] } {
  const freed: string[] = [];
  const slice = { bytes: Buffer.alloc(bytes, seq), release: () => freed.push(`slice ${seq}`) };
  return { id: { incarnation, uuid, seq }, slice, freed };
}

const { signal } = new AbortController();
/** The runner does not wait that long. */
const LONG_MS = 600_000;

test('a slice is held only while a head is loaded, and given to it once', async () => {
  const fresh = new FreshSlices();
  const [early, late] = [sliceOf(a, 0), sliceOf(a, 1)];
  await fresh.offer(early.id, early.slice, signal);
  assert.deepEqual(early.freed, ['slice 0']);
  using expected = new DisposableStack();
  expected.use(fresh.expect());
  await fresh.offer(late.id, late.slice, signal);
  assert.equal(fresh.take(late.id)?.bytes, late.slice.bytes);
  assert.equal(fresh.take(late.id), undefined);
  assert.deepEqual(late.freed, []);
});

test('a copy waits for the head when it is ahead by more than the bound, and goes on when a slice is taken', async () => {
  const fresh = new FreshSlices({ mostBytes: 25, patienceMs: LONG_MS });
  using expected = new DisposableStack();
  expected.use(fresh.expect());
  const [first, second, third] = [sliceOf(a, 0), sliceOf(b, 0), sliceOf(a, 1)];
  for (const { id, slice } of [first, second]) await fresh.offer(id, slice, signal);
  let isThrough = false;
  const offering = fresh.offer(third.id, third.slice, signal).then(() => (isThrough = true));
  await setImmediate();
  assert.equal(isThrough, false);
  fresh.take(first.id);
  await offering;
  assert.equal(fresh.take(third.id)?.bytes, third.slice.bytes);
});

test('a slice that the copy waits for can be taken itself', async () => {
  const fresh = new FreshSlices({ mostBytes: 5, patienceMs: LONG_MS });
  using expected = new DisposableStack();
  expected.use(fresh.expect());
  const { id, slice } = sliceOf(a, 0);
  const offering = fresh.offer(id, slice, signal);
  assert.equal(fresh.take(id)?.bytes, slice.bytes);
  await offering;
});

test('a head that is slow for too long reads from the store: the copy goes on without it', async () => {
  const fresh = new FreshSlices({ mostBytes: 5, patienceMs: 1 });
  using expected = new DisposableStack();
  expected.use(fresh.expect());
  const { id, slice, freed } = sliceOf(a, 0);
  await fresh.offer(id, slice, signal);
  assert.deepEqual(freed, ['slice 0']);
  assert.equal(fresh.take(id), undefined);
});

test('a slice that was passed over makes room, and none is left when the loading ends', async () => {
  const fresh = new FreshSlices();
  const [first, other, second, late] = [sliceOf(a, 0), sliceOf(b, 0), sliceOf(a, 1), sliceOf(a, 1)];
  {
    using expected = new DisposableStack();
    expected.use(fresh.expect());
    for (const { id, slice } of [first, other, second]) await fresh.offer(id, slice, signal);
    assert.equal(fresh.take({ incarnation, uuid: a, seq: 2 }), undefined);
    assert.deepEqual([first.freed, second.freed, other.freed], [['slice 0'], ['slice 1'], []]);
    await fresh.offer(late.id, late.slice, signal);
    assert.deepEqual(late.freed, ['slice 1']);
  }
  assert.deepEqual(other.freed, ['slice 0']);
});

test('a copy that waits ends with its signal, and with the loading', async () => {
  const fresh = new FreshSlices({ mostBytes: 5, patienceMs: LONG_MS });
  const stop = new AbortController();
  const [first, second] = [sliceOf(a, 0), sliceOf(b, 0)];
  const expected = fresh.expect();
  const stopped = fresh.offer(first.id, first.slice, stop.signal);
  stop.abort(new Error('stop'));
  await assert.rejects(stopped, { message: 'stop' });
  const offering = fresh.offer(second.id, second.slice, signal);
  expected[Symbol.dispose]();
  await offering;
});

test('whoever waits for slices hears that there is much to load', async () => {
  const fresh = new FreshSlices({ mostBytes: 25 });
  using expected = new DisposableStack();
  expected.use(fresh.expect());
  const { filled } = fresh;
  for (const { id, slice } of [sliceOf(a, 0), sliceOf(b, 0)]) await fresh.offer(id, slice, signal);
  await fresh.wait(signal, LONG_MS, filled);
});
