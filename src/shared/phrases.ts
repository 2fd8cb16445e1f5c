/** Amounts, times and progress as people read them, on a terminal and in the Temporal UI. */
import type { Progress } from './messages.ts';

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const;

export function bytes(count: number): string {
  let unit = 0;
  let amount = count;
  while (amount >= 999.95 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? amount : amount.toFixed(1)} ${UNITS[unit] ?? 'B'}`;
}

/** `2 h 5 min`, `41 s`, `0.8 s` */
export function duration(ms: number): string {
  if (ms < 10_000) return ms % 1000 === 0 ? `${ms / 1000} s` : `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** `2026-01-02 03:04:05Z` from ISO 8601. */
export function time(iso: string): string {
  return iso.replace('T', ' ').replace(/\.\d+Z$/, 'Z');
}

/** `120.0 MB`, `17 entries` */
export function amount(count: number, unit: Progress['unit']): string {
  return unit === 'bytes' ? bytes(count) : `${Math.round(count)} ${unit}`;
}

/** `10%` of 0.1. */
export function inPercent(part: number): string {
  return `${Number((100 * part).toFixed(2))}%`;
}

/** How much is done, 0 to 1; null while nobody knows of how much. */
export function share({ done, total }: Pick<Progress, 'done' | 'total'>): number | null {
  return total !== null && total > 0 ? Math.min(1, done / total) : null;
}

/** `copy 45%, 120.0 MB of 260.0 MB, 12.0 MB/s (limit 12.5 MB/s), 11 s left` */
export function progressText(progress: Progress): string {
  const { stage, done, total, unit, perSecond, etaSeconds, limitPerSecond } = progress;
  const ratio = share({ done, total });
  const limit = limitPerSecond === undefined ? '' : ` (limit ${amount(limitPerSecond, unit)}/s)`;
  return [
    ratio === null ? stage : `${stage} ${Math.floor(100 * ratio)}%`,
    total === null ? amount(done, unit) : `${amount(done, unit)} of ${amount(total, unit)}`,
    ...(perSecond === null ? [] : [`${amount(perSecond, unit)}/s${limit}`]),
    ...(etaSeconds === null || etaSeconds === 0 ? [] : [`${duration(etaSeconds * 1000)} left`]),
  ].join(', ');
}
