/** What becomes of an entry of the oplog: the one table (oplog-table.ts, entry-fields.ts), as a head's version knows it. */
import { elementName, elements } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { entryFields, seriesNumber, type EntryField, type Series } from './entry-fields.ts';
import { commandName, describe, type OplogEntry } from './entry.ts';
import { commandKinds, operationKinds, type CommandKind, type EntryAction, type EntryKind } from './oplog-table.ts';

interface KnownCommand {
  readonly action: EntryAction;
  /** Names of the fields of `o`, or undefined when they are not looked at. */
  readonly fields: ReadonlySet<string> | undefined;
}

export class KnownEntries {
  readonly #series: string;
  readonly #operations: ReadonlyMap<string, EntryAction>;
  readonly #commands: ReadonlyMap<string, KnownCommand>;
  /** The bits of OplogEntry.fields that ask for nothing that is not done. */
  readonly #fields: number;

  /** @param version `x.y.z` of the head */
  constructor(version: string) {
    const at = seriesNumber(version);
    const isOf = ({ since, until }: { readonly since: Series; readonly until?: Series }): boolean =>
      seriesNumber(since) <= at && (until === undefined || at <= seriesNumber(until));
    this.#series = version.split('.').slice(0, 2).join('.');
    this.#operations = new Map(
      entriesOf<EntryKind>(operationKinds).flatMap(([op, kind]) => (isOf(kind) ? [[op, kind.action]] : [])),
    );
    this.#commands = new Map(
      entriesOf<CommandKind>(commandKinds)
        .filter(([, kind]) => isOf(kind))
        .map(([name, { action, fields }]) => {
          const known = fields && Object.entries(fields).flatMap(([field, since]) => (isOf({ since }) ? [field] : []));
          return [name, { action, fields: known && new Set(known) }];
        }),
    );
    this.#fields = (entryFields as readonly EntryField[]).reduce(
      (bits, field, index) => (isOf(field) && field.effect !== 'stop' ? bits | (1 << index) : bits),
      0,
    );
  }

  /**
   * What becomes of an entry.
   * @param at the optime to name: of an operation inside a transaction, that of the entry it stands in
   * @throws LifeboatError `UnknownEntry`, `EntryNotSupported`: the backup stops before it
   */
  actionFor(entry: OplogEntry, at: OplogEntry = entry): EntryAction {
    if ((entry.fields & ~this.#fields) !== 0) this.#refuseFields(entry, at);
    const action = entry.op === 'c' ? this.#actionForCommand(entry, at) : this.#operations.get(entry.op);
    if (action === undefined) {
      throw new LifeboatError(
        'UnknownEntry',
        `${describe(entry, at)} is of a kind that MongoDB ${this.#series} does not know`,
      );
    }
    if (action === 'stop') throw new LifeboatError('EntryNotSupported', `${describe(entry, at)} cannot be replayed`);
    return action;
  }

  #actionForCommand(entry: OplogEntry, at: OplogEntry): EntryAction | undefined {
    const name = commandName(entry);
    const known = this.#commands.get(name);
    if (known?.fields) this.#refuseFieldsOf(known.fields, name, entry, at);
    return known?.action;
  }

  /** Of the fields of `o`. What begins with a dollar any command may be sent with: routing and session, no meaning. */
  #refuseFieldsOf(known: ReadonlySet<string>, command: string, entry: OplogEntry, at: OplogEntry): void {
    for (const element of elements(entry.buffer, entry.oStart)) {
      const name = elementName(entry.buffer, element);
      if (known.has(name) || name === command || name.startsWith('$')) continue;
      const what = `has a field "${name}" in its command that MongoDB ${this.#series} does not know`;
      throw new LifeboatError('UnknownEntry', `${describe(entry, at)} ${what}`);
    }
  }

  #refuseFields(entry: OplogEntry, at: OplogEntry): never {
    const field = (entryFields as readonly EntryField[]).find(
      (_, index) => (entry.fields & ~this.#fields & (1 << index)) !== 0,
    );
    const has = `${describe(entry, at)} has a field "${field?.name}"`;
    if (field?.effect === 'stop' && !(seriesNumber(field.since) > seriesNumber(this.#series))) {
      throw new LifeboatError('EntryNotSupported', `${has}, and cannot be replayed`);
    }
    throw new LifeboatError('UnknownEntry', `${has} that MongoDB ${this.#series} does not know`);
  }
}

function entriesOf<T>(table: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(table);
}
