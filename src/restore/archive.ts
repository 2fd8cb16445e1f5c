/**
 * Writing an archive that `mongorestore --archive` reads, as `mongodump --archive` writes it:
 *
 *     magic, header, one definition of each collection, terminator,
 *     then segments { header, documents, terminator } and ends { header with EOF and checksum, terminator }, in any order
 *
 * Documents go through as they are. The writer knows of no file: it hands bytes to a sink, one call at a time, and keeps
 * none. What `mongorestore` would trip over is refused here, before it is in an archive that somebody counts on.
 *
 * The format: mongo-tools 100.9.4, common/archive/spec.md, and beyond it what prelude.go, multiplexer.go, demultiplexer.go
 * and mongorestore.go do.
 */
import { calculateObjectSize, Long, serialize, type Document } from 'bson';
import { Gate } from '../blockstore/gate.ts';
import { canonicalJson, NotExtendedJson } from '../bson/extended-json.ts';
import { documentLength } from '../bson/raw.ts';
import { Crc64 } from '../shared/crc64.ts';
import { LifeboatError } from '../shared/errors.ts';
import { BUCKETS } from '../source/filter.ts';

/** Where the bytes go. The writer calls it again only when it is done, and the caller's buffers are the caller's then. */
export type Sink = (bytes: Buffer) => Promise<void>;

/** What `listCollections` and `listIndexes` answer of a collection, as raw BSON. */
export interface Definition {
  readonly type: 'collection' | 'view' | 'timeseries';
  readonly options: Buffer;
  /** A time series has those that are listed of itself, not of its buckets; a view has none. */
  readonly indexes: readonly Buffer[];
  /** 16 bytes; absent where the server names none (a view, a time series). */
  readonly uuid?: Buffer;
}

export interface ArchivedCollection {
  readonly db: string;
  /** A time series goes by its own name here; its documents are those of its buckets. */
  readonly name: string;
  /**
   * Absent for `$admin.system.users`, `$admin.system.roles` and `$admin.system.version`: these are what an archive of one
   * database has instead of `admin.system.users` and so on, and are restored with `--restoreDbUsersAndRoles` alone. Either
   * way the version goes with the users and roles: without it they are taken for those of a 2.4, and refused.
   */
  readonly definition?: Definition;
  /** About how many bytes of documents will come, for the progress that `mongorestore` shows. */
  readonly bytes?: number;
}

export interface ArchiveContents {
  /** How many collections may be open at once; `mongorestore` reads as many beside each other, and more would block it. */
  readonly concurrentCollections: number;
  /** The version of the server that the documents come from, such as 6.0.5. */
  readonly serverVersion: string;
  /** Who writes the archive, for people. */
  readonly toolVersion: string;
  readonly collections: readonly ArchivedCollection[];
}

/** A collection that is being written. */
export interface OpenCollection {
  /**
   * Writes documents, one or a run of them, and resolves when the sink has them. Best as many at once as are at hand: where
   * collections alternate, each run has a header of its own.
   * @throws NotInArchive, what the sink throws, LifeboatError `Internal` for bytes that are no documents
   */
  write(documents: Buffer): Promise<void>;
  /** Says that all documents were written. */
  end(): Promise<void>;
}

/** Something that no archive can hold in a way that `mongorestore` reads it; the message names its namespace alone. */
export class NotInArchive extends Error {
  override readonly name = 'NotInArchive';
}

const MAGIC = Buffer.of(0x6d, 0xe2, 0x99, 0x81);
const FORMAT_VERSION = '0.1';
const TERMINATOR = Buffer.of(0xff, 0xff, 0xff, 0xff);

/** The longest document that `mongorestore` reads, in bytes (db.MaxBSONSize). A server adds an `_id` beyond that limit. */
const LONGEST_DOCUMENT = 16 * 1024 * 1024;

const EMPTY_DOCUMENT_BYTES = 5;

/**
 * What `mongorestore` reads to its end before it begins with any other collection (mongorestore.go, Restore): it keeps them
 * in memory, and merges users and roles at the end.
 */
const FIRST = /^(admin\.|[^.]*\.\$admin\.)system\.(users|roles|version)$/;

