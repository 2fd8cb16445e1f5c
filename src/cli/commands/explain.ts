/** `lifeboat explain`: what a code means, who can mend it, and how. */
import { nearestOf } from '../../config/suggest.ts';
import { errorKind, errorNameOf, errorNames, LifeboatError, type ErrorName } from '../../shared/errors.ts';
import { explanationOf } from '../../shared/explanations.ts';
import type { Outcome } from '../outcome.ts';
import { fields, table } from '../text.ts';

/** An error as it is explained. */
export interface Explained {
  readonly code: string;
  readonly name: ErrorName;
  readonly owner: string;
  readonly retryable: boolean;
  readonly fix: string;
  /** Null where the fix says all. */
  readonly explanation: string | null;
}

/** All of them, in the order of their codes. */
export function explainedErrors(): Explained[] {
  return errorNames()
    .map(explained)
    .sort((a, b) => a.code.localeCompare(b.code));
}

/** All errors, without `word`. @throws LifeboatError `BadUsage` when no error has that code or name */
export function explain(word: string | undefined): Outcome {
  if (word === undefined) {
    const errors = explainedErrors();
    const rows = errors.map(({ code, name, owner, retryable }) => [code, name, owner, retryable ? 'yes' : 'no']);
    return { result: { errors }, text: table(['CODE', 'NAME', 'MENDED BY', 'TRIED AGAIN'], rows) };
  }
  const result = explained(named(word));
  return { result, text: textOf(result) };
}

function named(word: string): ErrorName {
  const written = word.toLowerCase();
  const found = errorNameOf(written.toUpperCase()) ?? errorNames().find((name) => name.toLowerCase() === written);
  if (found !== undefined) return found;
  const known = errorNames().flatMap((name) => [errorKind(name).code, name]);
  const near = nearestOf(word, known).slice(0, 3);
  const meant = near.length === 0 ? '`lifeboat explain` lists them' : `did you mean ${near.join(' or ')}?`;
  throw new LifeboatError('BadUsage', `no error has the code or name ${word}; ${meant}`);
}

function explained(name: ErrorName): Explained {
  const { code, owner, retryable, fix } = errorKind(name);
  return { code, name, owner, retryable, fix, explanation: explanationOf(name) ?? null };
}

function textOf({ code, name, owner, retryable, fix, explanation }: Explained): string {
  return fields([
    ['code', code],
    ['name', name],
    ['mended by', owner === 'nobody' ? 'nobody: it passes by itself' : `the ${owner}`],
    ['tried again', retryable ? 'yes, by itself' : 'no'],
    ['what to do', fix],
    ['why', explanation],
  ]);
}
