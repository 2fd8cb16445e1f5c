/** Check `point-in-time`: what a window of nothing means is said before it matters. */
import { duration as durationText } from '../shared/phrases.ts';
import { advised, passed, type Finding } from './finding.ts';

/** @param windowMs `pointInTime.window`, in milliseconds */
export function checkPointInTime(windowMs: number): Finding {
  if (windowMs > 0) return passed('point-in-time', `applied entries are kept for ${durationText(windowMs)}`);
  return advised(
    'point-in-time',
    'pointInTime.window is 0: no entry is kept once it is applied, and a lost daemon costs a new initial sync',
    'Set deployments.NAME.pointInTime.window, such as 24h, unless that is what you want.',
  );
}
