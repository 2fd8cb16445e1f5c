/**
 * Operations on collections and indexes. The server's `applyOps` passes over some that could not be done (research,
 * mongodb-internals §2), so what one did is looked up afterwards.
 *
 * Each may be applied again after a crash. While the head is tolerant, it may hold a collection under a
 * name of the future, or not at all.
 */
import { BsonType, elements, findElement, stringValue, valueBytes } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { namespaceRule, splitNamespace } from '../source/namespaces.ts';
import { commandOperation } from './batch.ts';
import { document, elementsWithout, stringElement } from './bytes.ts';
import { collectionNamed, namespaceOf, type HeadCollection } from './catalog.ts';
import type { Position } from '../shared/optime.ts';
import { commandName, positionOf, type OplogEntry } from './entry.ts';
import { buildIndexes, dropIndex, indexChange, indexName, isSecondary, readIndexes } from './indexes.ts';
import type { OpenHead } from './open-head.ts';
import { BUCKETS } from '../source/filter.ts';
import { refuseShadowed } from './shadowed.ts';
import { refuseUnlessOfTheData } from './replies.ts';

interface Command {
  readonly head: OpenHead;
  readonly entry: OplogEntry;
  /** The entry that stands in the oplog: another one for an operation inside a transaction. */
  readonly at: OplogEntry;
  readonly db: string;
  /** What the command is about: the value of its first field, if that is a text. */
  readonly subject: string;
  readonly tolerant: boolean;
  readonly signal: AbortSignal;
}

const NAMESPACE_NOT_FOUND = 26;

/**
 * Applies a command entry (see oplog-table.ts: `command` and `index`) to the head.
 * @param tolerant whether what it is about may be missing, and indexes wait (see isTolerant)
 * @param signal ends an index build that is under way
 */
export async function applyCommand(
  head: OpenHead,
  entry: OplogEntry,
  at: OplogEntry,
  tolerant: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { db } = splitNamespace(entry.ns);
  const command: Command = { head, entry, at, db, subject: subjectOf(entry), tolerant, signal };
  switch (commandName(entry)) {
    case 'create':
      return create(command);
    case 'drop':
      return drop(command);
    case 'dropDatabase':
      return dropDatabase(command);
    case 'renameCollection':
      return rename(command);
    case 'collMod':
      return collMod(command);
    case 'emptycapped':
      return emptyCapped(command);
    case 'createIndexes':
      return createIndexes(command, [specInside(entry)]);
    case 'commitIndexBuild':
      return createIndexes(command, specsOfBuild(entry));
    default:
      return dropIndexes(command);
  }
}

function subjectOf({ buffer, oStart }: OplogEntry): string {
  const [first] = elements(buffer, oStart);
  return first?.type === BsonType.string ? stringValue(buffer, first) : '';
}

/** The collection that a command is about, or undefined when it is passed over. */
async function collectionOf(command: Command): Promise<HeadCollection | undefined> {
  const { head, entry, at, tolerant } = command;
  const known = head.catalog.get(entry.ui);
  if (known || tolerant || isSkipped(command)) return known;
  return head.diverged(positionOf(at), `"${commandName(entry)}" on ${entry.ns}: the head has no such collection`);
}

/** Collections that are no part of a backup are not in the head. */
function isSkipped({ head, entry, db, subject }: Command): boolean {
  const { collection } = splitNamespace(commandName(entry) === 'renameCollection' ? subject : `${db}.${subject}`);
  return namespaceRule(db, collection, head.filter) === 'skip';
}

/** Runs the entry as it is but for `o`. False when what it is about is not there, which only a tolerant head may say. */
async function run({ head, entry, at, tolerant }: Command, o: Buffer, ui = entry.ui): Promise<boolean> {
  const reply = await head.socket.raw('admin', commandOperation(entry.ns, ui, o));
  if (reply.ok) return true;
  refuseUnlessOfTheData(reply, `${head.label}: "${commandName(entry)}" on ${entry.ns}`);
  if (tolerant && reply.code === NAMESPACE_NOT_FOUND) return false;
  const what = `"${commandName(entry)}" on ${entry.ns}: the head answered ${reply.code} ${reply.codeName}`;
  if (tolerant) throw new LifeboatError('Diverged', `${head.label}: ${what}`);
  return head.diverged(positionOf(at), what);
}

