/** Figures of several runs, and how two of them compare. */

/** What repeated runs came to. */
export interface Figures {
  readonly min: number;
  readonly median: number;
  readonly max: number;
  readonly runs: number;
}

/** @throws RangeError without values */
export function figuresOf(values: readonly number[]): Figures {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [min, upper, max] = [sorted[0], sorted[middle], sorted.at(-1)];
  if (min === undefined || upper === undefined || max === undefined) throw new RangeError('figures of no runs');
  const median = sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
  return { min, median, max, runs: values.length };
}

/**
 * `ours / theirs`, run by run. What was measured side by side is divided side by side: a machine that is slower for a
 * minute is so for both.
 */
export function ratiosOf(ours: readonly number[], theirs: readonly number[]): Figures | undefined {
  const pairs = ours.flatMap((value, run) => {
    const other = theirs[run];
    return other === undefined || other === 0 ? [] : [value / other];
  });
  return pairs.length === 0 ? undefined : figuresOf(pairs);
}
