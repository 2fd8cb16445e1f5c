/**
 * Transactions whose entries have been seen and whose outcome has not (research, mongodb-internals §1).
 *
 * A transaction is one or more `applyOps` entries of one session and number: all but the last say `partialTxn`; the last
 * is the commit itself, or says `prepare`, and then a `commitTransaction` or `abortTransaction` decides. A transaction
 * can be larger than memory: what is too much for that waits in a file. After a restart the entries are read again.
 */
import { elementName, elements } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, formatOptime, type Position } from '../shared/optime.ts';
import { commandName, innerOperations, parseEntry, positionOf, type OplogEntry } from './entry.ts';
import { SpillFile } from './spill-file.ts';

/** What an `applyOps` entry is. */
export type OperationsKind = 'plain' | 'partial' | 'prepare' | 'last';

/** Tells a transaction's entries from an ordinary group of operations, which is applied at once. */
export function operationsKind(entry: OplogEntry): OperationsKind {
  // 1: retryable inserts of one command, in 8.0. They have a session but are no transaction.
  if (entry.txnNumber < 0n || entry.lsidEnd === 0 || entry.multiOpType === 1) return 'plain';
  const { buffer } = entry;
  for (const element of elements(buffer, entry.oStart)) {
    const name = elementName(buffer, element);
    if (name === 'partialTxn' && buffer[element.valueStart] === 1) return 'partial';
    if (name === 'prepare' && buffer[element.valueStart] === 1) return 'prepare';
  }
  return 'last';
}

/** `count` of the last entry of a transaction: its operations over all entries. */
function countOf(entry: OplogEntry): number | undefined {
  const { buffer } = entry;
  for (const element of elements(buffer, entry.oStart)) {
    if (elementName(buffer, element) === 'count') return Number(buffer.readBigInt64LE(element.valueStart));
  }
  return undefined;
}

interface OpenTransaction {
  readonly number: bigint;
  readonly begin: Position;
  /** The newest entry that is kept. */
  last: Position;
  /** Operations of all entries. */
  operations: number;
  /** How many the newest entry says there are, if it is the last one. */
  count: number | undefined;
  /** What is in memory; empty once the entries are in a file. */
  entries: OplogEntry[];
  bytes: number;
  file: SpillFile | undefined;
}

/** The operations of a transaction that commits, in their order: all of them, or those of one entry at a time. */
export type Committed =
  { readonly operations: readonly OplogEntry[] } | { readonly groups: AsyncIterable<readonly OplogEntry[]> };

/** What the entries of all undecided transactions take of memory before they go into files. */
const MEMORY_BYTES = 32 * 1024 * 1024;

export class TransactionBuffer {
  /** By the raw bytes of `lsid`: a session has one transaction open at a time. */
  readonly #open = new Map<string, OpenTransaction>();
  readonly #folder: string;
  #bytes = 0;

  /** @param folder where entries go that are too many for memory; nothing is left of them when the process ends */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Keeps an entry until its transaction is decided. One that it has already, of a batch that is read again, it passes over. */
  async add(entry: OplogEntry): Promise<void> {
    const key = sessionOf(entry);
    const position = positionOf(entry);
    let known = this.#open.get(key);
    if (known && known.number > entry.txnNumber) return;
    if (known?.number === entry.txnNumber && compareOptimes(position.ts, known.last.ts) <= 0) return;
    if (known?.number !== entry.txnNumber) {
      // A higher number means that the one before was aborted without a word.
      this.#discard(key);
      const empty = { operations: 0, count: undefined, entries: [], bytes: 0, file: undefined };
      known = { number: entry.txnNumber, begin: position, last: position, ...empty };
      this.#open.set(key, known);
    }
    known.last = position;
    known.operations += innerOperations(entry).length;
    known.count = countOf(entry);
    await this.#keep(known, entry);
  }