/** `o` with the head's name of the collection in its first field, and without the fields called `names`. */
function renamed(command: Command, name: string, names: readonly string[] = []): Buffer {
  const { buffer, oStart } = command.entry;
  const first = commandName(command.entry);
  return document(stringElement(first, name), ...elementsWithout(buffer, [first, ...names], oStart));
}

async function create(command: Command): Promise<void> {
  const { head, entry, at, db, subject, tolerant } = command;
  if (isSkipped(command)) return;
  const ns = `${db}.${subject}`;
  const inTheWay = head.catalog.named(ns);
  // The server would move the one of the future out of the way, and dies of it when that is a time-series collection's
  // (6.0.5, an invariant in namespace_string.cpp). As none of those is ever renamed, this one is dropped before that
  // one is made: nothing of it is left then.
  if (tolerant && subject.startsWith(BUCKETS) && inTheWay && inTheWay.uuid !== entry.ui) return;
  // A standalone drops temporary collections when it starts; on the source their owner drops them, in the oplog.
  await run(command, renamed(command, subject, ['temp']));
  if (inTheWay && inTheWay.uuid !== entry.ui) await head.catalog.readDatabase(head.socket, db);
  const made = await collectionNamed(head.socket, db, subject);
  if (made?.uuid === entry.ui) {
    head.catalog.set(made);
  } else if (!tolerant) {
    await head.diverged(positionOf(at), `"create" of ${ns}: the name is taken on the head`);
  }
}

async function drop(command: Command): Promise<void> {
  const { head, entry } = command;
  const known = await collectionOf(command);
  if (known) await run(command, renamed(command, known.name));
  head.catalog.delete(entry.ui);
  await head.deferred.removeCollection(entry.ui);
}

async function dropDatabase(command: Command): Promise<void> {
  const { head, entry, db } = command;
  await run(command, entry.buffer.subarray(entry.oStart, entry.oEnd), '');
  for (const { uuid } of [...head.catalog.collections].filter((one) => one.db === db)) {
    head.catalog.delete(uuid);
    await head.deferred.removeCollection(uuid);
  }
}

/** A collection that a rename brings into the backup. */
export interface IncomingCollection {
  /** Hex. */
  readonly uuid: string;
  readonly db: string;
  /** Its new name. */
  readonly name: string;
  /** The collection that had that name until then, hex. */
  readonly replaced: string | undefined;
  /** Of the entry. */
  readonly at: Position;
}

/**
 * What an entry brings into the backup by a rename, unless it was read already (HeadRecord.incoming). What a head has, it
 * has had by an older name of the same collection.
 */
export function incomingBy(head: OpenHead, entry: OplogEntry): IncomingCollection | undefined {
  if (entry.op !== 'c' || commandName(entry) !== 'renameCollection') return undefined;
  const { incoming } = head.record;
  if (incoming ? incoming.uuid === entry.ui && incoming.until !== null : head.catalog.get(entry.ui)) return undefined;
  const from = splitNamespace(subjectOf(entry));
  const to = targetOf(entry);
  if (!head.filter.leavesOut(from.db, from.collection) || head.filter.leavesOut(to.db, to.collection)) return undefined;
  return { uuid: entry.ui, db: to.db, name: to.collection, replaced: replacedBy(entry), at: positionOf(entry) };
}

function targetOf({ buffer, oStart }: OplogEntry): { readonly db: string; readonly collection: string } {
  const to = findElement(buffer, 'to', oStart);
  return splitNamespace(to?.type === BsonType.string ? stringValue(buffer, to) : '');
}

/** `dropTarget` of a rename: the UUID of what had the name, or a boolean. */
function replacedBy({ buffer, oStart }: OplogEntry): string | undefined {
  const replaced = findElement(buffer, 'dropTarget', oStart);
  // A binary value is its length, its subtype and its bytes.
  return replaced?.type === BsonType.binary ? valueBytes(buffer, replaced).subarray(5).toString('hex') : undefined;
}

