/**
 * The proof of the one invariant: a copy at optime T equals the source at T, byte for byte.
 *
 * It asks the source itself, by snapshot reads at T and by UUID (research, mongodb-internals §7), and shares no code
 * with what copies. The copy is any mongod that stands still at T: a head, or one that runs on a restored directory.
 */
import { MongoServerError, type Document, type MongoClient, type Timestamp } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { toTimestamp } from '../mongo/positions.ts';
import type { Optime } from '../shared/optime.ts';
import {
  differingIndexes,
  differingNames,
  holdsComparedDocuments,
  listIndexes,
  listNamespaces,
  uuidBinary,
  type Indexes,
  type Namespace,
} from './catalog.ts';
import { compareDocuments, type DocumentsCompared, type Found } from './compare.ts';
import { RawCursor } from './raw-cursor.ts';
import type { Difference, DifferenceKind, EqualityReport, NotCompared } from './report.ts';
import { ChangesSince } from './since.ts';

export type { EqualityReport } from './report.ts';

export interface EqualityQuestion {
  /**
   * `at` has to be majority committed and within the history that the source keeps: `minSnapshotHistoryWindowInSeconds`,
   * 5 minutes by default; on 4.4 `maxTargetSnapshotHistoryWindowInSeconds`, 5 seconds by default.
   */
  readonly source: { readonly client: MongoClient; readonly at: Optime };
  readonly copy: { readonly client: MongoClient };
  /** False for a copy that cannot hold the source's UUIDs, such as one restored into a running deployment. */
  readonly uuids?: boolean;
  /** Patterns of what the copy was to be without; a copy that holds some of it all the same is not equal. */
  readonly exclude?: readonly string[];
  /** How many `_id`s to tell of each difference. They are user data: for tests only, and 0 by default. */
  readonly ids?: number;
}

/**
 * Compares everything that the invariant names. Takes a read of all documents of both sides; changes nothing.
 * @throws LifeboatError `SourceUnavailable` and its like when one of the two does not answer
 */
export async function proveEqual(question: EqualityQuestion): Promise<EqualityReport> {
  try {
    return await new Proof(question).run();
  } catch (error) {
    throw castDriverError(error, 'source', 'comparing a copy with its source');
  }
}

/** Collections compared side by side. */
const AT_ONCE = 4;

/** NamespaceNotFound: dropped since, or between two reads. */
const NOT_FOUND = 26;
/**
 * InvalidOptions, SnapshotTooOld, SnapshotUnavailable, OperationNotSupportedInTransaction: the server cannot read a
 * collection at a past time.
 */
const NO_SNAPSHOT = new Set([72, 239, 246, 263]);

function failedWith(error: unknown, codes: (code: number) => boolean): boolean {
  return error instanceof MongoServerError && codes(Number(error.code));
}

/** A mongod makes this collection itself at its first start, before anything else can, so a copy cannot hold its UUID. */
const MADE_BY_MONGOD = 'admin.system.version';

/** A namespace that both sides have, and its indexes when it is a collection. */
interface Pair {
  readonly source: Namespace;
  readonly copy: Namespace;
  readonly sourceIndexes: Indexes;
  readonly copyIndexes: Indexes;
}

/** What 4.4 cannot (tried on 4.4.2). */
interface Abilities {
  /** Reads at a past time outside a transaction: versions from 5.0 on. */
  readonly readsPast: boolean;
  /** Writes an entry for each document that a capped collection loses: feature compatibility versions from 5.0 on. */
  readonly logsTrims: boolean;
}

async function abilitiesOf(client: MongoClient): Promise<Abilities> {
  const admin = client.db('admin');
  const { version } = await admin.command({ buildInfo: 1 });
  const parameter = await admin.command({ getParameter: 1, featureCompatibilityVersion: 1 });
  const features = parameter['featureCompatibilityVersion'] as { readonly version: string };
  const isFrom5 = (text: string): boolean => Number.parseInt(text, 10) >= 5;
  return { readsPast: isFrom5(String(version)), logsTrims: isFrom5(features.version) };
}

class Proof {
  readonly #source: MongoClient;
  readonly #copy: MongoClient;
  readonly #at: Timestamp;
  readonly #uuids: boolean;
  readonly #exclude: readonly string[];
  readonly #ids: number;
  readonly #since: ChangesSince;
  #abilities: Abilities = { readsPast: true, logsTrims: true };
  readonly #differences: Difference[] = [];
  readonly #notCompared: NotCompared[] = [];
  #collections = 0;
  #views = 0;
  #documents = 0;
  #bytes = 0;

  constructor({ source, copy, uuids = true, exclude = [], ids = 0 }: EqualityQuestion) {
    this.#source = source.client;
    this.#copy = copy.client;
    this.#at = toTimestamp(source.at);
    this.#uuids = uuids;
    this.#exclude = exclude;
    this.#ids = ids;
    this.#since = new ChangesSince(source.client, this.#at);
  }

