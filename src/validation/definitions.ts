/** Comparing the definitions of a head that stands still with the source's. */
import { setTimeout as delay } from 'node:timers/promises';
import type { OpenHead } from '../head/open-head.ts';
import type { Position } from '../shared/optime.ts';
import { listSource } from '../source/listing.ts';
import type { StoredFinding, StoredOmission } from '../stores/records.ts';
import {
  changedSince,
  compareCatalogs,
  headCatalog,
  isSameDifference,
  sourceCatalog,
  type CatalogDifference,
} from './catalog.ts';
import type { SourceReader } from './source-reader.ts';

/** How often a difference has to be seen that no entry explains: one look may have come between two entries. */
const LOOKS = 3;
const PAUSE_MS = 1_000;
const MOST_NAMES = 100;
const CHANGED_SINCE = 'its definition has changed since the optime of the snapshot';

export interface ComparedDefinitions {
  readonly different: readonly StoredFinding[];
  readonly notCompared: readonly StoredOmission[];
}

/**
 * Compares names, UUIDs, options, indexes and views. No server can be asked what its catalog was, so what an entry after
 * `at` may have changed on the source cannot be compared.
 * @param at where the head stands; the member that is read holds everything up to there
 * @throws the driver's errors; LifeboatError `HeadLost` (retryable)
 */
export async function compareDefinitions(
  head: OpenHead,
  reader: SourceReader,
  at: Position,
  signal: AbortSignal,
): Promise<ComparedDefinitions> {
  const { client } = reader.member;
  const mine = await headCatalog(head, { indexes: true });
  let suspected: readonly CatalogDifference[] | undefined;
  for (let look = 1; ; look += 1) {
    const theirs = sourceCatalog(await listSource(client, signal));
    const differences = compareCatalogs(theirs, mine);
    if (differences.length === 0) return { different: [], notCompared: [] };
    const changed = await changedSince(client, at.ts, signal);
    const isExplained = ({ subjects }: CatalogDifference): boolean => subjects.some((one) => changed.has(one));
    const unexplained = differences.filter((one) => !isExplained(one));
    const certain = unexplained.filter((one) => suspected?.some((other) => isSameDifference(one, other)) ?? true);
    if (certain.length === 0 || look === LOOKS) {
      const explained = new Set(differences.filter(isExplained).map(({ namespace }) => namespace));
      return {
        different: certain.map(findingOf),
        notCompared: [...explained].map((namespace) => ({ namespace, reason: CHANGED_SINCE })),
      };
    }
    suspected = certain;
    await delay(PAUSE_MS, undefined, { signal });
  }
}

function findingOf({ namespace, kind, names }: CatalogDifference): StoredFinding {
  return { namespace, kind, count: 1, ids: [], names: names.slice(0, MOST_NAMES) };
}
