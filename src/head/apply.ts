/**
 * Applying oplog entries to a head, in their order, so that a crash at any moment loses and doubles nothing (design
 * decision 5).
 *
 * Three roads:
 * - *whole*: operations on documents go into one `applyOps` that is all or nothing, with the head's new position as its
 *   last operation. No crash finds anything in between.
 * - *marked*: what cannot be whole (commands, many updates by difference, transactions too large for one batch, servers
 *   from 7.0 on) is preceded by a durable mark, `inconsistentUntil`. A head that is opened with that mark applies entries
 *   up to it *tolerantly*.
 * - *tolerant*: over data that may be of the future, as in an initial sync. Updates of documents and collections that
 *   are not there are passed over: they are deleted by a later entry. An index that refuses a document is put off.
 */
import { BsonType, elements, findElement, stringValue } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { HeadPosition } from '../shared/messages.ts';
import { compareOptimes, samePosition, type Position } from '../shared/optime.ts';
import { namespaceRule, splitNamespace } from '../source/namespaces.ts';
import { bytesOf, fitsOneBatch, isCapped, OpBatch, type BatchOp, type OpTarget } from './batch.ts';
import type { HeadCollection } from './catalog.ts';
import { applyCommand, incomingBy, type IncomingCollection } from './ddl.ts';
import { describe, documentEntry, innerOperations, parseEntry, positionOf, type OplogEntry } from './entry.ts';
import { anew, hasZeroTimestamp, isRefusedInPlace, isStoredAsGiven, OTHER_SIZE, withIdFirst } from './exact.ts';
import { refuseFeatureVersion } from './feature-version.ts';
import { buildDeferred, dropIndex, indexName, isUnique, readIndexes } from './indexes.ts';
import { exactly } from './exactly.ts';
import { KnownEntries } from './known-entries.ts';
import { idDocument, noteMissing, type MissingDocument } from './missing.ts';
import type { OpenHead } from './open-head.ts';
import { isTooLarge, refuseUnlessOfTheData } from './replies.ts';
import type { Reply } from './socket.ts';
import { refuseShadowed } from './shadowed.ts';
import { isTolerant, later, positionIn, reached, refuseDiverged, type HeadRecord } from './state.ts';
import { operationsKind, TransactionBuffer } from './transactions.ts';

const DUPLICATE_KEY = 11000;
const NAMESPACE_NOT_FOUND = 26;
/** "applyOps had one or more errors": each failed operation is in `results`, and all were tried. */
const SOME_FAILED = 8;
/** What it is when all or nothing was wanted. */
const UPDATE_OPERATION_FAILED = 218;

/** Operations in their order, of one entry at a time: not all of them need be in memory. */
type OperationGroups = Iterable<readonly OplogEntry[]> | AsyncIterable<readonly OplogEntry[]>;

/** Of an operation on a collection that is no part of the backup, or that is not there and need not be. */
const PASSED_OVER = Symbol('passed over');

export class Applier {
  readonly #head: OpenHead;
  readonly #known: KnownEntries;
  /**
   * Whether an `applyOps` that is no transaction is a client's, done all or nothing: up to 6.x, where of others each
   * operation has an entry of its own. What it pushed out of capped collections has none (tried on 4.4.2, 5.0.32, 6.0.5,
   * 6.0.27).
   */
  readonly #clientsGroup: boolean;
  readonly #transactions: TransactionBuffer;
  /** What is being put together, and what the head is working on. */
  #batch = new OpBatch();
  #spare = new OpBatch();
  #inFlight: Promise<void> | undefined;
  /** The newest entry that is handled, though perhaps not sent yet. */
  #newest: OplogEntry | undefined;
  /** The first entry of the oldest transaction that was undecided behind `#newest`. */
  #undecided: Position | undefined;
  #entries = 0;
  /** True while a mark says less than is known: this process has seen that the head was consistent before it. */
  #marking = false;
  /** Of the run at hand. */
  #signal = NEVER;

