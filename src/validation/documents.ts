/** The documents of one range: compared, told apart, and fetched anew. All of it inside a turn of the head. */
import { Binary } from 'mongodb';
import type { Applier } from '../head/apply.ts';
import type { OpTarget } from '../head/batch.ts';
import { namespaceOf, type HeadCollection } from '../head/catalog.ts';
import { VERSION_NS } from '../head/load.ts';
import { idDocument } from '../head/missing.ts';
import type { OpenHead } from '../head/open-head.ts';
import type { Position } from '../shared/optime.ts';
import type { StoredFinding } from '../stores/records.ts';
import { compareDocuments, each, HeldRange, type Compared, type Documents } from './compare.ts';
import { Tally } from './findings.ts';
import { HeadCursor } from './head-cursor.ts';
import { batchSize, findCommand, type Range, type Shape } from './ranges.ts';
import type { SourceReader } from './source-reader.ts';

export interface RangeWork {
  readonly head: OpenHead;
  readonly reader: SourceReader;
  readonly collection: HeadCollection;
  readonly range: Range;
  readonly shape: Shape;
  /** What of the source is read. */
  readonly at: Position;
  readonly signal: AbortSignal;
}

/** How much of one range is fetched anew, in bytes: a head that lacks more than this has to be made anew. */
const MOST_REPAIR_BYTES = 512 * 1024 * 1024;

function ofSource({ reader, collection, range, shape, at, signal }: RangeWork): Promise<Documents> {
  const isOwn = namespaceOf(collection) === VERSION_NS;
  const target = isOwn ? collection.name : new Binary(Buffer.from(collection.uuid, 'hex'), Binary.SUBTYPE_UUID);
  return reader.open(collection.db, findCommand(target, range, shape), at, signal);
}

function ofHead({ head, collection, range, shape }: RangeWork): Promise<Documents> {
  const command = findCommand(collection.name, range, shape);
  return HeadCursor.open(
    head,
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

/** What differs in a range; undefined when it holds more documents than can be told apart. */
export async function findDifferences(work: RangeWork): Promise<StoredFinding[] | undefined> {
  const held = await heldRange(work);
  if (!held) return undefined;
  const [missing, different, extra] = [new Tally('missing'), new Tally('different'), new Tally('extra')];
  await using source = await ofSource(work);
  for await (const document of documentsOf(source, work.shape)) {
    const verdict = held.meet(document);
    if (verdict === 'missing') missing.add(idDocument(document, 0));
    if (verdict === 'different') different.add(idDocument(document, 0));
  }
  for (const id of held.extra()) extra.add(id);
  const namespace = namespaceOf(work.collection);
  return [missing, different, extra].flatMap((tally) => tally.found(namespace));
}

/**
 * Makes a range of a head that is inconsistent until `at` or later what the source holds at `at`. Done again it does the
 * same again.
 * @returns false when there is too much to fetch; some of it may be done then
 * @throws as compareRange; LifeboatError `Diverged`
 */
export async function repairRange(work: RangeWork, applier: Applier): Promise<boolean> {
  const { collection } = work;
  const target: OpTarget = namespaceOf(collection) === VERSION_NS ? { ns: VERSION_NS } : collection;
  const held = await heldRange(work);
  if (!held) return false;
  // What is extra has to go first: under a collation, or with a unique index, it may be in the way of what is missing.
  await using first = await ofSource(work);
  for await (const document of documentsOf(first, work.shape)) held.meet(document);
  await applier.put(target, [], [...held.extra()]);
  let fetched = 0;
  await using second = await ofSource(work);
  while (!second.ended) {
    const batch = await second.next({ batchSize: batchSize(work.shape) });
    const wanted = [...each(batch)].filter((document) => held.verdict(document) !== 'same');
    fetched += wanted.reduce((sum, { length }) => sum + length, 0);
    if (fetched > MOST_REPAIR_BYTES) return false;
    if (wanted.length > 0) await applier.put(target, wanted, []);
  }
  return true;
}

async function heldRange(work: RangeWork): Promise<HeldRange | undefined> {
  await using head = await ofHead(work);
  return await HeldRange.read(head, batchSize(work.shape));
}

async function* documentsOf(source: Documents, shape: Shape): AsyncGenerator<Buffer> {
  while (!source.ended) yield* each(await source.next({ batchSize: batchSize(shape) }));
}
