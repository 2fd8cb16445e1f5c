/** Comparing the definitions of a head that stands still with the source's. */
import { setTimeout as delay } from 'node:timers/promises';
import type { MongoClient } from 'mongodb';
import type { Position } from '../shared/optime.ts';
import type { NamespaceFilter } from '../source/filter.ts';
import { listSource } from '../source/listing.ts';
import type { StoredFinding, StoredOmission } from '../stores/records.ts';
import {
  changedSince,
  compareCatalogs,
  isSameDifference,
  sourceCatalog,
  type CatalogDifference,
  type Definition,
} from './catalog.ts';
import type { SourceReader } from './source-reader.ts';

/** How often a difference has to be seen that no entry explains: one look may have come between two entries. */
const LOOKS = 3;
const PAUSE_MS = 1_000;
const MOST_NAMES = 100;
const CHANGED_SINCE = 'its definition has changed since the optime of the snapshot';

/** The definitions of a head that stands still. */
export interface HeadDefinitions {
  /** With its indexes. */
  readonly mine: readonly Definition[];
  /** What it leaves out. */
  readonly filter: NamespaceFilter;
  readonly at: Position;
}

export interface ComparedDefinitions {
  readonly different: readonly StoredFinding[];
  readonly notCompared: readonly StoredOmission[];
}

/** What one look at the source finds to differ, and what of it no entry behind the optime of the head explains. */
export interface CatalogLook {
  readonly differences: readonly CatalogDifference[];
  readonly unexplained: readonly CatalogDifference[];
}

/**
 * Looks once at the catalog of a source, which no server can be asked for as it was.
 * @param mine that of the head, which stands at `at` and leaves out what `filter` says; the member that is read holds everything up to there
 * @param among keys of what may differ at all; everything may when left out
 * @throws the driver's errors
 */
export async function lookAtCatalog(
  client: MongoClient,
  { at, mine, filter, among }: HeadDefinitions & { readonly among?: ReadonlySet<string> | undefined },
  signal: AbortSignal,
): Promise<CatalogLook> {
  const theirs = sourceCatalog(await listSource(client, filter, signal));
  const differences = compareCatalogs(theirs, mine).filter(({ key }) => among?.has(key) ?? true);
  if (differences.length === 0) return { differences, unexplained: [] };
  const changed = await changedSince(client, at.ts, signal);
  return { differences, unexplained: differences.filter(({ subjects }) => !subjects.some((one) => changed.has(one))) };
}

/**
 * Compares names, UUIDs, options, indexes and views. What an entry after `at` may have changed on the source cannot be
 * compared.
 * @param reader of a member that holds everything up to where the head stands
 * @throws the driver's errors
 */
export async function compareDefinitions(
  { mine, filter, at }: HeadDefinitions,
  reader: SourceReader,
  signal: AbortSignal,
): Promise<ComparedDefinitions> {
  let suspected: readonly CatalogDifference[] | undefined;
  for (let look = 1; ; look += 1) {
    const { differences, unexplained } = await lookAtCatalog(reader.member.client, { at, mine, filter }, signal);
    const certain = unexplained.filter((one) => suspected?.some((other) => isSameDifference(one, other)) ?? true);
    if (certain.length === 0 || look === LOOKS) {
      const explained = differences.filter((one) => !unexplained.includes(one));
      const namespaces = new Set(explained.map(({ namespace }) => namespace));
      return {
        different: certain.map(findingOf),
        notCompared: [...namespaces].map((namespace) => ({ namespace, reason: CHANGED_SINCE })),
      };
    }
    suspected = certain;
    await delay(PAUSE_MS, undefined, { signal });
  }
}

/** As a report has it. */
export function findingOf({ namespace, kind, names }: CatalogDifference): StoredFinding {
  return { namespace, kind, count: 1, ids: [], names: names.slice(0, MOST_NAMES) };
}