  /** @param folder where transactions wait that are too large for memory */
  constructor(head: OpenHead, folder: string) {
    refuseDiverged(head.record);
    this.#head = head;
    this.#known = new KnownEntries(head.version);
    this.#clientsGroup = Number.parseInt(head.version, 10) <= 6;
    this.#transactions = new TransactionBuffer(folder);
  }

  /** Lets go of what it holds; it applies nothing any more. */
  close(): void {
    this.#transactions.close();
  }

  /** Where the head stands, after what is applied by now. */
  get position(): HeadPosition {
    return positionIn(this.#head.record);
  }

  /** Where reading has to begin: entries up to the position tell of open transactions, until they were read once. */
  get readFrom(): Position {
    return this.#newest ? this.position.appliedThrough : this.position.oplogFrom;
  }

  /** How many entries were applied. */
  get entries(): number {
    return this.#entries;
  }

  /**
   * Applies a run of entries: raw, concatenated, in their order. Those up to the head's position only tell of open
   * transactions. When this settles every entry is applied, and the head stands at the last of them.
   * Before an entry that renames a collection into the backup it ends, and says which: what there is of that has to be read
   * from the source (src/steps/fetch-incoming.ts), and the run to be gone on with at `readFrom`.
   * @param until entries after it are left
   * @param signal ends an index build that is under way, and nothing else: it is to be aborted for good reason only, as
   *   the build begins anew
   * @throws LifeboatError `UnknownEntry`, `EntryNotSupported`, `Diverged`, `EntriesMissing`, `IndexBuildFailed`: the head
   *   then stands at some entry before the one named; `HeadLost`, `DiskFull`, `HeadStrained` (retryable): it is to be run
   *   again by a new applier, which finds a head that may be inconsistent until some entry
   */
  async run(entries: Buffer, until?: Position, signal: AbortSignal = NEVER): Promise<IncomingCollection | undefined> {
    // It may have been found out since the last run, by whoever compared it.
    refuseDiverged(this.#head.record);
    this.#signal = signal;
    try {
      for (let at = 0; at < entries.length;) {
        const entry = parseEntry(entries, at);
        at = entry.end;
        const position = positionOf(entry);
        if (until && !reached(until, position)) break;
        if (reached(this.position.appliedThrough, position)) {
          await this.#remember(entry);
          continue;
        }
        if (this.#mustBecomeConsistent(position)) await this.#becomeConsistent();
        const incoming = this.#head.filter.patterns.length > 0 ? incomingBy(this.#head, entry) : undefined;
        if (incoming) {
          await this.#settle();
          return incoming;
        }
        // Nearly every entry only joins the batch: waiting for each would take longer than that.
        const work = this.#handle(entry);
        if (work) await work;
        this.#newest = entry;
        this.#undecided = this.#transactions.oldest;
        this.#entries += 1;
      }
      await this.#settle();
      if (this.#mustBecomeConsistent(undefined)) await this.#becomeConsistent();
      return undefined;
    } catch (error) {
      await this.#inFlight?.catch(() => undefined);
      throw error;
    }
  }

  /**
   * Puts documents of the future (raw) into a collection of a head that is inconsistent until then, and takes others out
   * (`{_id}`, raw) before. An index that refuses one of them is put off.
   * @throws LifeboatError `Diverged` when the head takes one of them without any index neither
   */
  async put(target: OpTarget, documents: readonly Buffer[], gone: readonly Buffer[]): Promise<void> {
    await this.#settle();
    if (!this.#tolerant) throw new LifeboatError('Internal', `the head of ${this.#head.label} takes no such document`);
    const { ts, term } = this.position.appliedThrough;
    const place = { tsT: ts.t, tsI: ts.i, term };
    const entries = [
      ...gone.map((id) => ({ ...documentEntry('d', id), ...place })),
      ...documents.map((one) => ({ ...documentEntry('i', one), ...place })),
    ];
    const batch = new OpBatch();
    const send = async (): Promise<void> => {
      await this.#sendTolerant(batch, undefined);
      batch.clear();
    };
    for (const entry of entries) await this.#addExactly(batch, { entry, at: entry, target }, send);
    await send();
  }

  /** Takes note of an entry that is applied already. */
  async #remember(entry: OplogEntry): Promise<void> {
    const action = this.#known.actionFor(entry);
    const kind = action === 'operations' ? operationsKind(entry) : undefined;
    if (kind === 'partial' || kind === 'prepare') await this.#transactions.add(entry);
    else if (kind === 'last' || action === 'commit') this.#transactions.forget(entry);
    else if (action === 'abort') this.#transactions.abort(entry);
  }

  #handle(entry: OplogEntry): Promise<void> | undefined {
    switch (this.#known.actionFor(entry)) {
      case 'crud':
        return this.#isExactWhole(entry) ? this.#crud(entry) : this.#marked([[entry]], entry);
      case 'operations':
        return this.#operations(entry);
      case 'commit':
        return this.#transaction(entry);
      case 'abort':
        this.#transactions.abort(entry);
        return undefined;
      case 'command':
      case 'index':
        return this.#marked([[entry]], entry);
      case 'ignore':
      case 'stop':
        return undefined;
    }
  }

  #crud(entry: OplogEntry): Promise<void> | undefined {
    if (!this.#isPutLast(entry)) return this.#add([entry], entry);
    const [before, insert] = anew(entry);
    if (!before || !insert) return this.#add([entry], entry);
    const added = this.#add([before], entry);
    return added ? added.then(() => this.#add([insert], entry)) : this.#add([insert], entry);
  }

  /**
   * Whether a document is to be taken out before it is inserted: over data of the future it may be there already, and in a
   * capped collection the order of the inserts is that of the documents. Those that are inserted later come behind it in
   * the same way. With the features of a 4.4 nobody can delete from such a collection: what is there stays.
   */
  #isPutLast({ op, ui }: OplogEntry): boolean {
    return op === 'i' && this.#tolerant && !this.#head.trimsAlone && this.#head.catalog.get(ui)?.capped === true;
  }

  #operations(entry: OplogEntry): Promise<void> | undefined {
    switch (operationsKind(entry)) {
      case 'partial':
      case 'prepare':
        // What cannot be applied stops the backup where it stands, not where it commits: entries in between are of others.
        for (const one of innerOperations(entry)) this.#unrolled(one, entry);
        return this.#transactions.add(entry);
      case 'last':
        return this.#transaction(entry);
      case 'plain':
        return this.#group(
          this.#plainOperations(entry, entry).flatMap((one) => this.#unrolled(one, entry)),
          entry,
        );
    }
  }

  /** The transaction that an entry commits. */
  #transaction(entry: OplogEntry): Promise<void> | undefined {
    const committed = this.#transactions.commit(entry);
    if ('groups' in committed) return this.#marked(committed.groups, entry);
    return this.#unit(
      committed.operations.flatMap((one) => this.#unrolled(one, entry)),
      entry,
    );
  }

