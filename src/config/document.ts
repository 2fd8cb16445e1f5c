/**
 * A configuration file as YAML with positions: what is wrong with it, and where.
 *
 * The parser's own texts quote the file, and the file may hold a password; so each kind of mistake has a text here.
 */
import {
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type ErrorCode,
  type Pair,
} from 'yaml';
import type { z } from 'zod';
import { NOT_BUILT_YET } from './schema.ts';

/** One thing that is wrong; line and column count from 1. */
export interface Mistake {
  readonly line: number;
  readonly column: number;
  /** Key by key down to what is wrong, such as `deployments.shop.readFrom`; empty for the file as a whole. */
  readonly key: string;
  readonly text: string;
  readonly notBuiltYet: boolean;
}

/** A file that is YAML, if maybe of the wrong content. */
export interface ParsedFile {
  readonly document: Document;
  readonly positions: LineCounter;
}

const syntax: Partial<Record<ErrorCode, string>> = {
  DUPLICATE_KEY: 'this key stands here a second time: keep one of them',
  TAB_AS_INDENT: 'a tab indents this line: indent with spaces',
  BAD_INDENT: 'this line is not indented like its neighbours, or a bracket before it is not closed',
  MULTIPLE_DOCS: 'a second YAML document begins here: the file holds one',
  NON_STRING_KEY: 'this key is not a text: put it in quotes',
  BAD_ALIAS: 'an alias without an anchor stands here: put a text that begins with * in quotes',
  BAD_SCALAR_START: 'a text cannot begin with this character: put it in quotes',
  BAD_DQ_ESCAPE: 'this is no known escape: put the text in single quotes',
  MISSING_CHAR: 'a closing quote or bracket, or a comma or colon, is missing here',
  UNEXPECTED_TOKEN: 'this is not expected here: put a text that holds { } [ ] or ": " in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a key cannot stand here: give it a line of its own, or put the text before it in quotes',
  MULTILINE_IMPLICIT_KEY: 'this line has no key: write "key: value"',
};

/** Reads a text as one YAML document. */
export function parseYaml(source: string): ParsedFile & { readonly mistakes: readonly Mistake[] } {
  const positions = new LineCounter();
  const document = parseDocument(source, { lineCounter: positions, prettyErrors: false, stringKeys: true });
  const found = [...document.errors, ...document.warnings].map(({ code, pos }) => ({ code, offset: pos[0] }));
  visit(document, {
    Alias(_, alias) {
      if (!alias.resolve(document)) found.push({ code: 'BAD_ALIAS', offset: alias.range?.[0] ?? 0 });
    },
  });
  const hidden: number[] = [];
  visit(document, {
    Pair(_, { key }) {
      // The one key that an object of JavaScript does not keep as its own: it would be passed over in silence.
      if (isScalar(key) && key.value === '__proto__') hidden.push(rangeStart(key) ?? 0);
    },
  });
  const mistake = (offset: number, text: string): Mistake => ({
    ...at(positions, offset),
    key: '',
    text,
    notBuiltYet: false,
  });
  const mistakes = [
    ...found.map(({ code, offset }) => mistake(offset, syntax[code] ?? 'this is not valid YAML')),
    ...hidden.map((offset) => mistake(offset, '"__proto__" cannot be a key')),
  ];
  return { document, positions, mistakes };
}

/** What a schema found wrong with the content, by place. */
export function mistakesOf(file: ParsedFile, issues: readonly z.core.$ZodIssue[]): Mistake[] {
  return issues.flatMap((issue): Mistake[] => {
    const path = issue.path.map(String);
    if (issue.code === 'unrecognized_keys') {
      const texts = issue.message.split('\n');
      return issue.keys.map((key, n) => mistake(file, [...path, key], texts[n] ?? issue.message, true));
    }
    return [mistake(file, path, issue.message, issue.code === 'invalid_key' || issue.message === NOT_BUILT_YET)];
  });
}

function mistake(file: ParsedFile, path: readonly string[], text: string, atKey: boolean): Mistake {
  return {
    ...at(file.positions, offsetOf(file.document, path, atKey)),
    key: path.join('.'),
    text,
    notBuiltYet: text === NOT_BUILT_YET,
  };
}

function at(positions: LineCounter, offset: number): { readonly line: number; readonly column: number } {
  const { line, col } = positions.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

/** Where the key or the value at `path` begins; of what is absent, its nearest ancestor. */
function offsetOf(document: Document, path: readonly string[], atKey: boolean): number {
  let node: unknown = document.contents;
  let offset = document.contents?.range?.[0] ?? 0;
  for (const [depth, name] of path.entries()) {
    if (isSeq(node)) {
      node = node.items[Number(name)];
      offset = rangeStart(node) ?? offset;
      continue;
    }
    const pair = pairOf(node, name);
    if (!pair) return offset;
    const keyOffset = rangeStart(pair.key) ?? offset;
    const isLast = depth === path.length - 1;
    // A scalar is wrong itself; a map lacks or has something, and is named by its key.
    offset =
      isLast && !atKey && isScalar(pair.value) && pair.value.value !== null
        ? (rangeStart(pair.value) ?? keyOffset)
        : keyOffset;
    node = pair.value;
  }
  return offset;
}

/** The pair of that key in a map. */
export function pairOf(node: unknown, name: string): Pair | undefined {
  return isMap(node) ? node.items.find(({ key }) => isScalar(key) && String(key.value) === name) : undefined;
}

function rangeStart(node: unknown): number | undefined {
  return isScalar(node) ? node.range?.[0] : undefined;
}
