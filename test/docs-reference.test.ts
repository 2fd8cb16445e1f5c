/** docs/reference/ and the other pages that are made from the code, against it. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { parse } from 'yaml';
import { documentedKeys } from '../scripts/reference/configuration.ts';
import { otherPages, REFERENCE, referencePages } from '../scripts/reference/pages.ts';
import { configOf, fileSchema } from '../src/config/schema.ts';

test('the reference is what the code says now: `npm run docs` writes it', async () => {
  const pages = await referencePages();
  for (const [name, text] of pages) assert.equal(await readFile(new URL(name, REFERENCE), 'utf8'), text, name);
  assert.deepEqual((await readdir(REFERENCE)).toSorted(), [...pages.keys()].toSorted());
});

test('docs/oplog-entries.md is what the table says now: `npm run docs` writes it', async () => {
  const pages = await otherPages();
  assert.deepEqual([...pages.keys()], ['../oplog-entries.md']);
  for (const [name, text] of pages) assert.equal(await readFile(new URL(name, REFERENCE), 'utf8'), text, name);
});

test('a default that the reference tells is the one that holds', () => {
  const shop = { deployments: { shop: { uri: 'mongodb://h' } } };
  const written: Record<string, unknown> = structuredClone(shop);
  const told = documentedKeys().filter(({ fallback }) => fallback !== undefined);
  assert.ok(told.length >= 6);
  for (const { path, fallback } of told) {
    const folders = path.slice(0, -1).map((name) => (name === 'NAME' ? 'shop' : name));
    let at = written;
    for (const name of folders) at = (at[name] ??= {}) as Record<string, unknown>;
    at[path.at(-1) ?? ''] = parse(fallback ?? '');
  }
  const configured = (file: object) => configOf('/lifeboat.yaml', fileSchema.parse(file), (path) => path);
  assert.deepEqual(configured(written), configured(shop));
});

test('the fields of an input that the reference tells are those that its workflow takes', async () => {
  const page = (await referencePages()).get('workflows.md') ?? '';
  const folder = new URL('../src/workflows/', import.meta.url);
  const names = (await readdir(folder)).filter((name) => name.endsWith('.ts'));
  const sources = (await Promise.all(names.map((name) => readFile(new URL(name, folder), 'utf8')))).join('\n');
  const lists = new Map(
    [...sources.matchAll(/const (\w+_FIELDS) = \[([^\]]*)\]/g)].map(([, name = '', list = '']) => [name, list]),
  );
  const calls = [...sources.matchAll(/fieldsOf\('(\w+)', \w+, (?:[^()]*: )?(?:\[([^\]]*)\]|(\w+_FIELDS))\)/g)];
  assert.ok(calls.length >= 7);
  for (const [, type = '', list, named = ''] of calls) {
    const taken = [...(list ?? lists.get(named) ?? '').matchAll(/'(\w+)'/g)].map(([, field]) => field);
    const [section = ''] = page.split(/^## /m).filter((text) => text.startsWith(`\`${type}\``));
    const told = [...section.matchAll(/^\| `(\w+)` /gm)].map(([, field]) => field);
    assert.deepEqual(told.toSorted(), taken.toSorted(), type);
  }
});
