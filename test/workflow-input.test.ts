/** The one JSON object that each workflow takes, typed by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorKind, type ErrorName } from '../src/shared/errors.ts';
import {
  deploymentField,
  fieldsOf,
  reasonOf,
  refuseFields,
  restorePlanOf,
  shareField,
} from '../src/workflows/input.ts';

function refuses(kind: ErrorName, read: () => unknown, says: RegExp): void {
  assert.throws(read, (error: { type?: string; message: string }) => {
    assert.equal(error.type, errorKind(kind).code);
    assert.match(error.message, says);
    return true;
  });
}

test('anything but one JSON object is refused', () => {
  for (const input of [undefined, null, 'shop', 3, ['shop']]) {
    refuses('BadInput', () => fieldsOf('backup', input, ['deployment']), /one JSON object/);
  }
});

test('an unknown field is refused by its name', () => {
  refuses('BadInput', () => fieldsOf('backup', { deployment: 'shop', dryRun: true }, ['deployment']), /"dryRun"/);
});

test('a missing, empty or impossible deployment is refused', () => {
  for (const fields of [{}, { deployment: '' }, { deployment: 7 }, { deployment: 'Shop!' }]) {
    refuses('BadInput', () => deploymentField('backup', fields), /deployment/);
  }
});

test('a share that is no share is refused', () => {
  for (const sample of [0, -1, 1.5, NaN, '10%', null]) {
    refuses('BadInput', () => shareField('verifySnapshot', { sample }, 'sample'), /above 0 and up to 1/);
  }
  assert.equal(shareField('verifySnapshot', {}, 'sample'), undefined);
  assert.equal(shareField('verifySnapshot', { sample: 1 }, 'sample'), 1);
});

test('a restore of one snapshot, of a moment, and of the newest one into a directory is accepted', () => {
  assert.deepEqual(restorePlanOf({ deployment: 'shop', snapshot: 's1', to: 'dir:/restore/shop', daemon: 'd1' }), {
    deployment: 'shop',
    from: { snapshot: 's1' },
    path: '/restore/shop',
    daemon: 'd1',
    dryRun: false,
  });
  const base = { deployment: 'shop', to: 'dir:/restore' };
  assert.equal(restorePlanOf({ ...base, latest: true, dryRun: true }).dryRun, true);
  for (const at of ['1,1', '2026-01-31T12:00:00Z']) assert.deepEqual(restorePlanOf({ ...base, at }).from, { at });
  assert.equal(restorePlanOf({ ...base, latest: true }).from, 'latest');
});

test('a restore that is not built yet says so, and one that makes no sense is bad input', () => {
  const base = { deployment: 'shop', to: 'dir:/restore' };
  refuses('NotBuiltYet', () => restorePlanOf({ ...base, snapshot: 's', include: ['a.b'] }), /include/);
  refuses('NotBuiltYet', () => restorePlanOf({ ...base, snapshot: 's', to: 'archive:/x' }), /dir:PATH/);
  refuses('BadInput', () => restorePlanOf({ ...base, snapshot: 's', to: 'dir:x' }), /absolute/);
  refuses('BadInput', () => restorePlanOf(base), /exactly one/);
  refuses('BadInput', () => restorePlanOf({ ...base, snapshot: 's', at: '1,1' }), /exactly one/);
  refuses('BadInput', () => restorePlanOf({ ...base, latest: false }), /"latest"/);
  refuses('BadTime', () => restorePlanOf({ ...base, at: '2026-01-31T12:00:00' }), /time zone/);
});

test('updates take their reason or nothing', () => {
  assert.equal(reasonOf('pause', { reason: 'upgrade' }), 'upgrade');
  assert.equal(reasonOf('pause', {}), null);
  assert.equal(reasonOf('pause', undefined), null);
  refuses('BadInput', () => reasonOf('pause', { reason: 3 }), /reason/);
  refuses('BadInput', () => reasonOf('pause', { why: 'x' }), /"why"/);
  refuses('BadInput', () => refuseFields('resume', { reason: 'x' }), /"reason"/);
});
