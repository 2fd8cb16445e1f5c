/** Which snapshots are kept: the rules alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { baseOfEntries } from '../src/oplogstore/keep.ts';
import { compareOptimes } from '../src/shared/optime.ts';
import { pinsOf, retentionOf, type Keep, type RetainedSnapshot } from '../src/retention/plan.ts';

const HOUR_MS = 3_600_000;
const NOW = new Date('2026-06-17T12:00:00Z');

function snapshotAt(wall: string | Date, more: Partial<RetainedSnapshot> = {}): RetainedSnapshot {
  const wallTime = new Date(wall);
  const ts = { t: wallTime.getTime() / 1000, i: 1 };
  const id = wallTime.toISOString().slice(0, 16);
  return {
    ...{ id, incarnation: 'a', optime: ts, oplogFrom: { ts, term: 1 }, wallTime, good: true, held: false },
    ...more,
  };
}

/** Every six hours, the newest at noon of the seventeenth. */
function everySixHours(count: number): RetainedSnapshot[] {
  return Array.from({ length: count }, (_, n) => snapshotAt(new Date(NOW.getTime() - n * 6 * HOUR_MS)));
}

function keptFor(
  snapshots: readonly RetainedSnapshot[],
  keep: Keep | null,
  more: { readonly windowMs?: number; readonly incarnation?: string | null } = {},
): Map<string, readonly string[]> {
  const question = { snapshots, keep, windowMs: 0, now: NOW, incarnation: 'a', bases: [], ...more };
  return new Map(retentionOf(question).snapshots.map((one) => [one.id, one.keptFor]));
}

function stay(kept: ReadonlyMap<string, readonly string[]>): string[] {
  return [...kept].filter(([, what]) => what.length > 0).map(([id]) => id);
}

test('without a word in the configuration every snapshot stays', () => {
  assert.equal(stay(keptFor(everySixHours(100), null)).length, 100);
});

test('each tier keeps the newest of each of its last periods', () => {
  const kept = keptFor(everySixHours(200), { latest: 2, daily: 3, weekly: 2, monthly: 2, yearly: 1 });
  assert.deepEqual(Object.fromEntries([...kept].filter(([, what]) => what.length > 0)), {
    '2026-06-17T12:00': ['last good', 'latest', 'daily', 'weekly', 'monthly', 'yearly'],
    '2026-06-17T06:00': ['latest'],
    '2026-06-16T18:00': ['daily'],
    '2026-06-15T18:00': ['daily'],
    '2026-06-14T18:00': ['weekly'],
    '2026-05-31T18:00': ['monthly'],
  });
});

test('a week begins on Monday, also over the end of a year', () => {
  const days = ['2026-12-31', '2027-01-01', '2027-01-03', '2027-01-04'].map((day) => snapshotAt(`${day}T00:00:00Z`));
  assert.deepEqual(stay(keptFor(days, { weekly: 2 })), ['2027-01-04T00:00', '2027-01-03T00:00']);
});

test('periods without a snapshot take no place', () => {
  const days = ['2026-01-01', '2026-03-01', '2026-06-01'].map((day) => snapshotAt(`${day}T00:00:00Z`));
  assert.equal(stay(keptFor(days, { daily: 3 })).length, 3);
});

test('a held snapshot stays for ever', () => {
  const [newest, ...others] = everySixHours(3);
  const oldest = snapshotAt('2020-01-01T00:00:00Z', { held: true });
  assert.deepEqual(stay(keptFor([newest ?? oldest, ...others, oldest], { latest: 1 })), [newest?.id, oldest.id]);
});

test('the last good snapshot stays, whatever is newer, and one that differs takes no place of a tier', () => {
  const bad = everySixHours(3).map((one) => ({ ...one, good: false }));
  const good = snapshotAt('2026-06-01T00:00:00Z');
  const older = snapshotAt('2026-05-01T00:00:00Z');
  assert.deepEqual(stay(keptFor([...bad, good, older], { latest: 1 })), [...bad.map(({ id }) => id), good.id]);
});

test('one that differs goes once enough good ones are newer', () => {
  const [first, second] = everySixHours(2);
  const bad = snapshotAt('2026-06-01T00:00:00Z', { good: false });
  assert.deepEqual(stay(keptFor([first ?? bad, second ?? bad, bad], { latest: 2 })), [first?.id, second?.id]);
});

test('when none is good the newest stays', () => {
  const bad = everySixHours(2).map((one) => ({ ...one, good: false }));
  assert.deepEqual(stay(keptFor(bad, { daily: 0, latest: 0 })), ['2026-06-17T12:00']);
});

test('what the window rests on stays: the newest that is as old as it', () => {
  const kept = keptFor(everySixHours(20), { latest: 1 }, { windowMs: 25 * HOUR_MS });
  assert.deepEqual(stay(kept), ['2026-06-17T12:00', '2026-06-16T12:00', '2026-06-16T06:00']);
});

