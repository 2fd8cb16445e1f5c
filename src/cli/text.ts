/** Values as people read them. */
import { formatOptime, type Optime } from '../shared/optime.ts';
import { time } from '../shared/phrases.ts';

export { bytes, duration, progressText, time } from '../shared/phrases.ts';

/** Columns aligned, two spaces apart, nothing cut off. Columns of `right` are aligned to the right. */
export function table(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): string {
  const all = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, column) =>
          right.includes(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `name: value` lines, values aligned. */
export function fields(pairs: readonly (readonly [name: string, value: string | null | undefined])[]): string {
  const shown = pairs.flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [[`${name}:`, value] as const],
  );
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

/** `1767225600,1 (2026-01-01 00:00:00Z)` */
export function optime(at: Optime | null): string {
  return at === null ? '-' : `${formatOptime(at)} (${time(new Date(at.t * 1000).toISOString())})`;
}
