/**
 * What happened on the source after an optime, read from its own oplog.
 *
 * Catalogs and capped collections cannot be read as they were: they are read as they are, and count as they were
 * wherever no entry since then touches them.
 */
import { EJSON } from 'bson';
import {
  Binary,
  ReadPreference,
  type Collection,
  type Db,
  type Document,
  type MongoClient,
  type Timestamp,
} from 'mongodb';

/** An entry, or one of the entries inside an `applyOps`, as far as it matters here. */
interface Entry {
  readonly ts: Timestamp;
  readonly op: string;
  readonly ns: string;
  readonly ui?: { toString(encoding: 'hex'): string };
  readonly prevOpTime?: { readonly ts: Timestamp };
  readonly o: Document;
  readonly o2?: Document;
}

/** Commands that change no catalog, by the field of `o` that names them. */
const HARMLESS = ['abortTransaction', 'startIndexBuild', 'abortIndexBuild', 'dbCheck'];
/** Commands that change the indexes or options of a collection, and leave it and its documents where they are. */
const ALTERATIONS = ['createIndexes', 'commitIndexBuild', 'dropIndexes', 'deleteIndexes', 'collMod'];

const FIELDS = ['op', 'ns', 'ui', 'o2._id', 'o._id'].concat(
  ['create', 'drop', 'dropTarget', ...HARMLESS, ...ALTERATIONS].map((name) => `o.${name}`),
);
/** Enough of an entry, and of those inside it, to tell what it touches, without the documents that it carries. */
const OPTIONS = {
  projection: Object.fromEntries(
    ['ts', 'prevOpTime', 'o.commitTransaction', ...FIELDS, ...FIELDS.map((name) => `o.applyOps.${name}`)].map(
      (name) => [name, 1],
    ),
  ),
  readPreference: ReadPreference.primary,
  promoteValues: false,
  // Names and `_id`s are people's own, and need not be text.
  enableUtf8Validation: false,
} as const;

const VIEWS = '.system.views';

export class ChangesSince {
  /** UUIDs (hex) of collections, and full names of views, that did not exist at the optime. */
  readonly created = new Set<string>();
  /** UUIDs of collections that were renamed or dropped, and full names of views that were changed or dropped. */
  readonly moved = new Set<string>();
  /** Databases whose views were dropped all at once. */
  readonly viewsGone = new Set<string>();
  /** UUIDs whose options or indexes changed. */
  readonly altered = new Set<string>();
  /** UUIDs whose documents changed, and those of them where more happened than inserts. */
  readonly written = new Set<string>();
  readonly rewritten = new Set<string>();
  /** For each UUID put in before the first `refresh`: the `_id`s that were inserted, as canonical extended JSON. */
  readonly inserted = new Map<string, Set<string>>();
  /** False when the oplog no longer reaches back to the optime: then nothing here can be relied on. */
  isWhole = true;
  readonly #admin: Db;
  readonly #oplog: Collection;
  readonly #optime: Timestamp;
  #through: Timestamp;

  constructor(client: MongoClient, optime: Timestamp) {
    this.#admin = client.db('admin');
    this.#oplog = client.db('local').collection('oplog.rs');
    this.#optime = optime;
    this.#through = optime;
  }

  /** Takes in everything up to now: what was read before this call is judged by the sets after it. */
  async refresh(): Promise<void> {
    const reply = await this.#admin.command({ hello: 1 }, { readPreference: ReadPreference.primary });
    const { lastWrite } = reply as { readonly lastWrite: { readonly opTime: { readonly ts: Timestamp } } };
    const now = lastWrite.opTime.ts;
    if (now.lessThanOrEqual(this.#through)) return;
    // Everything up to `now` is in the oplog, without holes, once a majority read that follows it answers.
    const readConcern = { level: 'majority', afterClusterTime: now };
    await this.#admin.command({ find: 'system.version', limit: 1, readConcern });
    const range = { ts: { $gt: this.#through, $lte: now } };
    const entries = this.#oplog.find(range, { ...OPTIONS, readConcern: { level: 'majority' } });
    for await (const entry of entries) await this.#takeIn(entry as unknown as Entry);
    this.#through = now;
    // After the reading: what is there now was there then.
    const [oldest] = await this.#oplog.find({}, OPTIONS).sort({ $natural: 1 }).limit(1).toArray();
    this.isWhole &&= oldest !== undefined && (oldest['ts'] as Timestamp).lessThanOrEqual(this.#optime);
  }

  async #takeIn(entry: Entry): Promise<void> {
    const { op, ns, o } = entry;
    const uuid = entry.ui?.toString('hex') ?? ns;
    if (op === 'n') return;
    if (op !== 'c') {
      this.written.add(uuid);
      if (op === 'i') this.inserted.get(uuid)?.add(EJSON.stringify(o['_id'], { relaxed: false }));
      else this.rewritten.add(uuid);
      if (ns.endsWith(VIEWS)) this.#takeInView(op, String(entry.o2?.['_id'] ?? o['_id']));
    } else if ('applyOps' in o || 'commitTransaction' in o) {
      for (const inner of (o['applyOps'] ?? []) as Entry[]) await this.#takeIn(inner);
      await this.#takeInBeginOf(entry);
    } else if ('create' in o) {
      this.created.add(uuid);
    } else if (ALTERATIONS.some((name) => name in o)) {
      this.altered.add(uuid);
    } else if (!HARMLESS.some((name) => name in o)) {
      // Renames, drops, and whatever a newer server may know.
      this.moved.add(uuid);
      // A database that is dropped says nothing of its views, one by one.
      if (o['drop'] === 'system.views') this.viewsGone.add(ns.slice(0, ns.indexOf('.')));
      const replaced: unknown = o['dropTarget'];
      if (replaced instanceof Binary) this.moved.add(replaced.toString('hex'));
    }
  }

  #takeInView(op: string, name: string): void {
    if (op === 'i' && !this.moved.has(name)) this.created.add(name);
    else if (!this.created.has(name)) this.moved.add(name);
  }

  /** The entries of a transaction that began at or before the optime and took effect after it. */
  async #takeInBeginOf(last: Entry): Promise<void> {
    let before = last.prevOpTime?.ts;
    while (before && (before.t !== 0 || before.i !== 0)) {
      const found = (await this.#oplog.findOne({ ts: before }, OPTIONS)) as unknown as Entry | null;
      if (!found || !('applyOps' in found.o)) return;
      if (found.ts.lessThanOrEqual(this.#optime))
        for (const inner of found.o['applyOps'] as Entry[]) await this.#takeIn(inner);
      before = found.prevOpTime?.ts;
    }
  }
}