test('what the entries rest on moves on: however few snapshots are kept, it is never much older than the window', () => {
  for (const [hours, latest, windowHours] of [
    [6, 3, 24],
    [1, 24, 24],
    [24, 1, 24],
    [2, 1, 24],
  ] as const) {
    const windowMs = windowHours * HOUR_MS;
    let snapshots: RetainedSnapshot[] = [];
    for (let hour = 0; hour < 40 * 24; hour += hours) {
      const now = new Date(NOW.getTime() + hour * HOUR_MS);
      snapshots = [...snapshots, snapshotAt(now)];
      const base = baseOfEntries({ windowMs, now, snapshots }, { ts: { t: 0, i: 0 }, term: 1 });
      const question = { snapshots, keep: { latest }, windowMs, now, incarnation: 'a', bases: base ? [base.id] : [] };
      const kept = new Set(retentionOf(question).snapshots.flatMap((one) => (one.keptFor.length > 0 ? [one.id] : [])));
      snapshots = snapshots.filter(({ id }) => kept.has(id));
      const age = now.getTime() - (base?.wallTime.getTime() ?? 0);
      assert.ok(age <= 2 * windowMs + hours * HOUR_MS, `${age / HOUR_MS} hours, with one every ${hours}`);
    }
    assert.ok(snapshots.length <= latest + 3, `${snapshots.length} are kept`);
  }
});

test('what the stored entries rest on is pinned whatever the window is said to be', () => {
  const pins = pinsOf({
    snapshots: everySixHours(5),
    windowMs: 0,
    now: NOW,
    incarnation: 'a',
    bases: ['2026-06-16T18:00'],
  });
  assert.deepEqual(pins.get('2026-06-16T18:00'), ['restores to a point in time']);
});

test('what comes behind a place that no replay goes beyond rests on the next snapshot, which is pinned', () => {
  const snapshots = everySixHours(8);
  const [stop] = snapshots.filter(({ id }) => id === '2026-06-16T18:00').map(({ optime }) => optime);
  assert.ok(stop);
  const question = { snapshots, windowMs: 48 * HOUR_MS, now: NOW, incarnation: 'a', bases: [] };
  const before = [...pinsOf(question).keys()];
  const behind = snapshots.filter(({ optime }) => compareOptimes(optime, stop) > 0);
  const oldest = behind.toSorted((a, b) => compareOptimes(a.optime, b.optime))[0];
  assert.ok(oldest && !before.includes(oldest.id));
  assert.deepEqual(pinsOf({ ...question, stops: [stop] }).get(oldest.id), ['restores to a point in time']);
});

test('entries rest on a snapshot that they go on from: when the window is made longer, on the same as before', () => {
  const snapshots = everySixHours(40);
  const begin = { ts: snapshots[5]?.optime ?? { t: 0, i: 0 }, term: 1 };
  const [day, week] = [24, 7 * 24].map((hours) =>
    baseOfEntries({ windowMs: hours * HOUR_MS, now: NOW, snapshots }, begin),
  );
  assert.deepEqual([day?.id, week?.id], ['2026-06-16T12:00', '2026-06-16T06:00']);
  assert.equal(baseOfEntries({ windowMs: 0, now: NOW, snapshots }, begin), undefined);
});

test('a backup that is younger than its window keeps the snapshot that its entries begin at', () => {
  const before = snapshotAt('2026-06-10T00:00:00Z', { incarnation: 'before a resync' });
  const kept = keptFor([...everySixHours(3), before], { latest: 1 }, { windowMs: 24 * HOUR_MS });
  assert.deepEqual(kept.get('2026-06-17T00:00'), ['restores to a point in time']);
  assert.deepEqual(kept.get(before.id), ['restores to a point in time']);
});

test('whatever the tiers are, a pinned snapshot stays and as many of each tier as it says, where there are as many', () => {
  const tiers = fc.record(
    { latest: fc.nat(5), daily: fc.nat(5), weekly: fc.nat(5), monthly: fc.nat(5), yearly: fc.nat(5) },
    { requiredKeys: [] },
  );
  const hours = fc.uniqueArray(fc.nat(20_000), { minLength: 1, maxLength: 60 });
  const flags = fc.array(fc.record({ good: fc.boolean(), held: fc.boolean() }), { minLength: 60, maxLength: 60 });
  const window = fc.constantFrom(0, 24 * HOUR_MS, 1_000 * HOUR_MS);
  fc.assert(
    fc.property(tiers, hours, flags, window, (keep, ages, marks, windowMs) => {
      const snapshots = ages.map((age, n) => snapshotAt(new Date(NOW.getTime() - age * HOUR_MS), marks[n]));
      const question = { snapshots, windowMs, now: NOW, incarnation: 'a', bases: [] };
      const kept = new Map(retentionOf({ ...question, keep }).snapshots.map((one) => [one.id, one.keptFor]));
      for (const [id, pins] of pinsOf(question)) {
        for (const pin of pins) assert.ok(kept.get(id)?.includes(pin), `${id} ${pin}`);
      }
      const good = snapshots.filter((one) => one.good);
      const countOf = (tier: string): number =>
        [...kept.values()].filter((what) => what.includes(tier as never)).length;
      assert.equal(countOf('latest'), Math.min(keep.latest ?? 0, good.length));
      const days = new Set(good.map(({ wallTime }) => wallTime.toISOString().slice(0, 10)));
      assert.equal(countOf('daily'), Math.min(keep.daily ?? 0, days.size));
      assert.ok(stay(kept).length >= 1);
    }),
  );
});
