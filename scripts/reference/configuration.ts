/** configuration.md: every key of lifeboat.yaml. */
import { globalRegistry, z } from 'zod';
import { fileSchema, NOT_BUILT_YET, type KeyMeta } from '../../src/config/schema.ts';
import { code, markdownTable, paragraphs } from './markdown.ts';

/** A key of the file, with what the schema says of it. */
export interface DocumentedKey {
  /** Its path; `NAME` stands for the name of a deployment. */
  readonly path: readonly string[];
  readonly type: string;
  readonly meaning: string;
  /** As one would write it; undefined where there is none. */
  readonly fallback: string | undefined;
}

const SECTION = 'section';

/** All keys, each section before what it holds. @throws when the schema does not say what a key means */
export function documentedKeys(): DocumentedKey[] {
  return keysIn(fileSchema, []);
}

function keysIn(schema: z.ZodObject, path: readonly string[]): DocumentedKey[] {
  return Object.entries(schema.shape).flatMap(([name, value]) => {
    const here = [...path, name];
    const { meta, inner } = unwrapped(value as z.core.$ZodType);
    const { meaning, type = inner instanceof z.ZodObject ? SECTION : undefined, fallback } = meta;
    if (meaning === undefined || type === undefined)
      throw new Error(`the schema does not say what ${here.join('.')} is`);
    const own: DocumentedKey = { path: here, type, meaning, fallback };
    if (inner instanceof z.ZodObject) return [own, ...keysIn(inner, here)];
    if (!(inner instanceof z.ZodRecord)) return [own];
    const entry = unwrapped(inner._zod.def.valueType).inner;
    return entry instanceof z.ZodObject ? [own, ...keysIn(entry, [...here, 'NAME'])] : [own];
  });
}

/** A schema without what says that it may be missing or empty, and all that was said on the way to it. */
function unwrapped(schema: z.core.$ZodType): { readonly meta: KeyMeta; readonly inner: z.core.$ZodType } {
  const said = globalRegistry.get(schema) as KeyMeta | undefined;
  const within =
    schema instanceof z.ZodOptional || schema instanceof z.ZodNullable
      ? schema._zod.def.innerType
      : schema instanceof z.ZodPipe && !said?.type
        ? schema._zod.def.in
        : undefined;
  if (within === undefined) return { meta: said ?? {}, inner: schema };
  const { meta, inner } = unwrapped(within);
  return { meta: { ...meta, ...said }, inner };
}

const INTRODUCTION = `\`lifeboat.yaml\` in the working directory, or what \`--config FILE\` names. Every key may be left out, but each deployment and each store that is named needs one of \`uri\`, \`uriFile\` and \`uriCommand\`. A wrong key, type or unit is refused before anything
starts, with the file, the line, what is wrong and what would be right; a key that is not built yet is refused too. An
edit is seen by a worker that runs, without a restart, unless the key says otherwise.`;

export function configurationPage(): string {
  const keys = documentedKeys();
  const roots = [...new Set(keys.map(({ path: [root = ''] }) => root))];
  return paragraphs(['# Configuration', INTRODUCTION, ...roots.map((root) => sectionOf(root, keys))]);
}

function sectionOf(root: string, keys: readonly DocumentedKey[]): string {
  const [own, ...within] = keys.filter(({ path }) => path[0] === root);
  if (!own) return '';
  if (within.length === 0) return paragraphs([`## ${code(root)}`, wordsOf(own)]);
  const rows = within
    .filter(({ type }) => type !== SECTION)
    .map((key) => [
      code(key.path.join('.')),
      key.type,
      key.fallback === undefined ? '' : code(key.fallback),
      wordsOf(key),
    ]);
  return paragraphs([`## ${code(root)}`, own.meaning, markdownTable(['Key', 'Value', 'Default', 'Meaning'], rows)]);
}

function wordsOf({ type, meaning }: DocumentedKey): string {
  return type === NOT_BUILT_YET ? 'Not built yet: refused.' : meaning;
}
