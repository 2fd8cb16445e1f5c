/** Which part of a head is compared next. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dueBytes, FIRST_ROUND, placeBehind, placeIn } from '../src/validation/rotation.ts';

const PLAN = { within: 4, leastBytes: 10 };
const COLLECTIONS = [{ uuid: 'cc' }, { uuid: 'aa' }, { uuid: 'bb' }];
const FROM = Buffer.from('bound');

test('each snapshot of a round is due its part, and what earlier ones did not get to', () => {
  assert.equal(dueBytes(FIRST_ROUND, 400, PLAN), 100);
  assert.equal(dueBytes({ ...FIRST_ROUND, snapshots: 1, bytes: 100 }, 400, PLAN), 100);
  assert.equal(dueBytes({ ...FIRST_ROUND, snapshots: 2, bytes: 0 }, 400, PLAN), 300, 'two of them compared nothing');
  assert.equal(dueBytes({ ...FIRST_ROUND, snapshots: 1, bytes: 390 }, 400, PLAN), 10, 'it is ahead of its plan');
});

test('the last snapshot of a round, and each one after it, is due all that is left, whatever was estimated', () => {
  assert.equal(dueBytes({ ...FIRST_ROUND, snapshots: 3, bytes: 400 }, 400, PLAN), Infinity);
  assert.equal(dueBytes({ ...FIRST_ROUND, snapshots: 9, bytes: 0 }, 400, PLAN), Infinity);
  assert.equal(dueBytes(FIRST_ROUND, 400, { within: 1, leastBytes: 10 }), Infinity);
});

test('a round goes through all collections in one order, and ends behind the last', () => {
  const seen: string[] = [];
  for (let at = placeIn(COLLECTIONS, null); at;) {
    seen.push(at.collection.uuid);
    const next = placeBehind(COLLECTIONS, at.collection.uuid);
    at = next ? placeIn(COLLECTIONS, next) : undefined;
  }
  assert.deepEqual(seen, ['aa', 'bb', 'cc']);
});

test('a round goes on in the middle of a collection, and at the begin of the next one when that is gone', () => {
  assert.deepEqual(placeIn(COLLECTIONS, { uuid: 'bb', from: FROM }), { collection: { uuid: 'bb' }, from: FROM });
  const without = COLLECTIONS.filter(({ uuid }) => uuid !== 'bb');
  assert.deepEqual(placeIn(without, { uuid: 'bb', from: FROM }), { collection: { uuid: 'cc' }, from: null });
  assert.equal(placeIn(without, { uuid: 'dd', from: null }), undefined);
});