  async #keep(transaction: OpenTransaction, entry: OplogEntry): Promise<void> {
    const bytes = entry.end - entry.start;
    if (!transaction.file && this.#bytes + bytes <= MEMORY_BYTES) {
      transaction.entries.push(copyOf(entry));
      transaction.bytes += bytes;
      this.#bytes += bytes;
      return;
    }
    transaction.file ??= await SpillFile.create(this.#folder);
    const { entries } = transaction;
    transaction.entries = [];
    this.#bytes -= transaction.bytes;
    transaction.bytes = 0;
    for (const one of [...entries, entry]) await transaction.file.append(one.buffer.subarray(one.start, one.end));
  }

  /** Forgets the transaction of an `abortTransaction`. */
  abort(entry: OplogEntry): void {
    const key = sessionOf(entry);
    if (this.#open.get(key)?.number === entry.txnNumber) this.#discard(key);
  }

  /**
   * The operations of the transaction that `entry` commits; the buffer forgets it.
   * @param entry a `commitTransaction`, or the last `applyOps` of one that was not prepared
   * @throws LifeboatError `EntriesMissing` when some of it is not in the buffer
   */
  commit(entry: OplogEntry): Committed {
    const known = this.#take(entry);
    const isLast = commandName(entry) === 'applyOps';
    const own = isLast ? innerOperations(entry) : [];
    // The last `applyOps` entry of several says how many operations there are in all.
    const count = isLast ? countOf(entry) : known?.count;
    const found = (known?.operations ?? 0) + own.length;
    if ((!known && !isLast) || (count !== undefined && count !== found)) {
      known?.file?.close();
      const where = formatOptime({ t: entry.tsT, i: entry.tsI });
      throw new LifeboatError('EntriesMissing', `of the transaction committed at ${where} not all entries are stored`);
    }
    const { entries = [], file } = known ?? {};
    return file
      ? { groups: groupsIn(file, own) }
      : { operations: [...entries.flatMap((one) => innerOperations(one)), ...own] };
  }

  /** Forgets the transaction that `entry` commits: it is already applied. */
  forget(entry: OplogEntry): void {
    this.#take(entry)?.file?.close();
  }

  /** Forgets everything, and lets go of the files. */
  close(): void {
    for (const key of [...this.#open.keys()]) this.#discard(key);
  }

  #take(entry: OplogEntry): OpenTransaction | undefined {
    const key = sessionOf(entry);
    const known = this.#open.get(key);
    if (!known || known.number > entry.txnNumber) return undefined;
    this.#open.delete(key);
    this.#bytes -= known.bytes;
    if (known.number === entry.txnNumber) return known;
    known.file?.close();
    return undefined;
  }

  #discard(key: string): void {
    const known = this.#open.get(key);
    if (!known) return;
    this.#open.delete(key);
    this.#bytes -= known.bytes;
    known.file?.close();
  }

  /** The first entry of the oldest transaction that is undecided, or undefined when all are decided. */
  get oldest(): Position | undefined {
    let oldest: Position | undefined;
    for (const { begin } of this.#open.values()) {
      if (!oldest || compareOptimes(begin.ts, oldest.ts) < 0) oldest = begin;
    }
    return oldest;
  }
}

/** Reads a transaction back, entry by entry, and lets go of its file. */
async function* groupsIn(file: SpillFile, last: OplogEntry[]): AsyncGenerator<OplogEntry[]> {
  try {
    for await (const bytes of file.documents()) yield innerOperations(parseEntry(bytes, 0));
    yield last;
  } finally {
    file.close();
  }
}

function sessionOf(entry: OplogEntry): string {
  return entry.buffer.toString('latin1', entry.lsidStart, entry.lsidEnd);
}

/** Its own bytes: the buffer it came in is large and would otherwise be held as long as the transaction is open. */
function copyOf(entry: OplogEntry): OplogEntry {
  return parseEntry(Buffer.from(entry.buffer.subarray(entry.start, entry.end)), 0);
}
