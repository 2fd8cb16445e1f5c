/**
 * Reading a collection that an entry renames into the backup: it was left out until then (`exclude`), so no entry tells
 * what it holds.
 *
 * It is read as an initial sync would read it, as it is by now, which is of the future for the head. The head is
 * inconsistent until the optime at which the reading ended; that it is at all is noted before anything is changed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { namespaceOf } from '../head/catalog.ts';
import type { IncomingCollection } from '../head/ddl.ts';
import { loadDocuments, makeCollections, remakeCollection, type CollectionToMake } from '../head/load.ts';
import { refuseOddIndexes } from '../head/odd-indexes.ts';
import { dropScratch } from '../head/scratch.ts';
import type { OpenHead } from '../head/open-head.ts';
import { succeeded } from '../head/socket.ts';
import type { ReadSoFar } from '../head/state.ts';
import { castDriverError } from '../mongo/errors.ts';
import { toTimestamp } from '../mongo/positions.ts';
import { uuidBinary } from '../mongo/uuid.ts';
import { LifeboatError } from '../shared/errors.ts';
import { Meter } from '../shared/meter.ts';
import { formatOptime, type Position } from '../shared/optime.ts';
import { CollectionReader } from '../source/collection-reader.ts';
import type { PinnedMember, Source } from '../source/connect.ts';
import { copyIdentity, readFrom, tokenHolds } from '../source/copy-identity.ts';
import { readFailure } from '../source/failures.ts';
import { listCollection, listDurably, type ListedCollection } from '../source/listing.ts';
import { pinPreferred } from '../source/pinning.ts';
import { confirmPosition, settledPosition } from '../source/positions.ts';
import type { StepContext } from './context.ts';

/** Bytes of documents that are asked for at a time. */
const PIECE_BYTES = 8_000_000;
/** How often in a row a reading may fail, and the pause before it is tried again, in milliseconds. */
const FAILURES = 6;
const PAUSE_MS = 500;

/**
 * Brings onto the head what there is of a collection, under the name that the entry gives it. Inside a turn of the head,
 * which stands right before that entry. Cut short at any moment it goes on where it was, or begins anew where the member that
 * was read from is away, or has another copy of the data.
 * @throws LifeboatError `IndexFormRefused`; `SourceUnavailable`, `SourceNotReady`, `HeadLost`, `HeadStrained`, `DiskFull`
 *   (retryable)
 */
export async function fetchIncoming(
  ctx: StepContext,
  head: OpenHead,
  source: Source,
  incoming: IncomingCollection,
): Promise<void> {
  const { uuid, db, name } = incoming;
  const what = `reading ${db}.${name}, which was renamed into the backup`;
  const begun = head.record.incoming?.read;
  const member = begun ? await pinPreferred(source, begun.from.host, ctx.signal) : await source.pinned();
  try {
    // Of a past that the member has not come to yet it could tell nothing.
    await confirmPosition(member.client, incoming.at, ctx.signal);
    await dropScratch(head);
    const fetch = new Fetch(ctx, head, source, member, incoming);
    await fetch.run();
    // What was read was on a majority, so that this member had it.
    const until = await settledPosition(member.client, ctx.signal);
    await head.save({ ...head.record, incoming: { uuid, until, read: null } }, { journaled: true });
    ctx.logger.info(
      { namespace: `${db}.${name}`, bytes: fetch.bytes, until: formatOptime(until.ts) },
      'read a collection that was renamed into the backup',
    );
  } catch (error) {
    ctx.signal.throwIfAborted();
    throw castDriverError(error, 'source', what);
  } finally {
    await member.close();
  }
}

/** What had the name is gone with the entry. It would only be moved out of the way. */
async function dropReplaced(head: OpenHead, { replaced }: IncomingCollection): Promise<void> {
  const known = replaced === undefined ? undefined : head.catalog.get(replaced);
  if (!known) return;
  succeeded(await head.socket.command(known.db, { drop: known.name }), `dropping ${namespaceOf(known)}`);
  head.catalog.delete(known.uuid);
  await head.deferred.removeCollection(known.uuid);
}

class Fetch {
  readonly #ctx: StepContext;
  readonly #head: OpenHead;
  readonly #source: Source;
  readonly #member: PinnedMember;
  readonly #incoming: IncomingCollection;
  readonly #meter = new Meter('fetch', 'bytes', null);
  #failures = 0;

  constructor(ctx: StepContext, head: OpenHead, source: Source, member: PinnedMember, incoming: IncomingCollection) {
    this.#ctx = ctx;
    this.#head = head;
    this.#source = source;
    this.#member = member;
    this.#incoming = incoming;
  }

  get bytes(): number {
    return this.#meter.now().done;
  }

