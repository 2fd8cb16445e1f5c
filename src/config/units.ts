/** Durations and sizes as people write them. */

const MILLISECONDS = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
} as const;

const BYTES = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
} as const;

/** A quantity that was read, or why it could not be. */
export type Quantity = { readonly value: number } | { readonly wrong: string };

/** Reads a duration such as `24h` into milliseconds; only `0` may stand without a unit. */
export function parseDuration(text: string): Quantity {
  return parse(text, MILLISECONDS, 'a duration such as 30s, 15m, 24h or 7d');
}

/** Reads a size such as `1GiB` into bytes; only `0` may stand without a unit. */
export function parseSize(text: string): Quantity {
  return parse(text, BYTES, 'a size such as 512MiB or 2GiB');
}

function parse(text: string, units: Readonly<Record<string, number>>, expected: string): Quantity {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim()) ?? [];
  if (digits === undefined || unit === undefined) return { wrong: `must be ${expected}` };
  const number = Number(digits);
  if (unit === '') return number === 0 ? { value: 0 } : { wrong: `has no unit: write ${expected}` };
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
  if (factor === undefined) {
    const meant = Object.keys(units).find((known) => known.toLowerCase() === unit.toLowerCase());
    const hint =
      meant === undefined ? `its unit must be one of ${Object.keys(units).join(', ')}` : `write ${digits}${meant}`;
    return { wrong: `has the unknown unit "${unit}": ${hint}` };
  }
  const value = Math.round(number * factor);
  return Number.isSafeInteger(value) ? { value } : { wrong: 'is too large' };
}