  /**
   * The operations of an `applyOps` that is no transaction, as its primary stored them. Up to 6.x its updates insert what is
   * not there, unless it says otherwise; its entry says so once, or not at all (apply_ops.idl, ApplyOps::extractOperationsTo).
   */
  #plainOperations(entry: OplogEntry, at: OplogEntry): OplogEntry[] {
    if (!this.#clientsGroup) return innerOperations(entry, at);
    const operations = innerOperations(entry, at).map(withIdFirst);
    const option = findElement(entry.buffer, 'alwaysUpsert', entry.oStart);
    if (option && entry.buffer[option.valueStart] === 0) return operations;
    return operations.map((one) => (one.op === 'u' ? { ...one, upsert: true } : one));
  }

  /** The operations of an `applyOps` that is no transaction. */
  #group(operations: readonly OplogEntry[], at: OplogEntry): Promise<void> | undefined {
    if (!this.#clientsGroup) return this.#unit(operations, at);
    this.#refuseZeros(operations, at);
    const isCappedOne = ({ op, ui }: OplogEntry): boolean => op !== 'd' && this.#head.catalog.get(ui)?.capped === true;
    const pushesOut = !this.#head.trimsAlone && !this.#tolerant && operations.some(isCappedOne);
    return this.#unit(operations, at, pushesOut);
  }