  async run(): Promise<EqualityReport> {
    this.#abilities = await abilitiesOf(this.#source);
    const ofSource = await listNamespaces(this.#source, this.#exclude);
    const ofCopy = await listNamespaces(this.#copy);
    const pairs: Pair[] = [];
    await this.#each(ofSource.values(), async (source) => {
      const copy = ofCopy.get(source.full);
      if (copy) pairs.push(await this.#withIndexes(source, copy));
    });
    for (const { source } of pairs) {
      if (source.options.has('capped') && source.uuid !== undefined) this.#since.inserted.set(source.uuid, new Set());
    }
    // Lists show what is there now: whatever changed since then is known after this.
    await this.#since.refresh();
    if (this.#since.isWhole) {
      this.#compareNames(ofSource, ofCopy);
      await this.#each(pairs.values(), (pair) => this.#compare(pair));
    }
    if (!this.#since.isWhole) {
      this.#notCompared.push({
        namespace: '*',
        reason: 'the oplog of the source no longer reaches back to that optime',
      });
    }
    return {
      equal: this.#differences.length === 0 && this.#notCompared.length === 0,
      comparedCollections: this.#collections,
      comparedViews: this.#views,
      comparedDocuments: this.#documents,
      comparedBytes: this.#bytes,
      differences: this.#differences.toSorted(byNamespace),
      notCompared: this.#notCompared.toSorted(byNamespace),
    };
  }

  async #each<T>(items: Iterator<T>, work: (item: T) => Promise<void>): Promise<void> {
    const loop = async (): Promise<void> => {
      for (let next = items.next(); !next.done; next = items.next()) await work(next.value);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, loop));
  }

  async #withIndexes(source: Namespace, copy: Namespace): Promise<Pair> {
    const none: Indexes = new Map();
    if (source.uuid === undefined || copy.uuid === undefined)
      return { source, copy, sourceIndexes: none, copyIndexes: none };
    const copyIndexes = await listIndexes(this.#copy, copy);
    try {
      return { source, copy, sourceIndexes: await listIndexes(this.#source, source), copyIndexes };
    } catch (error) {
      // Dropped a moment ago: the oplog will say so.
      if (failedWith(error, (code) => code === NOT_FOUND)) return { source, copy, sourceIndexes: none, copyIndexes };
      throw error;
    }
  }

  #compareNames(ofSource: ReadonlyMap<string, Namespace>, ofCopy: ReadonlyMap<string, Namespace>): void {
    for (const source of ofSource.values()) {
      // What was created later did not exist at the optime.
      if (this.#isLater(source)) continue;
      if (this.#hasMoved(source)) this.#leaveOut(source, 'it was renamed, dropped or redefined since');
      else if (!ofCopy.has(source.full)) this.#differ(source, 'namespace-missing');
    }
    for (const copy of ofCopy.values()) {
      const source = ofSource.get(copy.full);
      if (source && !this.#isLater(source)) continue;
      if (this.#hasMoved(copy)) this.#leaveOut(copy, 'it was renamed, dropped or redefined since');
      else this.#differ(copy, 'namespace-extra');
    }
  }

  #isLater({ uuid, full }: Namespace): boolean {
    return this.#since.created.has(uuid ?? full);
  }

  #hasMoved({ db, uuid, full }: Namespace): boolean {
    return this.#since.moved.has(uuid ?? full) || (uuid === undefined && this.#since.viewsGone.has(db));
  }

  async #compare(pair: Pair): Promise<void> {
    const { source, copy } = pair;
    if (this.#isLater(source) || this.#hasMoved(source)) return;
    if (source.type !== copy.type) {
      this.#differ(source, 'type');
      return;
    }
    this.#compareDefinitions(pair);
    if (source.uuid === undefined) {
      this.#views++;
    } else {
      this.#collections++;
      if (holdsComparedDocuments(source)) await this.#compareContents(pair, source.uuid);
    }
  }

  #compareDefinitions({ source, copy, sourceIndexes, copyIndexes }: Pair): void {
    if (this.#uuids && source.full !== MADE_BY_MONGOD && source.uuid !== copy.uuid) this.#differ(source, 'uuid');
    if (this.#since.altered.has(source.uuid ?? source.full)) {
      this.#leaveOut(source, 'its options or indexes changed since; its documents were compared');
      return;
    }
    const options = differingNames(source.options, copy.options);
    if (options.length > 0) this.#differ(source, 'options', { count: options.length, names: options });
    const indexes = differingIndexes(sourceIndexes, copyIndexes);
    if (indexes.length > 0) this.#differ(source, 'indexes', { count: indexes.length, names: indexes });
  }

  async #compareContents(pair: Pair, uuid: string): Promise<void> {
    const capped = pair.source.options.has('capped');
    try {
      if (capped || !(await this.#compareAsItWas(pair, uuid))) await this.#compareAsItIs(pair, uuid, capped);
    } catch (error) {
      if (!failedWith(error, (code) => code === NOT_FOUND)) throw error;
      this.#leaveOut(pair.source, 'it was dropped while it was compared');
    }
  }

  /** False when the server cannot read the collection at that optime. */
  async #compareAsItWas(pair: Pair, uuid: string): Promise<boolean> {
    try {
      this.#judge(pair, await this.#read(pair, uuid, 'snapshot'));
      return true;
    } catch (error) {
      if (failedWith(error, (code) => NO_SNAPSHOT.has(code))) return false;
      throw error;
    }
  }

  /** As it is now counts as it was, as far as no entry since then says otherwise. */
  async #compareAsItIs(pair: Pair, uuid: string, capped: boolean): Promise<void> {
    // A capped collection is what it was, but for the documents whose inserts are told of, if it lost none: nobody knows
    // that where an insert may have trimmed it without a word.
    const growsVisibly = capped && this.#abilities.logsTrims;
    const isKnown = (): boolean =>
      !this.#hasMoved(pair.source) && !(growsVisibly ? this.#since.rewritten : this.#since.written).has(uuid);
    if (isKnown()) {
      const compared = await this.#read(pair, uuid, 'majority');
      await this.#since.refresh();
      if (isKnown()) {
        this.#judge(pair, compared, this.#since.inserted.get(uuid));
        return;
      }
    }
    this.#leaveOut(
      pair.source,
      capped
        ? 'it is capped and changed since: the source no longer has what it held'
        : 'the source no longer has what it held',
    );
  }

  async #read(pair: Pair, uuid: string, level: 'snapshot' | 'majority'): Promise<DocumentsCompared> {
    const { db, name } = pair.source;
    const growing = pair.source.options.has('capped');
    const order = orderOf(pair.source);
    const find = { find: uuidBinary(uuid), ...order, noCursorTimeout: true };
    await using source =
      level === 'snapshot' && !this.#abilities.readsPast
        ? new RawCursor(this.#source.db(db), find, this.#at)
        : new RawCursor(this.#source.db(db), { ...find, readConcern: this.#readConcern(level) });
    await using copy = new RawCursor(this.#copy.db(db), { find: name, ...order, noCursorTimeout: true });
    return await compareDocuments(source, copy, { maxIds: this.#ids, growing });
  }

  #readConcern(level: 'snapshot' | 'majority'): Document {
    return level === 'snapshot' ? { level, atClusterTime: this.#at } : { level, afterClusterTime: this.#at };
  }

  /** @param addedLater for a capped collection, the `_id`s that were inserted since */
  #judge({ source }: Pair, compared: DocumentsCompared, addedLater?: ReadonlySet<string>): void {
    const { extra, different, reordered } = compared;
    const lost = compared.onlyInSource.filter((id) => !addedLater?.has(id));
    const missing = { count: compared.missing.count + lost.length, ids: [...compared.missing.ids, ...lost] };
    this.#documents += compared.documents;
    this.#bytes += compared.bytes;
    this.#count(source, 'missing', missing, compared);
    this.#count(source, 'extra', extra, compared);
    this.#count(source, 'different', different, compared);
    const isSame = missing.count + extra.count + different.count === 0;
    if (source.options.has('capped') && isSame && reordered) this.#differ(source, 'order');
  }

  #count(namespace: Namespace, kind: DifferenceKind, { count, ids }: Found, { gaveUp }: DocumentsCompared): void {
    if (count === 0) return;
    const told = this.#ids > 0 ? { ids: ids.slice(0, this.#ids) } : {};
    this.#differ(namespace, kind, { count, ...told, ...(gaveUp ? { atLeast: true as const } : {}) });
  }

  #leaveOut({ full: namespace }: Namespace, reason: string): void {
    this.#notCompared.push({ namespace, reason });
  }

  #differ({ full: namespace }: Namespace, kind: DifferenceKind, more: Partial<Difference> = {}): void {
    this.#differences.push({ namespace, kind, count: 1, ...more });
  }
}

/**
 * The order to read a collection in. Natural order is part of what a capped collection is. That of a clustered one is
 * the order of `_id`, whose index 5.0 has no name for. Any other has an index on `_id`.
 */
function orderOf({ options }: Namespace): Document {
  const natural = options.has('capped') || options.has('clusteredIndex');
  return natural ? { hint: { $natural: 1 } } : { sort: { _id: 1 }, hint: { _id: 1 } };
}

function byNamespace(a: { readonly namespace: string }, b: { readonly namespace: string }): number {
  return a.namespace < b.namespace ? -1 : a.namespace > b.namespace ? 1 : 0;
}
