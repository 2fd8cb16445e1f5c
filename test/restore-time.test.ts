import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  baseFor,
  nearestTo,
  restorableRanges,
  type ReplayBase,
  type ReplayChain,
} from '../src/oplogstore/restorable.ts';
import { estimatedMs } from '../src/restore/preview.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import type { Optime, Position } from '../src/shared/optime.ts';
import { formatRestoreTime, lastOptimeOf, parseRestoreTime } from '../src/shared/restore-time.ts';

const T_2026 = Date.UTC(2026, 0, 31, 12, 0, 0) / 1000;

test('a time is an optime, or a second of ISO 8601 that names its zone', () => {
  assert.deepEqual(parseRestoreTime('1767225600,7'), { optime: { t: 1_767_225_600, i: 7 } });
  for (const text of [
    '2026-01-31T12:00:00Z',
    '2026-01-31t12:00:00z',
    '2026-01-31 12:00:00Z',
    '2026-01-31T12:00Z',
    '2026-01-31T12:00:00.999Z',
    '2026-01-31T13:00:00+01:00',
    '2026-01-31T13:00:00+0100',
    '2026-01-31T13:00:00+01',
    '2026-01-31T06:30:00-05:30',
    ' 2026-01-31T12:00:00Z ',
  ]) {
    assert.deepEqual(parseRestoreTime(text), { second: T_2026 }, text);
  }
  assert.deepEqual(parseRestoreTime('2024-02-29T00:00:00Z'), { second: Date.UTC(2024, 1, 29) / 1000 });
});

test('all of a second belongs to it, and nothing behind an optime does', () => {
  assert.deepEqual(lastOptimeOf({ second: 5 }), { t: 5, i: 0xffff_ffff });
  assert.deepEqual(lastOptimeOf({ optime: { t: 5, i: 2 } }), { t: 5, i: 2 });
  assert.equal(formatRestoreTime({ second: T_2026 }), '2026-01-31T12:00:00Z');
  assert.equal(formatRestoreTime({ optime: { t: 5, i: 2 } }), '5,2');
});

test('what is no time, or could be several, is refused', () => {
  for (const text of [
    '',
    'yesterday',
    '2026-01-31',
    '2026-01-31T12:00:00',
    '2026-02-30T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-31T24:00:01Z',
    '2026-01-31T12:60:00Z',
    '2026-01-31T12:00:61Z',
    '2026-01-31T12:00:00+25:00',
    '1960-01-01T00:00:00Z',
    '2200-01-01T00:00:00Z',
    '1767225600',
    '1767225600,',
    '99999999999,1',
    '1,99999999999',
    '1,2,3',
  ]) {
    assert.throws(
      () => parseRestoreTime(text),
      (error) => isLifeboatError(error, 'BadTime'),
      text,
    );
  }
  assert.throws(() => parseRestoreTime('2026-01-31T12:00:00'), /time zone/);
});

test('how long a restore takes is told by what others took, for each byte and each entry', () => {
  const plain = { bytes: 1_000, entriesReplayed: 0, durationMs: 100 };
  const replayed = { bytes: 1_000, entriesReplayed: 50, durationMs: 200 };
  assert.equal(estimatedMs([], { bytes: 1, entries: 0 }), null);
  assert.equal(estimatedMs([plain], { bytes: 5_000, entries: 0 }), 500);
  assert.equal(estimatedMs([plain], { bytes: 5_000, entries: 10 }), null);
  assert.equal(estimatedMs([plain, replayed], { bytes: 5_000, entries: 10 }), 520);
  // Of restores that all had entries, what they took in all for each byte is at least as much.
  assert.equal(estimatedMs([replayed], { bytes: 5_000, entries: 0 }), 1_000);
});

const at = (t: number, i = 1): Position => ({ ts: { t, i }, term: 1 });

function snapshot(id: string, t: number, more: Partial<ReplayBase> = {}): ReplayBase {
  return { id, incarnation: 'a', optime: { t, i: 1 }, oplogFrom: at(t), good: true, ...more };
}