  /**
   * Of a zero at the top of what a client's `applyOps` stores some primaries make the time of day, on each document another
   * (4.4.2 and 6.0.5 do, 5.0.32 and 6.0.27 do not), and the entry does not tell which.
   */
  #refuseZeros(operations: readonly OplogEntry[], at: OplogEntry): void {
    const zero = operations.find(
      (one) => one.op !== 'd' && hasZeroTimestamp(one.buffer, one.oStart) && this.#targetOf(one, at) !== PASSED_OVER,
    );
    if (!zero) return;
    const what = `${describe(zero, at)} has a Timestamp(0,0), which a client wrote by applyOps`;
    const why = 'some servers store the time of day instead, and no entry says which';
    throw new LifeboatError('EntryNotSupported', `${this.#head.label}: ${what}: ${why}`);
  }

  /** Operations that are applied all together. `pushesOut`: and take out of capped collections what finds no room. */
  #unit(operations: readonly OplogEntry[], at: OplogEntry, pushesOut = false): Promise<void> | undefined {
    const bytes = operations.reduce((sum, one) => sum + bytesOf(one), 0);
    const areExact = operations.every(
      (one) => this.#known.actionFor(one, at) === 'crud' && this.#isExactWhole(one) && !this.#isPutLast(one),
    );
    if (!areExact || !fitsOneBatch(operations.length, bytes)) return this.#marked([operations], at, pushesOut);
    return pushesOut ? this.#addPushing(operations, at, bytes) : this.#add(operations, at, bytes);
  }

  #unrolled(operation: OplogEntry, at: OplogEntry): OplogEntry[] {
    const action = this.#known.actionFor(operation, at);
    if (action === 'ignore') return [];
    if (action !== 'operations') return [operation];
    return this.#plainOperations(operation, at).flatMap((one) => this.#unrolled(one, at));
  }

  get #tolerant(): boolean {
    return !this.#marking && isTolerant(this.#head.record);
  }

  /** Whether an operation stores the same bytes in an `applyOps` that is all or nothing. */
  #isExactWhole({ op, buffer, oStart }: OplogEntry): boolean {
    if (op === 'i') return isStoredAsGiven(buffer, oStart);
    return op === 'd' || !hasZeroTimestamp(buffer, oStart);
  }

  // ---- the whole road -------------------------------------------------------------------------------------------

  /** Puts operations of one entry or transaction into the batch; all of them into the same. */
  #add(operations: readonly OplogEntry[], at: OplogEntry, bytes?: number): Promise<void> | undefined {
    const size = bytes ?? operations.reduce((sum, one) => sum + bytesOf(one), 0);
    const isView = operations.some((one) => this.#head.catalog.get(one.ui)?.name === SYSTEM_VIEWS);
    if (!this.#batch.fits(operations.length, size) || (isView && !this.#batch.isEmpty)) {
      return this.#flush().then(() => this.#add(operations, at, size));
    }
    for (const entry of operations) {
      const target = this.#targetOf(entry, at);
      if (target === undefined) return this.#noSuchCollection(entry, at);
      if (target === PASSED_OVER) continue;
      this.#batch.add({ entry, at, target });
      if (this.#head.trimsAlone && entry.op === 'i' && isCapped(target)) this.#batch.keepApart();
    }
    // Of several that are all or nothing the server sees only the first (6.0.5): its list of views would be old.
    if (isView) this.#batch.seal();
    return undefined;
  }

  /** Puts operations into a batch of their own, with which capped collections lose what they have no more room for. */
  async #addPushing(operations: readonly OplogEntry[], at: OplogEntry, bytes: number): Promise<void> {
    if (!this.#batch.isEmpty) await this.#flush();
    await this.#add(operations, at, bytes);
    if (!this.#batch.isEmpty) this.#batch.pushOut();
  }

  /** What an operation is applied to: the collection of its UUID, under the name it has on the head. */
  #targetOf(entry: OplogEntry, at: OplogEntry): OpTarget | typeof PASSED_OVER | undefined {
    const known = this.#head.catalog.get(entry.ui);
    if (known && !EMPTY_ON_HEAD.has(known.db)) {
      return this.#isHiddenView(entry, known) || this.#isViewLeftOut(entry, known) ? PASSED_OVER : known;
    }
    // This collection is on every server from the start, with a UUID of its own.
    if (entry.ns === VERSION_TARGET.ns) {
      refuseFeatureVersion(entry, at);
      return VERSION_TARGET;
    }
    const { db, collection } = splitNamespace(entry.ns);
    const rule = namespaceRule(db, collection, this.#head.filter);
    if (rule === 'skip' || rule === 'empty') return PASSED_OVER;
    if (known) return known;
    if (entry.ui === '') return this.#namedTarget(entry);
    return this.#tolerant ? PASSED_OVER : undefined;
  }

  /**
   * The target of an operation that names its collection by name alone. In a client's `applyOps` a server adds the UUID of
   * each collection that is there, and takes nothing but deletes where none is (tried on 4.4.2, 5.0.32, 6.0.5, 6.0.27): such
   * a delete did nothing, and a head over data of the future may have another collection of that name.
   */
  #namedTarget({ ns, op }: OplogEntry): OpTarget | typeof PASSED_OVER | undefined {
    if (op !== 'd') return this.#head.catalog.named(ns);
    return this.#tolerant ? PASSED_OVER : (this.#head.catalog.named(ns) ?? PASSED_OVER);
  }

  /** A view of the past whose name a collection of the future has: both together no server would list. */
  #isHiddenView(entry: OplogEntry, { name }: HeadCollection): boolean {
    if (entry.op !== 'i' || name !== SYSTEM_VIEWS || !this.#tolerant) return false;
    const view = viewOf(entry);
    return view !== undefined && this.#head.catalog.named(view) !== undefined;
  }

  /** A view by whose name the deployment leaves it out. */
  #isViewLeftOut(entry: OplogEntry, { name }: HeadCollection): boolean {
    if (name !== SYSTEM_VIEWS || this.#head.filter.patterns.length === 0) return false;
    const view = viewOf(entry);
    if (view === undefined) return false;
    const { db, collection } = splitNamespace(view);
    return this.#head.filter.leavesOut(db, collection);
  }

  async #noSuchCollection(entry: OplogEntry, at: OplogEntry): Promise<never> {
    await this.#inFlight;
    return this.#head.diverged(positionOf(at), `an operation on ${entry.ns}: the head has no such collection`);
  }

  /** The state of the head behind the newest entry that is handled. */
  #nextRecord(): HeadRecord {
    return this.#newest ? this.#recordAt(this.#newest, this.#undecided) : this.#head.record;
  }

  #recordAt(entry: OplogEntry, undecided: Position | undefined): HeadRecord {
    const { record } = this.#head;
    const appliedThrough = positionOf(entry);
    const { inconsistentUntil } = positionIn(record);
    const position = { appliedThrough, oplogFrom: undecided ?? appliedThrough, inconsistentUntil };
    return { ...record, position, undecided: undecided !== undefined, wall: new Date(entry.wall) };
  }

  /** Sends the batch; does not wait for it, but for the one before it. */
  async #flush(): Promise<void> {
    await this.#inFlight;
    this.#inFlight = undefined;
    const record = this.#nextRecord();
    const stands = this.position.appliedThrough;
    if (this.#batch.isEmpty && samePosition(positionIn(record).appliedThrough, stands)) return;
    const batch = this.#batch;
    this.#batch = this.#spare;
    this.#spare = batch;
    this.#inFlight = this.#send(batch, record).finally(() => batch.clear());
    // Whoever waits for it next learns of it.
    this.#inFlight.catch(() => undefined);
  }

  /** Sends the batch and waits until it is applied. */
  async #settle(): Promise<void> {
    await this.#flush();
    await this.#inFlight;
    this.#inFlight = undefined;
  }

  async #send(batch: OpBatch, record: HeadRecord): Promise<void> {
    const head = this.#head;
    if (isTolerant(record)) await this.#sendTolerant(batch, record);
    else if (batch.pushesOut) await head.trimming(() => this.#sendConsistent(batch, record));
    else await this.#sendConsistent(batch, record);
    head.noteWritten(record);
  }

  async #sendConsistent(batch: OpBatch, record: HeadRecord): Promise<void> {
    if (await this.#sendWhole(batch, record)) return;
    await this.#mark(positionIn(record).appliedThrough);
    await this.#sendStrict(batch);
    await this.#unmark(record);
  }

  /** False when it could not be applied in one piece; then nothing of it was. */
  async #sendWhole(batch: OpBatch, record: HeadRecord): Promise<boolean> {
    const head = this.#head;
    if (!head.atomic || !batch.canBeWhole) return false;
    const reply = await head.socket.send(batch.message({ atomic: true, record }));
    if (reply.ok) return true;
    // In one piece a 4.4 trims no capped collection between two inserts: the one before of that `_id` is still there.
    if (isTooLarge(reply) || reply.code === OTHER_SIZE) return false;
    if (head.record.awaitsValidation && lacksDocument(reply)) return false;
    return this.#refused(batch, reply, true);
  }

  /** What an operation that failed on a consistent head means: it is not what the source is. */
  async #refused(batch: OpBatch, reply: Reply, whole: boolean): Promise<never> {
    const results = resultsOf(reply);
    // One that found no document, if others were tried behind it. Else the last one is what the code is about; all or
    // nothing, every result is false, and those behind the one that failed were not tried.
    const last = results.length - 1;
    const first = whole ? last : results.indexOf(false);
    const isFirst = reply.code === SOME_FAILED || (first >= 0 && first < last);
    if (!isFirst) refuseUnlessOfTheData(reply, `applying entries to ${this.#head.label}`);
    const op = batch.ops[isFirst ? first : last];
    if (!op) throw new LifeboatError('Internal', `a batch was refused: ${reply.code} ${reply.codeName}`);
    const missing = isFirst || reply.code === UPDATE_OPERATION_FAILED;
    const why = missing ? 'the document is not there' : `the head answered ${reply.code} ${reply.codeName}`;
    return this.#head.diverged(positionOf(op.at), `an operation "${op.entry.op}" on ${op.entry.ns}: ${why}`);
  }

  async #sendStrict(batch: OpBatch): Promise<void> {
    if (batch.isEmpty) return;
    const reply = await this.#head.socket.send(batch.message({ atomic: false }));
    if (!reply.ok && !(await this.#noteMissing(batch, reply))) await this.#refused(batch, reply, false);
  }

  /** Passes over updates of documents that are not there, if it is yet to be seen whether the head is equal to its source. */
  async #noteMissing(batch: OpBatch, reply: Reply): Promise<boolean> {
    const { record, socket } = this.#head;
    if (!record.awaitsValidation || reply.code !== SOME_FAILED) return false;
    const missing: MissingDocument[] = [];
    for (const [index, ok] of resultsOf(reply).entries()) {
      const op = batch.ops[index];
      if (ok || !op) continue;
      const { entry, target } = op;
      const id = entry.op === 'u' && !entry.upsert && entry.o2End > 0 && idDocument(entry.buffer, entry.o2Start);
      if (!id || !('uuid' in target)) return false;
      missing.push({ uuid: target.uuid, id });
    }
    await noteMissing(socket, missing);
    return true;
  }

  // ---- the tolerant road ----------------------------------------------------------------------------------------

  async #sendTolerant(batch: OpBatch, record: HeadRecord | undefined): Promise<void> {
    let from = 0;
    while (record || from < batch.ops.length) {
      const ops = batch.ops.slice(from);
      const reply = await this.#head.socket.send(batch.message({ atomic: false, from, ...(record ? { record } : {}) }));
      if (reply.ok) return;
      if (!isTooLarge(reply)) this.#head.refuseTrouble(reply);
      const results = resultsOf(reply);
      const stopped = reply.code === SOME_FAILED ? undefined : results.length - 1;
      for (const [index, ok] of results.entries()) {
        const op = ops[index];
        if (!ok && op && index !== stopped) await this.#tolerate(op, reply);
      }
      if (stopped === undefined) return;
      // The rest was not tried. What `message` leaves out is gone from the batch, so it counts from 0 again.
      const op = ops[stopped];
      if (!op) throw new LifeboatError('Internal', `a batch was refused: ${reply.code} ${reply.codeName}`);
      if (reply.code !== NAMESPACE_NOT_FOUND) await this.#retried(op, reply);
      from = stopped + 1;
    }
  }

  /** An operation that was tried and failed. */
  async #tolerate(op: BatchOp, reply: Reply): Promise<void> {
    // An update of a document that a later entry deletes, and that was copied after that.
    if (op.entry.op !== 'u' || op.entry.upsert) await this.#retried(op, reply);
  }

  async #alone(op: BatchOp): Promise<Reply> {
    const single = new OpBatch();
    single.add(op);
    return this.#head.socket.send(single.message({ atomic: false }));
  }

  /**
   * An operation on a document in whose place there is one of the past or of the future that cannot be changed to it (see
   * isRefusedInPlace): a later entry takes that one away, or puts it there again. True when the operation is done, or has no
   * effect.
   */
  async #inPlaceOfAnother(op: BatchOp, first: Reply): Promise<boolean> {
    const { entry } = op;
    if (entry.op === 'u') return !entry.upsert;
    if (entry.op !== 'i') return false;
    for (const one of anew(entry)) {
      const reply = await this.#alone({ ...op, entry: one });
      if (!isTooLarge(reply)) this.#head.refuseTrouble(reply);
      // A 4.4 takes nothing out of a capped collection. That document is one of the future, which is inserted again.
      if (!reply.ok) return first.code === OTHER_SIZE;
    }
    return true;
  }

  /** Puts off the indexes that refuse a document, or take too much of the cache with it, and applies the operation again. */
  async #retried(op: BatchOp, first: Reply): Promise<void> {
    if (isRefusedInPlace(first.code) && (await this.#inPlaceOfAnother(op, first))) return;
    let reply = first;
    for (const which of [isUnique, () => true]) {
      if (which === isUnique && reply.code !== DUPLICATE_KEY) continue;
      if (!(await this.#putOff(op.target, which))) continue;
      reply = await this.#alone(op);
      if (!isTooLarge(reply)) this.#head.refuseTrouble(reply);
      if (reply.ok || (reply.code === SOME_FAILED && op.entry.op === 'u' && !op.entry.upsert)) return;
    }
    const what = `an operation "${op.entry.op}" on ${op.entry.ns}`;
    if (reply.code !== SOME_FAILED) refuseUnlessOfTheData(reply, `${this.#head.label}: ${what}`);
    await this.#head.diverged(positionOf(op.at), `${what}: the head answered ${reply.code} ${reply.codeName}`);
  }

  /** Drops indexes, to be built when the head is consistent. False when there is none of that kind. */
  async #putOff(target: OpTarget, which: (spec: Buffer) => boolean): Promise<boolean> {
    if (!('uuid' in target)) return false;
    const { socket, deferred } = this.#head;
    refuseShadowed(this.#head, target);
    const specs = (await readIndexes(socket, target)).filter(which);
    await deferred.put(target.uuid, specs, { journaled: true });
    for (const spec of specs) await dropIndex(socket, target, indexName(spec));
    return specs.length > 0;
  }

  /** True when a head that a crash left inconsistent has everything it lacked, before an entry at `next`. */
  #mustBecomeConsistent(next: Position | undefined): boolean {
    if (this.#marking) return false;
    const { stage, position } = this.#head.record;
    if (stage !== 'consistent' || !position?.inconsistentUntil) return false;
    const until = position.inconsistentUntil;
    if (next && compareOptimes(next.ts, until.ts) > 0) return true;
    return reached(this.#newest ? positionOf(this.#newest) : position.appliedThrough, until);
  }

  async #becomeConsistent(): Promise<void> {
    await this.#settle();
    const head = this.#head;
    await buildDeferred(head, () => undefined, this.#signal);
    const position = { ...this.position, inconsistentUntil: null };
    await head.save({ ...head.record, position }, { journaled: true });
  }

  // ---- the marked road ------------------------------------------------------------------------------------------

  async #mark(until: Position): Promise<void> {
    this.#marking = true;
    const head = this.#head;
    const position = { ...this.position, inconsistentUntil: until };
    await head.save({ ...head.record, position }, { journaled: true });
  }

  async #unmark(record: HeadRecord): Promise<void> {
    await this.#head.save(record, { journaled: false });
    this.#marking = false;
  }

  /** Adds what stores the bytes of `op` to operations that are applied one after the other; `send` applies those before. */
  async #addExactly(batch: OpBatch, op: BatchOp, send: () => Promise<void>): Promise<void> {
    const head = this.#head;
    const { entry, target, at } = op;
    // It is asked what is there: everything before it has to be.
    const isPutLast = this.#isPutLast(entry);
    const asks = entry.op === 'i' && isCapped(target) && !isPutLast && !isStoredAsGiven(entry.buffer, entry.oStart);
    if (asks) await send();
    const operations = isPutLast ? anew(entry) : await exactly({ head, socket: head.socket }, target, entry);
    if (operations.length === 0 && !this.#tolerant && !head.record.awaitsValidation) {
      await head.diverged(positionOf(at), `an operation "i" on ${entry.ns}: the document is there already`);
    }
    for (const one of operations) {
      if (!batch.fits(1, bytesOf(one))) await send();
      batch.add({ ...op, entry: one });
    }
  }

  /** Applies operations one after the other, behind a mark: a crash in between is found out. */
  async #marked(groups: OperationGroups, at: OplogEntry, pushesOut = false): Promise<void> {
    await this.#settle();
    const head = this.#head;
    const { inconsistentUntil } = this.position;
    const tolerant = this.#tolerant;
    if (!tolerant) await this.#mark(positionOf(at));
    const batch = new OpBatch();
    const send = async (): Promise<void> => {
      if (tolerant) await this.#sendTolerant(batch, undefined);
      else if (pushesOut) await head.trimming(() => this.#sendStrict(batch));
      else await this.#sendStrict(batch);
      batch.clear();
    };
    for await (const group of groups) {
      for (const entry of group.flatMap((one) => this.#unrolled(one, at))) {
        if (this.#known.actionFor(entry, at) !== 'crud') {
          await send();
          await applyCommand(head, entry, at, tolerant, this.#signal);
          continue;
        }
        const target = this.#targetOf(entry, at);
        if (target === PASSED_OVER) continue;
        if (target === undefined) return this.#noSuchCollection(entry, at);
        await this.#addExactly(batch, { entry, at, target }, send);
      }
    }
    await send();
    const record = this.#recordAt(at, this.#transactions.oldest);
    const until = later(inconsistentUntil, head.record.incoming?.until ?? null);
    await this.#unmark({ ...record, incoming: null, position: { ...positionIn(record), inconsistentUntil: until } });
  }
}

/** Databases whose collections can be on the head and yet take no operations; see namespaces.ts. */
const EMPTY_ON_HEAD = new Set(['config']);

const SYSTEM_VIEWS = 'system.views';

const NEVER = new AbortController().signal;

const VERSION_TARGET: OpTarget & { readonly ns: string } = { ns: 'admin.system.version' };

/** `db.view` of an operation on the collection of views. */
function viewOf({ op, buffer, oStart, o2Start }: OplogEntry): string | undefined {
  const id = findElement(buffer, '_id', op === 'u' ? o2Start : oStart);
  return id?.type === BsonType.string ? stringValue(buffer, id) : undefined;
}

/** Whether an operation found no document, as the one road or the other says it. */
function lacksDocument({ code }: Reply): boolean {
  return code === SOME_FAILED || code === UPDATE_OPERATION_FAILED;
}

/** `results` of a reply to applyOps: one for each operation that was tried. */
function resultsOf({ body }: Reply): boolean[] {
  const results = findElement(body, 'results');
  if (!results) return [];
  return [...elements(body, results.valueStart)].map((one) => body[one.valueStart] === 1);
}
