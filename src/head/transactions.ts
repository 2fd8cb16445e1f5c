/**
 * Transactions whose entries have been seen and whose outcome has not (research, mongodb-internals §1).
 *
 * A transaction is one or more `applyOps` entries of one session and number: all but the last say `partialTxn`; the last
 * is the commit itself, or says `prepare`, and then a `commitTransaction` or `abortTransaction` decides.
 */
import { elementName, elements } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { compareOptimes, formatOptime, type Position } from '../shared/optime.ts';
import { commandName, innerOperations, parseEntry, positionOf, type OplogEntry } from './entry.ts';

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
  readonly entries: OplogEntry[];
}

export class TransactionBuffer {
  /** By the raw bytes of `lsid`: a session has one transaction open at a time. */
  readonly #open = new Map<string, OpenTransaction>();

  /** Keeps an entry until its transaction is decided. One that it has already, of a batch that is read again, it passes over. */
  add(entry: OplogEntry): void {
    const key = sessionOf(entry);
    const known = this.#open.get(key);
    if (known && known.number > entry.txnNumber) return;
    if (known?.entries.some(({ tsT, tsI }) => tsT === entry.tsT && tsI === entry.tsI)) return;
    const kept = copyOf(entry);
    if (known?.number === entry.txnNumber) {
      known.entries.push(kept);
      return;
    }
    // A higher number means that the one before was aborted without a word.
    this.#open.set(key, { number: entry.txnNumber, begin: positionOf(entry), entries: [kept] });
  }

  /** Forgets the transaction of an `abortTransaction`. */
  abort(entry: OplogEntry): void {
    const key = sessionOf(entry);
    if (this.#open.get(key)?.number === entry.txnNumber) this.#open.delete(key);
  }

  /**
   * The operations of the transaction that `entry` commits, in their order; the buffer forgets it.
   * @param entry a `commitTransaction`, or the last `applyOps` of one that was not prepared
   * @throws LifeboatError `EntriesMissing` when some of it is not in the buffer
   */
  commit(entry: OplogEntry): OplogEntry[] {
    const entries = this.#take(entry);
    if (commandName(entry) === 'applyOps') entries.push(entry);
    const inner = entries.flatMap((one) => innerOperations(one));
    const last = entries.at(-1);
    const count = last && countOf(last);
    if (!last || (count !== undefined && count !== inner.length)) {
      const where = formatOptime({ t: entry.tsT, i: entry.tsI });
      throw new LifeboatError('EntriesMissing', `of the transaction committed at ${where} not all entries are stored`);
    }
    return inner;
  }

  /** Forgets the transaction that `entry` commits: it is already applied. */
  forget(entry: OplogEntry): void {
    this.#take(entry);
  }

  #take(entry: OplogEntry): OplogEntry[] {
    const key = sessionOf(entry);
    const known = this.#open.get(key);
    if (!known || known.number > entry.txnNumber) return [];
    this.#open.delete(key);
    return known.number === entry.txnNumber ? known.entries : [];
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

function sessionOf(entry: OplogEntry): string {
  return entry.buffer.toString('latin1', entry.lsidStart, entry.lsidEnd);
}

/** Its own bytes: the buffer it came in is large and would otherwise be held as long as the transaction is open. */
function copyOf(entry: OplogEntry): OplogEntry {
  return parseEntry(Buffer.from(entry.buffer.subarray(entry.start, entry.end)), 0);
}
