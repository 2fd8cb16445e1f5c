/** The documents of one range: compared, told apart, and fetched anew. All of it inside a turn of the head. */
import type { Applier } from '../head/apply.ts';
import type { OpTarget } from '../head/batch.ts';
import { namespaceOf, type HeadCollection } from '../head/catalog.ts';
import type { HeadConnection } from '../head/connections.ts';
import { VERSION_NS } from '../head/load.ts';
import { idDocument } from '../head/missing.ts';
import { uuidBinary } from '../mongo/uuid.ts';
import type { Position } from '../shared/optime.ts';
import type { StoredFinding } from '../stores/records.ts';
import { compareDocuments, each, HeldRange, type Compared, type Documents } from './compare.ts';
import { Tally } from './findings.ts';
import { HeadCursor } from './head-cursor.ts';
import { batchSize, findCommand, type Range, type Shape } from './ranges.ts';
import { notAtThatTime, type SourceReader } from './source-reader.ts';

export interface RangeWork extends HeadConnection {
  readonly reader: SourceReader;
  readonly collection: HeadCollection;
  readonly range: Range;
  readonly shape: Shape;
  /** What of the source is read. */
  readonly at: Position;
  readonly signal: AbortSignal;
}

/**
 * Ranges are cut where the head has documents: of what it lacks, the source may have any number between two cuts.
 * How much of what differs in one range is told apart, and how much is fetched anew, in bytes: a head that lacks more than
 * this has to be made anew.
 */
const MOST_TOLD_BYTES = 64 * 1024 * 1024;
const MOST_REPAIR_BYTES = 512 * 1024 * 1024;

function ofSource({ reader, collection, range, shape, at, signal }: RangeWork): Promise<Documents> {
  const isOwn = namespaceOf(collection) === VERSION_NS;
  const target = isOwn ? collection.name : uuidBinary(collection.uuid);
  return reader.open(collection.db, findCommand(target, range, shape), { at, signal, average: shape.average });
}

function ofHead({ head, socket, collection, range, shape }: RangeWork): Promise<Documents> {
  const command = findCommand(collection.name, range, shape);
  return HeadCursor.open(
    { head, socket },
    collection.db,
    command,
    `reading ${namespaceOf(collection)} on the head of ${head.label}`,
  );
}

/**
 * Compares a range byte for byte.
 * @throws the driver's errors (see notAtThatTime); LifeboatError `HeadLost` (retryable)
 */
export async function compareRange(work: RangeWork): Promise<Compared> {
  await using source = await ofSource(work);
  await using head = await ofHead(work);
  return await compareDocuments(source, head, batchSize(work.shape));
}

/** What differs in a range, and whether that is all of it. */
export interface ToldApart {
  readonly found: readonly StoredFinding[];
  readonly isAll: boolean;
}

/**
 * Tells apart what differs in a range that was found not to be equal. Nothing, when all of it was looked at and both sides
 * hold the same, only not in the same order. All of it cannot be told where it is too much, or where the source cannot be
 * read there any more.
 * @throws as compareRange
 */
export async function tellDifferences(work: RangeWork): Promise<ToldApart> {
  const namespace = namespaceOf(work.collection);
  const tallies = { missing: new Tally('missing'), different: new Tally('different'), extra: new Tally('extra') };
  const isAll = await tellApart(work, tallies);
  return { found: Object.values(tallies).flatMap((tally) => tally.found(namespace)), isAll };
}

/** As tellDifferences; where it cannot be told what else there is, something differs. */
export async function findDifferences(work: RangeWork): Promise<StoredFinding[]> {
  const { found, isAll } = await tellDifferences(work);
  return isAll ? [...found] : [...found, somethingElse(work.collection)];
}

/** Of a range that differs in more than was told apart. */
export function somethingElse(collection: HeadCollection): StoredFinding {
  return { namespace: namespaceOf(collection), kind: 'different', count: 1, ids: [], names: [] };
}

/** False when there is more than was looked at. */
async function tellApart(work: RangeWork, { missing, different, extra }: Tallies): Promise<boolean> {
  const held = await heldRange(work);
  if (!held) return false;
  const { reader, signal } = work;
  const most = Math.min(MOST_TOLD_BYTES, await reader.bytesWithin(2 * reader.pace.rangeSeconds, signal));
  let differing = 0;
  try {
    await using source = await ofSource(work);
    while (!source.ended) {
      if (differing > most) return false;
      for (const document of each(await source.next())) {
        const verdict = held.meet(document);
        if (verdict === 'same') continue;
        (verdict === 'missing' ? missing : different).add(idDocument(document, 0));
        differing += document.length;
      }
    }
  } catch (error) {
    if (notAtThatTime(error) === undefined) throw error;
    return false;
  }
  for (const id of held.extra()) extra.add(id);
  return true;
}

interface Tallies {
  readonly missing: Tally;
  readonly different: Tally;
  readonly extra: Tally;
}

/**
 * Makes a range of a head that is inconsistent until `at` or later what the source holds at `at`. Done again it does the
 * same again.
 * @returns false when there is too much to fetch: nothing was done then
 * @throws as compareRange; LifeboatError `Diverged`
 */
export async function repairRange(work: RangeWork, applier: Applier): Promise<boolean> {
  const { collection } = work;
  const target: OpTarget = namespaceOf(collection) === VERSION_NS ? { ns: VERSION_NS } : collection;
  const held = await heldRange(work);
  if (!held) return false;
  // What is extra has to go first: under a collation, or with a unique index, it may be in the way of what is missing.
  await using first = await ofSource(work);
  const { reader, signal } = work;
  const most = Math.min(MOST_REPAIR_BYTES, await reader.bytesWithin(reader.pace.repairSeconds, signal));
  let wrong = 0;
  while (!first.ended) {
    for (const document of each(await first.next())) {
      if (held.meet(document) !== 'same') wrong += document.length;
    }
    if (wrong > most) return false;
  }
  await applier.put(target, [], [...held.extra()]);
  await using second = await ofSource(work);
  while (!second.ended) {
    const batch = await second.next();
    const wanted = [...each(batch)].filter((document) => held.verdict(document) !== 'same');
    if (wanted.length > 0) await applier.put(target, wanted, []);
  }
  return true;
}

async function heldRange(work: RangeWork): Promise<HeldRange | undefined> {
  await using head = await ofHead(work);
  return await HeldRange.read(head, batchSize(work.shape));
}
