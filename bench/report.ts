/** What was measured, as a table and as JSON. */
import { figuresOf, ratiosOf, type Figures } from './figures.ts';

export type Unit = 's' | 'MB' | '/s' | 'events/h';

/** One thing that was measured, in every repeat once. */
export interface Series {
  readonly group: string;
  readonly name: string;
  readonly unit: Unit;
  readonly values: readonly number[];
}

/** A ratio that is to be reached: `ours` to `theirs`, at most or at least so much. */
export interface Goal {
  readonly what: string;
  readonly ours: string;
  /** Name of another series, or a number. */
  readonly theirs: string | number;
  readonly bound: { readonly atMost: number } | { readonly atLeast: number };
}

export interface Verdict extends Goal {
  /** Undefined when the other is not installed or was not measured. */
  readonly ratio: Figures | undefined;
  readonly reached: boolean | undefined;
}

export interface Report {
  readonly machine: string;
  readonly date: string;
  readonly scale: number;
  readonly dataMB: number;
  readonly versions: Readonly<Record<string, string>>;
  /** Peers that were looked for and are not installed. */
  readonly missing: readonly string[];
  readonly series: readonly (Series & { readonly figures: Figures })[];
  readonly verdicts: readonly Verdict[];
}

export function seriesWithFigures(series: readonly Series[]): Report['series'] {
  return series.filter(({ values }) => values.length > 0).map((one) => ({ ...one, figures: figuresOf(one.values) }));
}

/** Holds each goal against what was measured, by its median. */
export function verdictsOf(series: readonly Series[], goals: readonly Goal[]): Verdict[] {
  const valuesOf = (name: string): readonly number[] => series.find((one) => one.name === name)?.values ?? [];
  return goals.map((goal) => {
    const ours = valuesOf(goal.ours);
    const { theirs } = goal;
    const ratio = ratiosOf(ours, typeof theirs === 'string' ? valuesOf(theirs) : ours.map(() => theirs));
    return { ...goal, ratio, reached: ratio && isReached(goal, ratio.median) };
  });
}

function isReached({ bound }: Goal, ratio: number): boolean {
  return 'atMost' in bound ? ratio <= bound.atMost : ratio >= bound.atLeast;
}

function amount(value: number, unit: Unit): string {
  if (unit === '/s') return Math.round(value).toLocaleString('en-US');
  return unit === 's' ? value.toFixed(1) : String(Math.round(value));
}

/** Markdown, which reads as well on a terminal. */
export function markdown(report: Report): string {
  const { machine, date, scale, dataMB, versions, missing, series, verdicts } = report;
  const lines = [
    `${machine}; ${date}; scale ${scale}, ${Math.round(dataMB)} MB of BSON. ${Object.values(versions).join('; ')}.`,
    ...(missing.length > 0 ? [`Not installed, so not measured: ${missing.join(', ')}.`] : []),
  ];
  const rows = series.map(({ group, name, unit, figures: { min, median, max, runs } }) => [
    group,
    name,
    amount(min, unit),
    amount(median, unit),
    amount(max, unit),
    unit,
    String(runs),
  ]);
  const goals = verdicts.map(({ what, ratio, bound, reached }) => [
    what,
    'atMost' in bound ? `≤ ${bound.atMost}` : `≥ ${bound.atLeast}`,
    ...(ratio ? [ratio.min.toFixed(2), ratio.median.toFixed(2), ratio.max.toFixed(2)] : ['-', '-', '-']),
    reached === undefined ? 'not measured' : reached ? 'reached' : 'NOT reached',
  ]);
  return [
    ...lines,
    '',
    table(['what', 'measured', 'min', 'median', 'max', 'unit', 'runs'], rows),
    '',
    table(['ratio, run by run', 'goal', 'min', 'median', 'max', ''], goals),
    '',
  ].join('\n');
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = rows.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = headings.map((heading, column) =>
    Math.max(3, heading.length, ...shown.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(headings), line(widths.map((width) => '-'.repeat(width))), ...shown.map(line)].join('\n');
}
