/** What the checks before a backup decide, on facts as servers give them; and the facts of this machine. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { whatItLacks } from '../src/mongod/binary.ts';
import { checkDisk } from '../src/preflight/disk.ts';
import { checkOf, type Finding } from '../src/preflight/finding.ts';
import { folderBytes, freeBytes, openFileLimit } from '../src/preflight/machine-facts.ts';
import { checkMembers, type SetState } from '../src/preflight/members.ts';
import { checkMongod, VERIFIED_VERSIONS } from '../src/preflight/mongod.ts';
import { checkOpenFiles } from '../src/preflight/open-files.ts';
import { checkOplogWindow } from '../src/preflight/oplog-window.ts';
import { checkPointInTime } from '../src/preflight/point-in-time.ts';
import { LifeboatError } from '../src/shared/errors.ts';
import { oplogWindow, secondsLeft, type OplogExtent } from '../src/source/oplog-window.ts';
import { judgeOplog } from '../src/steps/watch-oplog.ts';
import { judgedWarnings } from '../src/stores/warnings.ts';
import { testFolder } from './support/folders.ts';

const HOUR = 3600;
const GB = 1e9;

/** Level and kind of error. */
function outcome({ level, error }: Finding): string {
  return error ? `${level} ${error.kind}` : level;
}

function extent(hours: number, share: number, more: Partial<OplogExtent> = {}): OplogExtent {
  const newest = { t: 2_000_000_000, i: 1 };
  const oldest = { t: newest.t - hours * HOUR, i: 1 };
  return { oldest, newest, usedBytes: share * GB, maxBytes: GB, minRetentionHours: 0, ...more };
}

test('the window of an oplog is what it holds, or will hold at its rate once it is full', () => {
  assert.deepEqual(oplogWindow(extent(5, 1)), { spanSeconds: 5 * HOUR, windowSeconds: 5 * HOUR, full: true });
  assert.deepEqual(oplogWindow(extent(2, 0.25)), { spanSeconds: 2 * HOUR, windowSeconds: 8 * HOUR, full: false });
  assert.equal(oplogWindow(extent(2, 1, { minRetentionHours: 12 })).windowSeconds, 12 * HOUR);
  assert.equal(oplogWindow(extent(0, 0)).windowSeconds, 0);
});

test('an oplog that holds less than is asked for is refused, and one too young to tell is not', () => {
  const check = (found: OplogExtent, least = 3): string => outcome(checkOplogWindow('a:1', found, least * HOUR * 1000));
  assert.equal(check(extent(5, 1)), 'passed');
  assert.equal(check(extent(2, 1)), 'failed OplogWindowTooShort');
  assert.equal(check(extent(2, 0.8)), 'failed OplogWindowTooShort');
  assert.equal(check(extent(2, 0.25)), 'passed');
  assert.equal(check(extent(0.1, 0.8)), 'passed');
  assert.equal(check(extent(0.1, 1)), 'failed OplogWindowTooShort');
  assert.equal(check(extent(2, 1, { minRetentionHours: 4 })), 'passed');
  assert.equal(check(extent(0.1, 1), 0), 'passed');
  assert.match(checkOplogWindow('a:1', extent(2, 0.8), 3 * HOUR * 1000).detail, /a:1 holds 2 h 30 min when it is full/);
});

test('a mongod that cannot delete from capped collections, as its source does, is refused', () => {
  for (const version of ['5.0.0', '5.0.6']) assert.match(whatItLacks(version) ?? '', /5\.0\.7 or newer/);
  for (const version of ['4.4.2', '5.0.7', '5.0.32', '6.0.0', '7.0.1']) assert.equal(whatItLacks(version), undefined);
});

test('what is left of an oplog shrinks with every hour that is not read', () => {
  const read = (hoursAgo: number) => ({ t: 2_000_000_000 - hoursAgo * HOUR, i: 1 });
  assert.equal(secondsLeft(extent(5, 1), read(0)), 5 * HOUR);
  assert.equal(secondsLeft(extent(5, 1), read(4)), HOUR);
  assert.equal(secondsLeft(extent(2, 0.25), read(2)), 6 * HOUR);
  assert.equal(secondsLeft(extent(5, 1), read(6)), -HOUR);
  const codes = (found: OplogExtent, hoursAgo: number): string[] =>
    judgeOplog('a:1', found, read(hoursAgo), 3 * HOUR * 1000).found.map(({ kind }) => kind);
  assert.deepEqual(codes(extent(5, 1), 1), []);
  assert.deepEqual(codes(extent(5, 1), 3), ['OplogRunningOut']);
  assert.deepEqual(codes(extent(5, 1), 6), ['OplogRunningOut']);
  assert.deepEqual(codes(extent(2, 1), 0), ['OplogWindowTooShort']);
  assert.deepEqual(codes(extent(0.1, 0.8), 0), []);
});

