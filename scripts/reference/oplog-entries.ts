/** oplog-entries.md: the one table of the kinds of oplog entries and their fields. */
import { entryFields, type EntryField, type FieldEffect } from '../../src/head/entry-fields.ts';
import {
  commandKinds,
  operationKinds,
  type CommandKind,
  type EntryAction,
  type EntryKind,
} from '../../src/head/oplog-table.ts';
import { code, markdownTable, paragraphs } from './markdown.ts';

const INTRODUCTION = `Every kind of entry that MongoDB 4.4 to 8.x writes to its oplog, with what becomes of it on a head; every
field that an entry has; and every field of those commands whose fields are looked at. The code has it from the same table
(\`src/head/oplog-table.ts\`, \`src/head/entry-fields.ts\`).

**What is not in it stops the backup**, before the entry, with LB4005 and the entry's optime, type and namespace: a kind, a
field of an entry or of a command, or one that the head's version does not know; inside a transaction too, where its
operation stands. What is known and cannot be replayed stops it with LB4006. Nothing is passed over but what is marked
_ignored_, or a field as _none_.`;

const VERSIONS = `**Run**: 4.4.2, 5.0.32, 6.0.5 and 6.0.27. What they take is held against this table, kind by kind and field by
field, by \`test/oplog-table.test.ts\`; what they write, by the tests of [versions.md](versions.md). **Read only**, in the
server's source and in mongorestore's: what is _since_ 6.1 or newer, and an _until_ of 8.0. No server of 7.0 or newer was run.

_Since_ and _until_ are series of versions; 4.4 stands for it and whatever is older. An index specification is not looked
at: the head's server builds the index or refuses it.`;

const ACTIONS: Readonly<Record<EntryAction, string>> = {
  crud: 'applied',
  command: 'applied',
  operations: 'applied, or buffered',
  commit: 'applied from the buffer',
  abort: 'dropped from the buffer',
  index: 'translated',
  ignore: 'ignored',
  stop: '**stops**',
};

const EFFECTS: Readonly<Record<FieldEffect, string>> = { read: 'read', none: 'none', stop: '**stops**' };

export function oplogEntriesPage(): string {
  const commands: [string, CommandKind][] = Object.entries(commandKinds);
  const fields: readonly EntryField[] = entryFields;
  return paragraphs([
    '# Oplog entries',
    INTRODUCTION,
    VERSIONS,
    '## Operations, by `op`',
    tableOf(Object.entries(operationKinds), 'op'),
    '## Commands, by the first field of `o`',
    'Entries whose `op` is `c`.',
    tableOf(commands, 'Command'),
    '## Fields of an entry',
    markdownTable(
      ['Field', 'Since', 'Effect', 'What it is', 'Source'],
      fields.map(({ name, since, effect, what, source }) => [code(name), since, EFFECTS[effect], what, source]),
    ),
    '## Fields of commands',
    'Beside the name of the command, and beside fields that begin with `$`, which any command may be sent with.',
    markdownTable(
      ['Command', 'Fields'],
      commands.flatMap(([name, { fields: own }]) => (own ? [[code(name), listOf(own)]] : [])),
    ),
  ]);
}

function tableOf(kinds: readonly (readonly [string, EntryKind])[], first: string): string {
  const rows = kinds.map(([name, { action, since, until = '', what, source }]) => {
    return [code(name), since, until, ACTIONS[action], what, source];
  });
  return markdownTable([first, 'Since', 'Until', 'It is', 'What it is and what is done', 'Source'], rows);
}

/** Grouped by the version that they came with. */
function listOf(fields: Readonly<Record<string, string>>): string {
  const names = Object.entries(fields).map(([name, since]) =>
    since === '4.4' ? code(name) : `${code(name)} (${since})`,
  );
  return names.join(', ') || 'none';
}
