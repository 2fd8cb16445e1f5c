/** How work goes, as lines for a screen of any width. */
import type { Progress } from '../shared/messages.ts';
import { amount, duration, progressText, share } from '../shared/phrases.ts';
import { stepOfSync } from '../shared/stages.ts';
import type { Screen } from './screen.ts';

/** How work goes now. */
export interface View {
  /** Its phase, where it has one. */
  readonly phase: string | null;
  /** What goes on, what people wait for first. */
  readonly working: readonly Progress[];
  /** What keeps it from going on, if anything does. */
  readonly trouble: string | null;
}

type Look = Pick<Screen, 'paint' | 'unicode'>;

/** All of it in one line, for where lines cannot be drawn anew. */
export function plainLine(what: string, view: View | undefined, elapsedMs?: number): string {
  const working = view?.working.map((progress) => stepText(progress, isSync(view))) ?? [];
  const told = [...(view?.phase ? [view.phase] : []), ...working, ...(view?.trouble ? [view.trouble] : [])].join('; ');
  const elapsed = elapsedMs === undefined ? '' : ` (${duration(elapsedMs)})`;
  return `${what}: ${told === '' ? 'running' : told}${elapsed}`;
}

function isSync(view: View | undefined): boolean {
  return view?.phase === 'initial-sync';
}

function stepText(progress: Progress, ofSync: boolean): string {
  const step = ofSync ? stepOfSync(progress.stage) : undefined;
  return step ? `step ${step.step} of ${step.of}: ${progressText(progress)}` : progressText(progress);
}

/** The same over several lines, none wider than `columns`. */
export function liveLines(
  what: string,
  view: View | undefined,
  elapsedMs: number,
  columns: number,
  look: Look,
): string[] {
  const phase = view?.phase ?? 'running';
  const title = cut(`${what}: ${phase} (${duration(elapsedMs)})`, columns);
  const trouble = view?.trouble ? [look.paint('yellow', cut(`  ${view.trouble}`, columns))] : [];
  return [look.paint('bold', title), ...progressLines(view?.working ?? [], isSync(view), columns, look), ...trouble];
}

const STAGE_WIDTH = 10;
const LEAST_BAR = 8;
const MOST_BAR = 30;

/** One line for each: step of an initial sync, stage, bar, figures. What does not fit is left out, the bar first. */
export function progressLines(working: readonly Progress[], ofSync: boolean, columns: number, look: Look): string[] {
  return working.map((progress) => {
    const step = ofSync ? stepOfSync(progress.stage) : undefined;
    const name = `  ${step ? `${step.step}/${step.of} ` : ''}${progress.stage.padEnd(STAGE_WIDTH)}`;
    const ratio = share(progress);
    const percent = ratio === null ? '' : `${String(Math.floor(ratio * 100)).padStart(3)}%  `;
    const figures = `${percent}${figuresOf(progress)}`;
    const room = columns - name.length - figures.length - 4;
    if (ratio === null || room < LEAST_BAR) return cut(`${name}  ${figures}`, columns);
    return `${name}  ${look.paint('cyan', bar(ratio, Math.min(MOST_BAR, room), look.unicode))}  ${figures}`;
  });
}

function figuresOf({ done, total, unit, perSecond, etaSeconds }: Progress): string {
  return [
    total === null ? amount(done, unit) : `${amount(done, unit)} of ${amount(total, unit)}`,
    ...(perSecond === null ? [] : [`${amount(perSecond, unit)}/s`]),
    ...(etaSeconds === null || etaSeconds === 0 ? [] : [`${duration(etaSeconds * 1000)} left`]),
  ].join(', ');
}

export function bar(ratio: number, width: number, unicode: boolean): string {
  const full = Math.min(width, Math.max(0, Math.floor(ratio * width)));
  return unicode ? '█'.repeat(full) + '░'.repeat(width - full) : `${'#'.repeat(full)}${'-'.repeat(width - full)}`;
}

/** At most that wide; the end that is missing shows as such. */
export function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 3))}...`;
}
