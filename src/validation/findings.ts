/** What a validation found, as it is stored: bounded, whatever there was. */
import { Binary } from 'mongodb';
import type { FindingKind, StoredFinding, ValidationRecord } from '../stores/records.ts';

/** How many `_id`s are told of one kind of difference in one collection, and how large one may be, in bytes. */
const MOST_IDS = 20;
const MOST_ID_BYTES = 1_024;
/** How many findings a report holds, and how many of them with all their `_id`s: both have to fit one record. */
const MOST_FINDINGS = 1_000;
const MOST_WITH_IDS = 100;

/** Counts documents of one kind, and keeps the first few `_id`s. */
export class Tally {
  readonly #kind: FindingKind;
  readonly #ids: Binary[] = [];
  #count = 0;

  constructor(kind: FindingKind) {
    this.#kind = kind;
  }

  get count(): number {
    return this.#count;
  }

  /** @param id raw `{_id}` */
  add(id: Buffer | undefined): void {
    this.#count += 1;
    if (id && this.#ids.length < MOST_IDS && id.length <= MOST_ID_BYTES) this.#ids.push(new Binary(Buffer.from(id)));
  }

  /** None when nothing was counted. */
  found(namespace: string): StoredFinding[] {
    return this.#count === 0 ? [] : [{ namespace, kind: this.#kind, count: this.#count, ids: this.#ids, names: [] }];
  }
}

/** Findings of the same kind in the same namespace as one. */
export function merged(findings: readonly StoredFinding[]): StoredFinding[] {
  const byKind = new Map<string, StoredFinding>();
  for (const one of findings) {
    const key = `${one.kind} ${one.namespace}`;
    const known = byKind.get(key);
    byKind.set(key, known ? { ...known, count: known.count + one.count, ids: firstOf(known.ids, one.ids) } : one);
  }
  return [...byKind.values()];
}

/** What a record can hold of findings, each of its own namespace or kind. */
export function bounded(findings: readonly StoredFinding[]): StoredFinding[] {
  return merged(findings)
    .slice(0, MOST_FINDINGS)
    .map((one, at) => (at < MOST_WITH_IDS ? one : { ...one, ids: [] }));
}

/** What is kept of the findings of one more range beside `others` of the same collection. */
export function besideOthers(findings: readonly StoredFinding[], others: number): StoredFinding[] {
  return findings.map((one) => (others < MOST_WITH_IDS ? one : { ...one, ids: [] }));
}

function firstOf(a: readonly Binary[], b: readonly Binary[]): readonly Binary[] {
  return [...a, ...b].slice(0, MOST_IDS);
}

/** How much of a head was compared. */
export type Extent = 'all' | 'part' | 'nothing';

export function extentOf({ ranges, notCompared }: Pick<ValidationRecord, 'ranges' | 'notCompared'>): Extent {
  if (notCompared.length === 0) return 'all';
  return ranges === 0 ? 'nothing' : 'part';
}
