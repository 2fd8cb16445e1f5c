/** What a comparison with a source found, as the command line shows it. `_id`s are user data: they are shown here only. */
import { BSON, type Binary } from 'mongodb';
import type { StoredFinding } from '../stores/records.ts';

/** A finding as the command line shows it. */
export interface FindingView {
  readonly namespace: string;
  readonly kind: StoredFinding['kind'];
  readonly count: number;
  /** The first few, in canonical extended JSON. */
  readonly ids: readonly unknown[];
  readonly names: readonly string[];
}

export function findingOf({ namespace, kind, count, ids, names }: StoredFinding): FindingView {
  return { namespace, kind, count, ids: ids.map(extended), names };
}

/** An `_id` in canonical extended JSON. */
function extended(id: Binary): unknown {
  const document = BSON.deserialize(id.buffer, { promoteValues: false, validation: { utf8: false } });
  return BSON.EJSON.serialize(document, { relaxed: false })['_id'] as unknown;
}

/** Lines under a title; none without lines. */
export function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `${title}:`, ...lines.map((line) => `  ${line}`)];
}

/** `db.coll: 2 missing (…)` */
export function findingText({ namespace, kind, count, ids, names }: FindingView): string {
  const more = count > ids.length && ids.length > 0 ? ', …' : '';
  const told = [...ids.map((id) => JSON.stringify(id)), ...names].join(', ');
  return `${namespace}: ${count} ${kind}${told === '' ? '' : ` (${told}${more})`}`;
}