/** A collection on its way into the archive. */
interface Entry {
  readonly namespace: string;
  readonly collection: ArchivedCollection;
  readonly comesFirst: boolean;
  readonly checksum: Crc64;
  state: 'unopened' | 'open' | 'ended';
  /** Whether a segment of it was begun. */
  begun: boolean;
}

export class ArchiveWriter {
  readonly #sink: Sink;
  readonly #contents: ArchiveContents;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #turns = new Gate(1);
  /** Whose segment is being written. */
  #current: Entry | undefined;
  #open = 0;
  /** How many that come first have not ended. */
  #firstLeft: number;
  #failure: { readonly error: unknown } | undefined;

  private constructor(sink: Sink, contents: ArchiveContents) {
    this.#sink = sink;
    this.#contents = contents;
    this.#entries = entriesOf(contents.collections);
    this.#firstLeft = [...this.#entries.values()].filter(({ comesFirst }) => comesFirst).length;
  }

  /**
   * Writes the beginning of an archive: what it will hold.
   * @throws NotInArchive before anything is written; what the sink throws
   */
  static async begin(sink: Sink, contents: ArchiveContents): Promise<ArchiveWriter> {
    const writer = new ArchiveWriter(sink, contents);
    const prelude = preludeOf(contents);
    await writer.#inTurn(() => sink(prelude));
    return writer;
  }

  /**
   * Opens a collection of the contents for its documents; each once, but no view, and users, roles and their version first.
   * @throws LifeboatError `Internal` when it is not to be opened, or not yet
   */
  open(db: string, name: string): OpenCollection {
    const namespace = `${db}.${name}`;
    const entry = this.#entries.get(namespace);
    if (!entry || isView(entry)) throw misuse(`${namespace} has no documents in this archive`);
    if (entry.state !== 'unopened') throw misuse(`${namespace} was opened before`);
    if (!entry.comesFirst && this.#firstLeft > 0) {
      throw misuse(`${namespace} comes before users and roles were written`);
    }
    if (this.#open >= this.#contents.concurrentCollections) {
      throw misuse(`${namespace} is one more than may be open at once`);
    }
    this.#open += 1;
    entry.state = 'open';
    return { write: (documents) => this.#write(entry, documents), end: () => this.#end(entry) };
  }

  /**
   * Ends the archive. Until then it is not complete, and `mongorestore` says so.
   * @throws LifeboatError `Internal` when documents of a collection are still to come; what the sink throws
   */
  async end(): Promise<void> {
    const left = [...this.#entries.values()].filter(({ state }) => state !== 'ended');
    const unwritten = left.find((entry) => !isView(entry));
    if (unwritten) throw misuse(`${unwritten.namespace} was not written to its end`);
    // `mongorestore` makes a view when its empty collection comes, and misses it otherwise.
    for (const view of left) view.state = 'ended';
    await this.#inTurn(async () => {
      for (const view of left) await this.#finish(view);
    });
  }