function chain(first: number, last: number, stops: readonly Optime[] = []): ReplayChain {
  return { first: at(first), last: at(last), stops };
}

function rangesOf(
  snapshots: readonly ReplayBase[],
  chains: Record<string, ReplayChain>,
): (readonly [number, number])[] {
  const ranges = restorableRanges(snapshots, new Map(Object.entries(chains)));
  return ranges.map(({ from, to }) => [from.t, to.t]);
}

test('every optime from the first snapshot that entries lead on from, to the last entry, can be restored', () => {
  assert.deepEqual(rangesOf([snapshot('s2', 20), snapshot('s1', 10)], { a: chain(10, 35) }), [[10, 35]]);
  assert.deepEqual(rangesOf([], { a: chain(10, 35) }), []);
});

test('a snapshot whose entries are gone is a moment by itself, and one that differs is none', () => {
  const older = [snapshot('s1', 10), snapshot('s2', 20), snapshot('s3', 30)];
  assert.deepEqual(rangesOf(older, { a: chain(20, 35) }), [
    [10, 10],
    [20, 35],
  ]);
  assert.deepEqual(rangesOf(older, {}), [
    [10, 10],
    [20, 20],
    [30, 30],
  ]);
  assert.deepEqual(rangesOf([snapshot('s1', 10, { good: false })], { a: chain(5, 35) }), []);
  // Its oldest open transaction began before what is stored.
  assert.deepEqual(rangesOf([snapshot('s1', 10, { oplogFrom: at(4) })], { a: chain(5, 35) }), [[10, 10]]);
});

test('a gap lies between what the entries of one initial sync lead to and the next', () => {
  const both = [snapshot('s1', 10), snapshot('s2', 50, { incarnation: 'b' })];
  assert.deepEqual(rangesOf(both, { a: chain(10, 30), b: chain(45, 60) }), [
    [10, 30],
    [50, 60],
  ]);
});

test('an entry that cannot be replayed is a gap up to the next snapshot', () => {
  const stops = [{ t: 15, i: 1 }];
  assert.deepEqual(rangesOf([snapshot('s1', 10), snapshot('s2', 20)], { a: chain(10, 35, stops) }), [
    [10, 15],
    [20, 35],
  ]);
  // Of a snapshot that stands right before it nothing leads on.
  assert.deepEqual(rangesOf([snapshot('s1', 15)], { a: chain(10, 35, stops) }), [[15, 15]]);
});

test('a moment is restored from the newest snapshot that leads to it, and from none that differs', () => {
  const snapshots = [snapshot('s1', 10), snapshot('s2', 20), snapshot('s3', 25, { good: false })];
  const chains = new Map([['a', chain(10, 35)]]);
  const base = (t: number, i = 1): string | undefined => baseFor({ t, i }, snapshots, chains)?.id;
  assert.deepEqual(
    [base(10), base(19), base(20), base(24), base(25), base(26), base(35)],
    ['s1', 's1', 's2', 's2', 's2', 's2', 's2'],
  );
  assert.deepEqual([base(9), base(36), base(35, 2), base(10, 0)], [undefined, undefined, undefined, undefined]);
});

test('a moment that cannot be restored has its nearest neighbours that can', () => {
  const ranges = [
    { from: { t: 10, i: 1 }, to: { t: 15, i: 1 } },
    { from: { t: 20, i: 1 }, to: { t: 35, i: 1 } },
  ];
  assert.deepEqual(nearestTo({ t: 17, i: 1 }, ranges), { before: { t: 15, i: 1 }, after: { t: 20, i: 1 } });
  assert.deepEqual(nearestTo({ t: 5, i: 1 }, ranges), { before: null, after: { t: 10, i: 1 } });
  assert.deepEqual(nearestTo({ t: 99, i: 1 }, ranges), { before: { t: 35, i: 1 }, after: null });
});
