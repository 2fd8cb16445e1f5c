/** docs/formats.md against the types of the records: a field that is in one and not in the other is found. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import ts from 'typescript';

const RECORDS = new URL('../src/stores/records.ts', import.meta.url);
const FORMATS = new URL('../docs/formats.md', import.meta.url);

/** The fields of each interface, nested ones as `owner.epoch`. */
async function interfaces(): Promise<Map<string, string[]>> {
  const source = ts.createSourceFile('records.ts', await readFile(RECORDS, 'utf8'), ts.ScriptTarget.Latest);
  const found = new Map<string, string[]>();
  for (const statement of source.statements) {
    if (ts.isInterfaceDeclaration(statement)) found.set(statement.name.text, fieldsOf(statement.members, source));
  }
  return found;
}

function fieldsOf(members: ts.NodeArray<ts.TypeElement>, source: ts.SourceFile): string[] {
  return members.filter(ts.isPropertySignature).flatMap(({ name, type }) => {
    const own = name.getText(source);
    const nested = (type ? literalsIn(type) : []).flatMap((literal) => fieldsOf(literal.members, source));
    // An `_id` of several fields is told by them alone.
    const named = own === '_id' && nested.length > 0 ? [] : [own];
    return [...named, ...nested.map((field) => `${own}.${field}`)];
  });
}

/** The type literals that a type consists of: itself, or in a union, an intersection, brackets. */
function literalsIn(type: ts.TypeNode): ts.TypeLiteralNode[] {
  if (ts.isTypeLiteralNode(type)) return [type];
  if (ts.isParenthesizedTypeNode(type)) return literalsIn(type.type);
  if (ts.isUnionTypeNode(type) || ts.isIntersectionTypeNode(type)) return type.types.flatMap(literalsIn);
  return [];
}

/** The first column of the tables of each section, by the names in its heading. */
async function documented(): Promise<Map<string, string[]>> {
  const sections = new Map<string, string[]>();
  for (const section of (await readFile(FORMATS, 'utf8')).split(/^#+ /m)) {
    const [heading = '', ...lines] = section.split('\n');
    const fields = lines.flatMap((line) => /^\| `([^`]+)` +\|/.exec(line)?.[1] ?? []);
    for (const [, name = ''] of heading.matchAll(/`([^`]+)`/g)) sections.set(name, fields);
  }
  return sections;
}

test('every field of every record has its line in docs/formats.md, and no line is of a field that is gone', async () => {
  const sections = await documented();
  const records = await interfaces();
  assert.ok(records.size >= 15, 'the interfaces of the records were not found');
  for (const [name, fields] of records) {
    const lines = sections.get(name);
    assert.ok(lines, `docs/formats.md has no section on ${name}`);
    assert.deepEqual(lines.toSorted(), fields.toSorted(), `docs/formats.md on ${name}`);
  }
});