  async run(): Promise<void> {
    const begun = this.#head.record.incoming?.read ?? null;
    if (begun && (await this.#goOn(begun))) return;
    for (;;) {
      await this.#head.save(
        { ...this.#head.record, incoming: { uuid: this.#incoming.uuid, until: null, read: null } },
        { journaled: true },
      );
      await dropReplaced(this.#head, this.#incoming);
      const { seen, listed } = await this.#list();
      const collection = listed && this.#toMake(listed);
      await this.#takeOff(collection);
      if (!collection) return;
      await this.#dropView();
      await refuseOddIndexes(this.#head, [collection]);
      await makeCollections(this.#head, [collection]);
      // Dropped meanwhile, or a place in it is gone: from the begin, if there still is one.
      if (await this.#read(seen, null)) return;
    }
  }

  /** Reads on where an attempt was cut short, if the place means the same to the member; false when it has to begin anew. */
  async #goOn({ from, token, seen }: ReadSoFar): Promise<boolean> {
    const { host, client } = this.#member;
    if (!this.#head.catalog.get(this.#incoming.uuid)) return false;
    if (!tokenHolds(from, host, await copyIdentity(client))) return false;
    return this.#read(seen, token);
  }

  /** What the source has of it, unless that is left out again. */
  #list(): Promise<{ readonly seen: Position; readonly listed: ListedCollection | undefined }> {
    const { client } = this.#member;
    const { signal } = this.#ctx;
    const list = () =>
      listCollection(client, this.#incoming.db, uuidBinary(this.#incoming.uuid), this.#head.filter, signal);
    return listDurably(client, list, signal);
  }

  #toMake({ options, indexes }: ListedCollection): CollectionToMake {
    const { uuid, db, name } = this.#incoming;
    return {
      ...{ uuid, db, name },
      options: Buffer.from(options.buffer),
      indexes: indexes.map(({ buffer }) => Buffer.from(buffer)),
    };
  }

  /** Of an attempt that was cut short. */
  async #takeOff(collection: CollectionToMake | undefined): Promise<void> {
    const { uuid } = this.#incoming;
    const known = this.#head.catalog.get(uuid);
    if (!known) return;
    await this.#head.deferred.removeCollection(uuid);
    if (collection) await remakeCollection(this.#head, collection);
    else await dropReplaced(this.#head, { ...this.#incoming, replaced: uuid });
  }

  /** One of the future, in whose name no collection could be made; the entry that made it comes again. */
  async #dropView(): Promise<void> {
    const { socket, catalog } = this.#head;
    const { db, name } = this.#incoming;
    const ns = `${db}.system.views`;
    if (!catalog.named(ns)) return;
    const applyOps = [{ op: 'd', ns, o: { _id: `${db}.${name}` } }];
    succeeded(await socket.command('admin', { applyOps }), `removing a view ${db}.${name} of the future`);
  }

  /** False when it has to be listed again. @param seen of the listing @param after the place to read on from */
  async #read(seen: Position, after: Buffer | null): Promise<boolean> {
    const { signal } = this.#ctx;
    const { client, host } = this.#member;
    const { uuid, db, at } = this.#incoming;
    // A document that was there at the rename no entry brings again: it must not change its place.
    let from = readFrom(host, await copyIdentity(client), at.ts);
    for (let place = after; ;) {
      try {
        await using reader: CollectionReader = await CollectionReader.open({
          ...{ client, db, uuid: uuidBinary(this.#incoming.uuid), after: place, signal },
          afterClusterTime: toTimestamp(seen.ts),
          pieceBytes: PIECE_BYTES,
          pace: this.#source.pace,
        });
        while (!reader.ended) {
          const { runs, bytes, token } = await reader.next();
          for (const run of runs) await this.#load(run);
          place = token;
          this.#failures = 0;
          this.#ctx.report(this.#meter.add(bytes));
          if (token === null) continue;
          const incoming = { uuid, until: null, read: { from, token, seen } };
          // Behind the documents: a head's journal keeps the order of its writes.
          await this.#head.save({ ...this.#head.record, incoming }, { journaled: false });
        }
        return true;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof LifeboatError) throw error;
        const failure = readFailure(error);
        this.#failures += 1;
        if (this.#failures >= FAILURES || failure === 'fatal' || failure === 'member-lost') throw error;
        if (failure !== 'cursor-lost') return false;
        await delay(PAUSE_MS, undefined, { signal });
        // It may have been restarted, or rolled back.
        const copy = await copyIdentity(client);
        if (place !== null && !tokenHolds(from, host, copy)) return false;
        from = readFrom(host, copy, at.ts);
      }
    }
  }

  async #load(documents: Buffer): Promise<void> {
    const head = this.#head;
    const target = head.catalog.get(this.#incoming.uuid);
    if (!target) throw new LifeboatError('Internal', `${this.#incoming.name} is not on the head of ${head.label}`);
    await loadDocuments({ head, socket: head.socket }, target, documents);
  }
}