/** Takes a collection off the head whose new name is left out. */
async function leave(command: Command, { name }: HeadCollection): Promise<void> {
  const { head, entry } = command;
  await run(command, document(stringElement('drop', name)));
  head.catalog.delete(entry.ui);
  await head.deferred.removeCollection(entry.ui);
}

async function rename(command: Command): Promise<void> {
  const { head, entry, at, db, tolerant } = command;
  const known = await collectionOf(command);
  const { buffer, oStart } = entry;
  const to = findElement(buffer, 'to', oStart);
  if (!known || !to) return;
  const target = stringValue(buffer, to);
  const named = splitNamespace(target);
  if (head.filter.leavesOut(named.db, named.collection)) return leave(command, known);
  // Applied again: it has its new name.
  if (namespaceOf(known) === target) return;
  const inTheWay = head.catalog.named(target);
  await run(command, renamed(command, namespaceOf(known)));
  const { collection: name } = splitNamespace(target);
  if (tolerant) {
    await head.catalog.readDatabase(head.socket, db);
  } else {
    const moved = await collectionNamed(head.socket, db, name);
    if (moved?.uuid !== entry.ui) {
      return head.diverged(positionOf(at), `"renameCollection" of ${entry.ns}: the head did not rename to ${target}`);
    }
    if (inTheWay) head.catalog.delete(inTheWay.uuid);
    head.catalog.set(moved);
  }
  if (inTheWay && !head.catalog.get(inTheWay.uuid)) await head.deferred.removeCollection(inTheWay.uuid);
}

async function emptyCapped(command: Command): Promise<void> {
  const known = await collectionOf(command);
  if (known) await run(command, renamed(command, known.name));
}

async function collMod(command: Command): Promise<void> {
  const { head, entry } = command;
  const known = await collectionOf(command);
  if (!known) return;
  refuseShadowed(head, known);
  const part = findElement(entry.buffer, 'index', entry.oStart);
  if (part) {
    const change = indexChange(entry.buffer, part.valueStart);
    const waiting = head.deferred.of(entry.ui).filter(change.matches);
    await head.deferred.put(entry.ui, waiting.map(change.apply), { journaled: false });
    const present = (await readIndexes(head.socket, known)).some(change.matches);
    if (present) {
      await run(command, renamed(command, known.name));
      return;
    }
  }
  await run(command, renamed(command, known.name, ['index']));
}

/** The spec of a `createIndexes` entry: all of `o` but the collection's name. */
function specInside({ buffer, oStart }: OplogEntry): Buffer {
  return document(...elementsWithout(buffer, ['createIndexes'], oStart));
}

function specsOfBuild({ buffer, oStart }: OplogEntry): Buffer[] {
  const indexes = findElement(buffer, 'indexes', oStart);
  if (!indexes) throw new LifeboatError('Internal', 'a commitIndexBuild entry has no indexes');
  return [...elements(buffer, indexes.valueStart)].map((one) => valueBytes(buffer, one));
}

async function createIndexes(command: Command, specs: readonly Buffer[]): Promise<void> {
  const { head, entry, tolerant, signal } = command;
  const known = await collectionOf(command);
  if (!known) return;
  const secondary = specs.filter(isSecondary);
  if (!tolerant && secondary.length > 0) refuseShadowed(head, known);
  if (tolerant) await head.deferred.put(entry.ui, secondary, { journaled: false });
  else await buildIndexes(head.socket, known, secondary, signal);
}

async function dropIndexes(command: Command): Promise<void> {
  const { head, entry } = command;
  const known = await collectionOf(command);
  const { buffer, oStart } = entry;
  const index = findElement(buffer, 'index', oStart);
  if (index?.type !== BsonType.string) {
    throw new LifeboatError('EntryNotSupported', `"${commandName(entry)}" on ${entry.ns} does not name one index`);
  }
  const name = stringValue(buffer, index);
  const waiting = head.deferred.of(entry.ui).map(indexName);
  const names = name === '*' ? waiting : [name];
  for (const one of names) await head.deferred.remove(entry.ui, one);
  if (!known) return;
  refuseShadowed(head, known);
  for (const spec of await readIndexes(head.socket, known)) {
    if (name === '*' || indexName(spec) === name) await dropIndex(head.socket, known, indexName(spec));
  }
}
