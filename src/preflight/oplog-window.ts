/** Check `oplog-window`: how far back the oplog reaches, or will once it is full, against what is asked for. */
import { LifeboatError } from '../shared/errors.ts';
import { duration as durationText } from '../shared/phrases.ts';
import { isTelling, oplogWindow, type OplogExtent } from '../source/oplog-window.ts';
import { passed, refused, type Finding } from './finding.ts';

/** @param host the member whose oplog it is  @param leastMs `minOplogWindow`, in milliseconds */
export function checkOplogWindow(host: string, extent: OplogExtent, leastMs: number): Finding {
  const window = oplogWindow(extent);
  const held = durationText(window.windowSeconds * 1000);
  const span = durationText(window.spanSeconds * 1000);
  const least = durationText(leastMs);
  if (!isTelling(window, leastMs / 1000)) {
    return passed(
      'oplog-window',
      `the oplog of ${host} holds ${span} so far: too little to tell what it holds when full`,
    );
  }
  const estimate = window.full ? '' : ` when it is full, at the rate of its last ${span}`;
  if (window.windowSeconds * 1000 >= leastMs) {
    return passed('oplog-window', `the oplog of ${host} holds ${held}${estimate}; minOplogWindow is ${least}`);
  }
  return refused('oplog-window', windowTooShort(host, `${held}${estimate}`, least));
}

function windowTooShort(host: string, held: string, least: string): LifeboatError {
  return new LifeboatError(
    'OplogWindowTooShort',
    `the oplog of ${host} holds ${held}, less than minOplogWindow ${least}`,
  );
}