  async #write(entry: Entry, documents: Buffer): Promise<void> {
    checkDocuments(entry.namespace, documents);
    if (entry.state !== 'open') throw misuse(`${entry.namespace} was ended before`);
    if (documents.length === 0) return;
    await this.#inTurn(async () => {
      if (this.#current !== entry) await this.#begin(entry);
      const written = this.#sink(documents);
      // While they are on their way.
      entry.checksum.update(documents);
      await written;
    });
  }

  async #end(entry: Entry): Promise<void> {
    if (entry.state !== 'open') throw misuse(`${entry.namespace} was ended before`);
    // Before its turn has come: turns keep their order, so whatever is asked for from now on comes behind it.
    entry.state = 'ended';
    this.#open -= 1;
    if (entry.comesFirst) this.#firstLeft -= 1;
    await this.#inTurn(() => this.#finish(entry));
  }

  async #finish(entry: Entry): Promise<void> {
    // A collection without documents has a segment nevertheless, as `mongodump` writes it.
    if (!entry.begun) await this.#begin(entry);
    await this.#sink(Buffer.concat([...this.#closing(), segmentEnd(entry), TERMINATOR]));
    this.#current = undefined;
  }

  async #begin(entry: Entry): Promise<void> {
    await this.#sink(Buffer.concat([...this.#closing(), segmentHeader(entry)]));
    this.#current = entry;
    entry.begun = true;
  }

  /** What ends the segment that is being written. */
  #closing(): Buffer[] {
    return this.#current ? [TERMINATOR] : [];
  }

  /** One at a time, in the order they were asked for; none any more after one that failed halfway. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    await this.#turns.run(async () => {
      if (this.#failure) throw this.#failure.error;
      try {
        await work();
      } catch (error) {
        this.#failure = { error };
        throw error;
      }
    });
  }
}

function misuse(what: string): LifeboatError {
  return new LifeboatError('Internal', `archive: ${what}`);
}

function isView({ collection }: Entry): boolean {
  return collection.definition?.type === 'view';
}

function entriesOf(collections: readonly ArchivedCollection[]): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const collection of collections) {
    const namespace = `${collection.db}.${collection.name}`;
    if (entries.has(namespace)) throw misuse(`${namespace} comes twice`);
    // `mongorestore` takes every such name for that of a time series.
    if (collection.name.startsWith(BUCKETS)) throw misuse(`${namespace} is not called as its time series`);
    const comesFirst = FIRST.test(namespace);
    const checksum = new Crc64();
    entries.set(namespace, { namespace, collection, comesFirst, checksum, state: 'unopened', begun: false });
  }
  return entries;
}

function preludeOf({ concurrentCollections, serverVersion, toolVersion, collections }: ArchiveContents): Buffer {
  const header = serialize({
    concurrent_collections: concurrentCollections,
    version: FORMAT_VERSION,
    server_version: serverVersion,
    tool_version: toolVersion,
  });
  return Buffer.concat([MAGIC, header, ...collections.map(definitionOf), TERMINATOR]);
}

function definitionOf(collection: ArchivedCollection): Uint8Array {
  const { db, name, definition, bytes = 0 } = collection;
  const document: Document = {
    db,
    collection: name,
    metadata: definition ? metadataText(collection, definition) : '',
    size: bytes < 2 ** 31 ? bytes : Long.fromNumber(bytes),
    type: definition?.type ?? '',
  };
  if (calculateObjectSize(document) > LONGEST_DOCUMENT)
    throw new NotInArchive(`the definition of ${db}.${name} is too long`);
  return serialize(document);
}

/** The text that `mongodump` also puts beside a collection's documents as NAME.metadata.json. */
function metadataText({ db, name }: ArchivedCollection, { type, options, indexes, uuid }: Definition): string {
  try {
    const members = [
      ...(options.length > EMPTY_DOCUMENT_BYTES ? [`"options":${canonicalJson(options)}`] : []),
      `"indexes":[${indexes.map((spec) => canonicalJson(spec)).join(',')}]`,
      ...(uuid ? [`"uuid":"${uuid.toString('hex')}"`] : []),
      `"collectionName":${JSON.stringify(name)}`,
      `"type":"${type}"`,
    ];
    return `{${members.join(',')}}`;
  } catch (error) {
    if (!(error instanceof NotExtendedJson)) throw error;
    const message = `the definition of ${db}.${name} cannot be told in Extended JSON: ${error.message}`;
    throw new NotInArchive(message, { cause: error });
  }
}

function segmentHeader(entry: Entry): Uint8Array {
  return serialize({ ...dataNamespace(entry), EOF: false, CRC: Long.ZERO });
}

function segmentEnd(entry: Entry): Uint8Array {
  return serialize({
    ...dataNamespace(entry),
    EOF: true,
    CRC: Long.fromBigInt(BigInt.asIntN(64, entry.checksum.value())),
  });
}

/** The collection whose documents they are. */
function dataNamespace({ collection: { db, name, definition } }: Entry): Document {
  return { db, collection: definition?.type === 'timeseries' ? `${BUCKETS}${name}` : name };
}

/** A run that is cut short, or a document that is not read, would cost everything behind it. */
function checkDocuments(namespace: string, documents: Buffer): void {
  for (let at = 0; at < documents.length;) {
    const length = documentLength(documents, at);
    if (length > LONGEST_DOCUMENT) throw new NotInArchive(`a document of ${namespace} is longer than 16 MiB`);
    at += length;
    if (documents[at - 1] !== 0) throw misuse(`a document of ${namespace} has no end`);
  }
}
