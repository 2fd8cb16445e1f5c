/** What a check comes to. */
import type { LifeboatError } from '../shared/errors.ts';
import type { Check, CheckName } from '../shared/messages.ts';

export interface Finding {
  readonly name: CheckName;
  readonly level: Check['level'];
  readonly detail: string;
  readonly fix: string | null;
  /** What a backup is refused with, or warned of. */
  readonly error: LifeboatError | null;
}

export function passed(name: CheckName, detail: string): Finding {
  return { name, level: 'passed', detail, fix: null, error: null };
}

/** Something to know before it is too late, that no error stands for. */
export function advised(name: CheckName, detail: string, fix: string): Finding {
  return { name, level: 'warning', detail, fix, error: null };
}

export function warned(name: CheckName, error: LifeboatError): Finding {
  return { name, level: 'warning', detail: error.message, fix: error.fix, error };
}

export function refused(name: CheckName, error: LifeboatError): Finding {
  return { name, level: 'failed', detail: error.message, fix: error.fix, error };
}

/** It could not be looked at. @param error why, where that is known */
export function unknown(name: CheckName, detail: string, error: LifeboatError | null = null): Finding {
  return { name, level: 'unknown', detail, fix: error?.fix ?? null, error };
}

/** The same as a warning: what matters before an initial sync need not stop one that is under way. */
export function softened(finding: Finding): Finding {
  return finding.level === 'failed' ? { ...finding, level: 'warning' } : finding;
}

export function checkOf({ name, level, detail, fix, error }: Finding, deployment: string | null): Check {
  const ok = level === 'passed' || level === 'warning';
  return { name, deployment, ok, level, detail, fix, code: error?.code ?? null };
}
