/** Values as people read them. */
import { formatOptime, type Optime } from '../shared/optime.ts';
import type { Progress } from '../shared/messages.ts';
import { bytesText, durationText } from '../shared/quantities.ts';

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

export { bytesText as bytes, durationText as duration };

/** `2026-01-02 03:04:05Z` from ISO 8601. */
export function time(iso: string): string {
  return iso.replace('T', ' ').replace(/\.\d+Z$/, 'Z');
}

/** `1767225600,1 (2026-01-01 00:00:00Z)` */
export function optime(at: Optime | null): string {
  return at === null ? '-' : `${formatOptime(at)} (${time(new Date(at.t * 1000).toISOString())})`;
}

/** `copying 45%, 120.0 MB of 260.0 MB, 12.0 MB/s (limit 12.5 MB/s), 11 s left` */
export function progressText(progress: Progress): string {
  const { stage, done, total, unit, perSecond, etaSeconds, limitPerSecond } = progress;
  const amount = (count: number): string => (unit === 'bytes' ? bytesText(count) : `${Math.round(count)} ${unit}`);
  const share = total !== null && total > 0 ? ` ${Math.min(100, Math.floor((100 * done) / total))}%` : '';
  const limit = limitPerSecond === undefined ? '' : ` (limit ${amount(limitPerSecond)}/s)`;
  return [
    `${stage}${share}`,
    total === null ? amount(done) : `${amount(done)} of ${amount(total)}`,
    ...(perSecond === null ? [] : [`${amount(perSecond)}/s${limit}`]),
    ...(etaSeconds === null ? [] : [`${durationText(etaSeconds * 1000)} left`]),
  ].join(', ');
}
