/** Which blocks the snapshots there are refer to: read from their manifests, a part of all hashes at a time. */
import { ReadConcern, type ClientSession } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestPartRecord, ManifestRecord } from '../stores/records.ts';
import { placesIn, type HashRange } from './hash-ranges.ts';
import { HashTable } from './hash-table.ts';
import { bytesOf, digestOf } from './manifest.ts';

export interface ReferenceScan {
  readonly stores: Stores;
  /** Causally consistent: after a change of primary nothing is read that is older than what was read before. */
  readonly session: ClientSession;
  readonly signal: AbortSignal;
  readonly range: HashRange;
  /** About how many there will be. */
  readonly expected: number;
  /** Whether the hash at that place is asked for; all are when it is left out. */
  readonly isWanted?: (bytes: Buffer, at: number) => boolean;
}

/** Snapshots to a query. */
const SNAPSHOTS_AT_ONCE = 100;

type Header = Pick<ManifestRecord, '_id' | 'parts'>;

/**
 * The hashes of a range that any snapshot refers to, those that are being deleted too.
 *
 * A snapshot relies on blocks of its parent that it has not claimed, for as long as the parent is there. So no moment may
 * be seen at which the parent is gone already and its child not there yet: headers are listed as of one moment, and all
 * of it is done again when one of them is gone once its parts were read.
 * @throws LifeboatError `ManifestDamaged` when a part is missing or is not what it was: what it refers to is not known, and
 *   nothing is dead
 */
export async function referencesIn(scan: ReferenceScan): Promise<HashTable> {
  for (;;) {
    const headers = await headersNow(scan);
    const found = new HashTable(scan.expected);
    const partsOf = await readParts(scan, headers, found);
    const there = new Set((await headersNow(scan)).map(({ _id }) => _id));
    if (!headers.every(({ _id }) => there.has(_id))) continue;
    const damaged = headers.find(({ _id, parts }) => (partsOf.get(_id) ?? 0) < parts);
    if (damaged) {
      throw new LifeboatError(
        'ManifestDamaged',
        `the manifest of snapshot ${damaged._id} lacks parts, or they do not match their checksums: which blocks it needs is not known, and none is freed`,
      );
    }
    return found;
  }
}

/** As of one moment. */
async function headersNow({ stores, session }: ReferenceScan): Promise<readonly Header[]> {
  return session.withTransaction(
    async () => stores.manifests.find({}, { session }).project<Header>({ parts: 1 }).toArray(),
    { readConcern: new ReadConcern('snapshot') },
  );
}

/** Adds the hashes to `found`; how many sound parts each snapshot has. */
async function readParts(
  { stores, session, signal, range, isWanted = () => true }: ReferenceScan,
  headers: readonly Header[],
  found: HashTable,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (let begin = 0; begin < headers.length; begin += SNAPSHOTS_AT_ONCE) {
    const ids = headers.slice(begin, begin + SNAPSHOTS_AT_ONCE).map(({ _id }) => _id);
    // Parts may be 8 MB each.
    const cursor = stores.manifestParts
      .find({ '_id.snapshot': { $in: ids } }, { session, batchSize: 100 })
      .project<Omit<ManifestPartRecord, 'lease'>>({ lease: 0 });
    for await (const { _id, path, fileBytes, offset, hashes, sha256 } of cursor) {
      signal.throwIfAborted();
      const bytes = bytesOf(hashes);
      if (!digestOf({ path, fileBytes, offset, hashes: bytes }).equals(bytesOf(sha256))) continue;
      counts.set(_id.snapshot, (counts.get(_id.snapshot) ?? 0) + 1);
      for (const at of placesIn(range, bytes)) if (isWanted(bytes, at)) found.add(bytes, at);
    }
  }
  return counts;
}
