/** A moment that a restore is asked for: an optime, or a second of the source's clock. */
import { LifeboatError } from './errors.ts';
import { formatOptime, parseOptime, type Optime } from './optime.ts';

/** `optime`: every entry up to it. `second`: every entry of it as well, in seconds since the epoch. */
export type RestoreTime = { readonly optime: Optime } | { readonly second: number };

const LAST_SECOND = 0xffff_ffff;

const DATE_TIME = /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(Z|[+-]\d{2}(?::?\d{2})?)$/i;

/**
 * Reads `SECONDS,ORDINAL`, or a time of ISO 8601 that names its zone; a fraction of a second stands for the whole second.
 * @throws LifeboatError `BadTime`
 */
export function parseRestoreTime(text: string): RestoreTime {
  const trimmed = text.trim();
  if (/^\d+,\d+$/.test(trimmed)) return { optime: optimeIn(trimmed) };
  const second = secondIn(trimmed);
  if (second !== undefined) return { second };
  const withoutZone = DATE_TIME.test(`${trimmed}Z`);
  throw new LifeboatError('BadTime', `"${text}" ${withoutZone ? 'does not say its time zone' : 'is not a time'}`);
}

/** The last optime that belongs to it. */
export function lastOptimeOf(time: RestoreTime): Optime {
  return 'optime' in time ? time.optime : { t: time.second, i: LAST_SECOND };
}

/** For people: `SECONDS,ORDINAL`, or ISO 8601. */
export function formatRestoreTime(time: RestoreTime): string {
  if ('optime' in time) return formatOptime(time.optime);
  return new Date(time.second * 1000).toISOString().replace('.000Z', 'Z');
}

function optimeIn(text: string): Optime {
  try {
    return parseOptime(text);
  } catch (error) {
    throw new LifeboatError('BadTime', `"${text}" is not an optime`, { cause: error });
  }
}

function secondIn(text: string): number | undefined {
  const match: readonly (string | undefined)[] | null = DATE_TIME.exec(text);
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((digits) => Number(digits ?? '0'));
  const zone = zoneMinutes(match[7] ?? '');
  if (month === undefined || zone === undefined) return undefined;
  const fields = [year ?? 0, month - 1, day ?? 0, hour ?? 0, minute ?? 0, second ?? 0] as const;
  const time = new Date(Date.UTC(...fields));
  // A day or an hour that is not there would count as one of the next month or day.
  const found = [
    time.getUTCFullYear(),
    time.getUTCMonth(),
    time.getUTCDate(),
    time.getUTCHours(),
    time.getUTCMinutes(),
    time.getUTCSeconds(),
  ];
  if (found.some((field, n) => field !== fields[n])) return undefined;
  const seconds = time.getTime() / 1000 - zone * 60;
  return seconds >= 0 && seconds <= LAST_SECOND ? seconds : undefined;
}

/** How far a zone is ahead of UTC. */
function zoneMinutes(text: string): number | undefined {
  if (/^z$/i.test(text)) return 0;
  const [, sign, hours, minutes = '0'] = /^([+-])(\d{2}):?(\d{2})?$/.exec(text) ?? [];
  if (Number(hours) > 23 || Number(minutes) > 59) return undefined;
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes));
}
