/** Progress as people see it: on terminals of any width, and where there is none. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { test } from 'node:test';
import { liveLines, plainLine, progressLines, type View } from '../src/cli/progress.ts';
import { screenOf } from '../src/cli/screen.ts';
import type { Progress } from '../src/shared/messages.ts';

const copy: Progress = {
  stage: 'copy',
  done: 45_000_000,
  total: 100_000_000,
  unit: 'bytes',
  perSecond: 5_000_000,
  etaSeconds: 11,
};
const load: Progress = { ...copy, stage: 'load', total: null, etaSeconds: null };
const view: View = { phase: 'initial-sync', working: [copy, load], trouble: 'LB2002 no member answers' };
const look = { unicode: false, paint: (_style: string, text: string) => text };

/** A stream of that width; what was written to it. */
function terminal(columns: number, isTTY = true) {
  const stream = Object.assign(new PassThrough(), { isTTY, columns, rows: 24, hasColors: () => isTTY });
  return { stream: stream as unknown as NodeJS.WriteStream, text: (): string => String(stream.read() ?? '') };
}

test('an initial sync shows what goes on at once, each with its step, share, speed and time left', () => {
  assert.deepEqual(liveLines('the backup of shop', view, 12_000, 100, look), [
    'the backup of shop: initial-sync (12 s)',
    '  1/6 copy        #############-----------------   45%  45.0 MB of 100.0 MB, 5.0 MB/s, 11 s left',
    '  2/6 load        45.0 MB, 5.0 MB/s',
    '  LB2002 no member answers',
  ]);
});

test('no line is wider than its terminal: the bar goes first', () => {
  for (let columns = 20; columns <= 140; columns += 1) {
    for (const line of liveLines('the backup of shop', view, 12_000, columns, look)) {
      assert.ok(line.length <= columns, `${line.length} > ${columns}: ${line}`);
    }
  }
  const [narrow = ''] = progressLines([copy], true, 60, look);
  assert.doesNotMatch(narrow, /#/);
  assert.match(narrow, /45%/);
});

test('where there is no terminal it is one plain line', () => {
  assert.equal(
    plainLine('the backup of shop', view, 12_000),
    'the backup of shop: initial-sync; step 1 of 6: copy 45%, 45.0 MB of 100.0 MB, 5.0 MB/s, 11 s left; ' +
      'step 2 of 6: load, 45.0 MB, 5.0 MB/s; LB2002 no member answers (12 s)',
  );
  assert.equal(plainLine('the restore of shop', undefined, 500), 'the restore of shop: running (0.5 s)');
});

test('a snapshot outside an initial sync is no step of one', () => {
  const snapshot: View = { phase: null, working: [{ ...copy, stage: 'snapshot' }], trouble: null };
  assert.doesNotMatch(plainLine('the snapshot of shop', snapshot, 1_000), /step/);
});

test('on a terminal lines are drawn anew in their place, and are gone at the end', () => {
  const { stream, text } = terminal(80);
  const screen = screenOf(stream, { TERM: 'xterm', LANG: 'C.UTF-8' });
  assert.equal(screen.isLive, true);
  screen.draw(['one', 'two']);
  screen.draw(['three', 'four']);
  screen.end(false);
  const written = text();
  assert.match(stripVTControlCharacters(written), /one\ntwo\n/);
  assert.match(written, /\u001B\[2K|\u001B\[J|\u001B\[0J/);
});

test('a dumb terminal, one too narrow, and what is no terminal are never drawn on', () => {
  const cases = [
    { screen: screenOf(terminal(80).stream, { TERM: 'dumb' }) },
    { screen: screenOf(terminal(12).stream, { TERM: 'xterm' }) },
    { screen: screenOf(terminal(80, false).stream, { TERM: 'xterm' }) },
  ];
  for (const { screen } of cases) assert.equal(screen.isLive, false);
  const { stream, text } = terminal(80, false);
  const screen = screenOf(stream, {});
  screen.draw(['nothing']);
  screen.line('a line');
  screen.end(true);
  assert.equal(text(), 'a line\n');
});

test('bars are of plain characters where the locale is not UTF-8', () => {
  const { stream } = terminal(80);
  assert.equal(screenOf(stream, { LANG: 'C' }).unicode, false);
  assert.equal(screenOf(stream, { LANG: 'de_DE.UTF-8' }).unicode, true);
  assert.equal(screenOf(stream, { LANG: 'de_DE.UTF-8', LC_ALL: 'C' }).unicode, false);
});