test('a warning keeps its beginning while it stays, and goes away when it is judged anew and not found', () => {
  const [t0, t1] = [new Date(0), new Date(1000)];
  const short = new LifeboatError('OplogWindowTooShort', 'one');
  const disk = { code: 'LB4012', message: 'tight', fix: 'free some', since: t0 };
  const judged = [short.code];
  const first = judgedWarnings([disk], { judged, found: [short] }, t0);
  assert.deepEqual(
    first.map(({ code }) => code),
    ['LB4012', short.code],
  );
  const again = judgedWarnings(first, { judged, found: [new LifeboatError('OplogWindowTooShort', 'two')] }, t1);
  assert.deepEqual([again[1]?.message, again[1]?.since], ['two', t0]);
  assert.deepEqual(judgedWarnings(again, { judged, found: [] }, t1), [disk]);
});

const set: SetState = {
  name: 'shop',
  setName: 'rs0',
  version: '6.0.5',
  featureCompatibilityVersion: '6.0',
  members: [],
  readFrom: 'secondaryPreferred',
  readHost: 'b:1',
};

function withStates(...states: string[]): SetState {
  return { ...set, members: states.map((state, n) => ({ host: `${'abc'.charAt(n)}:1`, state })) };
}

test('a member that is not well is named, and a set without a primary is not backed up', () => {
  assert.equal(outcome(checkMembers(withStates('PRIMARY', 'SECONDARY', 'ARBITER'))), 'passed');
  assert.equal(outcome(checkMembers(withStates('PRIMARY'))), 'passed');
  for (const state of ['RECOVERING', 'ROLLBACK', 'STARTUP2', 'DOWN', 'REMOVED', 'UNKNOWN']) {
    const finding = checkMembers(withStates('PRIMARY', 'SECONDARY', state));
    assert.equal(outcome(finding), 'warning MemberNotHealthy');
    assert.match(finding.detail, new RegExp(`c:1 is ${state}; read from b:1`));
  }
  assert.equal(outcome(checkMembers(withStates('SECONDARY', 'SECONDARY'))), 'failed SourceNotReady');
});

test('a disk that cannot hold the head is refused, and one that hardly can is warned of', () => {
  const check = (free: number, begun = false, head = 0): string =>
    outcome(checkDisk({ path: '/d', freeBytes: free * GB, headBytes: head * GB, sourceBytes: 10 * GB }, begun));
  assert.equal(check(20), 'passed');
  assert.equal(check(12), 'warning DiskTooSmall');
  assert.equal(check(9), 'failed DiskTooSmall');
  // A head that is there is grown into.
  assert.equal(check(2, true, 10), 'passed');
  assert.equal(check(1, true, 10), 'warning DiskTooSmall');
});

test('a limit of open files that the head exceeds is refused', () => {
  const check = (limit: number | null): string => outcome(checkOpenFiles({ limit, collections: 1000, indexes: 3000 }));
  assert.deepEqual([check(null), check(64_000)], ['passed', 'passed']);
  assert.equal(check(5000), 'warning OpenFilesTooFew');
  assert.equal(check(4096), 'failed OpenFilesTooFew');
});

test('a version that the tests do not run needs to be allowed, and is warned of then', () => {
  const check = (version: string, allowUnverified = false): string =>
    outcome(
      checkMongod({ version, featureCompatibilityVersion: '6.0', binary: { value: '/bin/mongod' }, allowUnverified }),
    );
  for (const version of VERIFIED_VERSIONS) assert.equal(check(`${version}.1`), 'passed');
  for (const version of ['4.2.9', '7.0.2', '8.0.1', '6.3.0']) {
    assert.equal(check(version), 'failed VersionUnverified');
    assert.equal(check(version, true), 'warning VersionUnverified');
  }
  const missing = { error: new LifeboatError('UnsupportedVersion', 'another') };
  const facts = { featureCompatibilityVersion: '6.0', binary: missing, allowUnverified: true };
  assert.equal(outcome(checkMongod({ version: '6.0.5', ...facts })), 'failed UnsupportedVersion');
  assert.equal(outcome(checkMongod({ version: '7.0.5', ...facts })), 'failed UnsupportedVersion');
});

test('a window of nothing is said plainly', () => {
  assert.equal(outcome(checkPointInTime(1000)), 'passed');
  const check = checkOf(checkPointInTime(0), 'shop');
  assert.deepEqual([check.ok, check.level, check.deployment], [true, 'warning', 'shop']);
  assert.match(check.detail, /a lost daemon costs a new initial sync/);
});

test('the machine tells its free disk, the bytes of a folder and its limit of open files', async () => {
  await using folder = await testFolder();
  assert.ok((await freeBytes(folder.path)) > 0);
  assert.equal(await folderBytes(join(folder.path, 'none')), 0);
  await mkdir(join(folder.path, 'rs0', 'db'), { recursive: true });
  await writeFile(join(folder.path, 'rs0', 'db', 'a'), 'x'.repeat(1000));
  await writeFile(join(folder.path, 'b'), 'x'.repeat(24));
  assert.equal(await folderBytes(folder.path), 1024);
  const limit = await openFileLimit();
  assert.ok(limit === null || limit > 0);
  // What a process is started with is what the mongods that it starts get.
  const module = fileURLToPath(new URL('../src/preflight/machine-facts.ts', import.meta.url));
  const code = `import('${module}').then((m) => m.openFileLimit()).then((n) => console.log(n))`;
  const limited = `ulimit -n 400 && exec "${process.execPath}" -e "${code}"`;
  const { stdout } = await promisify(execFile)('/bin/sh', ['-c', limited]);
  assert.equal(stdout.trim(), '400');
});
