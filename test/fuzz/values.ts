/** What the numbers in a workload stand for: `_id`s, documents, changes, indexes, options of collections. */
import { Binary, Decimal128, Long, ObjectId, UUID, type Document, type IndexDirection } from 'mongodb';
import { Random } from '../support/random.ts';
import { IDS, type CollectionKind, type Shape, type Which } from './operations.ts';

const OF_OTHER_TYPES: readonly unknown[] = [
  'one',
  'ONE',
  'e\u0301',
  1.5,
  -0.5,
  Long.fromString('9007199254740993'),
  Decimal128.fromString('7.50'),
  ObjectId.createFromHexString('0123456789abcdef01234567'),
  new UUID('00112233-4455-6677-8899-aabbccddeeff'),
  new Binary(Buffer.from([0, 1, 2])),
  new Date(0),
  { a: 1, b: 2 },
  { b: 2, a: 1 },
  null,
  true,
];

/** One of the few `_id`s: small integers first, then one of most types that there are. */
export function idOf(n: number): unknown {
  const integers = IDS - OF_OTHER_TYPES.length;
  return n < integers ? n : OF_OTHER_TYPES[n - integers];
}

export function filterOf(which: Which): Document {
  return 'id' in which ? { _id: idOf(which.id) } : { n: which.n };
}

/** The number of different values of `n`, by which operations for many documents choose. */
export const NUMBERS = 5;
/** How many keys of unique indexes there are. */
const KEYS = 8;

const words = ['boat', 'harbour', 'anchor', 'Ärger', 'peche', 'pêche'];

/** What a document holds beside its `_id`. The same numbers give the same document. */
export function contentOf(shape: Shape, id: number, salt: number): Document {
  const random = new Random(id * 7919 + salt);
  const common = {
    n: random.below(NUMBERS),
    at: new Date(1.7e12 + random.below(1e9)),
    meta: random.below(3),
    word: random.pick(words),
  };
  switch (shape) {
    case 'flat':
      return common;
    case 'keyed':
      return { ...common, key: random.below(KEYS) };
    case 'nested':
      return {
        ...common,
        nested: { b: 1, '10': 'ten', '2': 'two', deep: { list: [1, { x: random.below(9) }, [2, 3]] } },
        list: Array.from({ length: random.below(6) }, (_, at) => ({ at, v: random.below(9) })),
        place: { type: 'Point', coordinates: [random.below(360) - 180, random.below(180) - 90] },
      };
    case 'large':
      return { ...common, blob: new Binary(random.bytes(20_000 + random.below(60_000))) };
    case 'hole':
      return { at: common.at, meta: common.meta, key: null };
    case 'odd':
      return {
        ...common,
        zero: -0,
        nan: NaN,
        '': 1,
        'a.b': { $x: 1 },
        é: [null, undefined],
        7: 1,
        long: Long.MAX_VALUE,
      };
  }
}

/** Each is an update, or a pipeline, of a document of any shape. */
const CHANGES: readonly ((salt: number) => Document | Document[])[] = [
  (salt) => ({ $set: { n: salt % NUMBERS } }),
  (salt) => ({ $inc: { count: 1, n: salt % 2 } }),
  (salt) => ({ $set: { 'nested.10': salt, 'nested.deep.list.1.x': salt } }),
  () => ({ $unset: { word: 1, 'nested.2': 1 } }),
  (salt) => ({ $push: { list: { $each: [{ at: salt, v: 1 }], $position: salt % 3, $slice: 12 } } }),
  (salt) => ({ $pull: { list: { v: salt % 9 } } }),
  (salt) => ({ $set: { [`list.${salt % 4}.v`]: salt } }),
  (salt) => ({ $set: { key: salt % KEYS } }),
  () => ({ $unset: { key: 1 } }),
  () => ({ $rename: { word: 'renamed', renamed: 'word' } }),
  () => ({ $rename: { word: `word2` } }),
  (salt) => [{ $set: { total: { $add: [{ $ifNull: ['$count', 0] }, salt] }, list: { $reverseArray: '$list' } } }],
  () => [{ $replaceWith: { $mergeObjects: [{ first: 1 }, '$$ROOT', { last: 1 }] } }],
  (salt) => [{ $unset: ['nested.b', 'count'] }, { $set: { [`f${salt % 3}`]: '$n' } }],
  (salt) => ({ $set: { blob: new Binary(new Random(salt).bytes(salt % 40_000)) } }),
  (salt) => ({ $currentDate: { touched: true }, $max: { n: salt % NUMBERS }, $bit: { bits: { xor: salt } } }),
  (salt) => ({ $addToSet: { tags: { $each: [salt % 4, 'x', { y: 1 }] } } }),
  (salt) => ({ $set: { at: new Date(1.7e12 + salt), place: { type: 'Point', coordinates: [salt % 90, 1] } } }),
  (salt) => ({ $set: Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`w${n}`, salt + n])) }),
];
export const CHANGE_COUNT = CHANGES.length;

export function changeOf(change: number, salt: number): Document | Document[] {
  const make = CHANGES[change];
  if (!make) throw new Error(`there is no change ${change}`);
  return make(salt);
}

export interface Index {
  readonly key: Readonly<Record<string, IndexDirection>>;
  readonly options: Document & { readonly name: string };
}

const index = (name: string, key: Index['key'], options: Document = {}): Index => ({
  key,
  options: { name, ...options },
});

/** Two of them share a name, and two a key: what is there already is refused, or is the same. */
export const INDEXES: readonly Index[] = [
  index('n_1', { n: 1 }),
  index('n_-1_at_1', { n: -1, at: 1 }),
  index('key unique', { key: 1 }, { unique: true, sparse: true }),
  index('key partial', { key: 1 }, { unique: true, partialFilterExpression: { key: { $gt: 3 } } }),
  index('word collated', { word: 1 }, { unique: true, collation: { locale: 'fr', strength: 1 } }),
  index('word simple', { word: 1 }, { collation: { locale: 'simple' } }),
  index('word text', { word: 'text' }, { default_language: 'english', weights: { word: 3 } }),
  index('place', { place: '2dsphere' }),
  index('word hashed', { word: 'hashed' }),
  index('wildcard', { 'nested.$**': 1 }),
  index('all', { '$**': 1 }, { wildcardProjection: { blob: 0 } }),
  index('at mortal', { at: 1 }, { expireAfterSeconds: 86_400 * 36_500 }),
  index('hidden', { meta: 1 }, { hidden: true }),
  index('list', { 'list.v': 1, n: 1 }),
  index('list', { tags: 1 }),
  index('meta at', { meta: 1, at: -1 }),
  index('_id hashed', { _id: 'hashed' }),
];

/** A `collMod`, without the name of the collection. */
const MODIFICATIONS: readonly ((salt: number) => Document)[] = [
  (salt) => ({ validator: { n: { $gte: salt % 3 } }, validationAction: salt % 2 ? 'warn' : 'error' }),
  () => ({ validator: {} }),
  (salt) => ({ validationLevel: salt % 2 ? 'moderate' : 'strict' }),
  (salt) => ({ index: { name: 'at mortal', expireAfterSeconds: 86_400 * (30_000 + (salt % 100)) } }),
  (salt) => ({ index: { name: 'n_1', hidden: salt % 2 === 0 } }),
  (salt) => ({ index: { name: 'hidden', hidden: salt % 2 === 0 } }),
  () => ({ index: { name: 'n_1', prepareUnique: true } }),
  () => ({ index: { name: 'n_1', unique: true } }),
  () => ({ index: { name: 'meta at', prepareUnique: true } }),
  (salt) => ({ changeStreamPreAndPostImages: { enabled: salt % 2 === 0 } }),
  (salt) => ({ viewOn: 'a', pipeline: [{ $match: { n: salt % NUMBERS } }] }),
  (salt) => ({ expireAfterSeconds: 86_400 * (30_000 + (salt % 100)) }),
  () => ({ timeseries: { granularity: 'hours' } }),
];
export const MODIFICATION_COUNT = MODIFICATIONS.length;

export function modificationOf(change: number, salt: number): Document {
  const make = MODIFICATIONS[change];
  if (!make) throw new Error(`there is no modification ${change}`);
  return make(salt);
}

export function optionsOf(kind: CollectionKind, salt: number): Document {
  switch (kind) {
    case 'plain':
      return {};
    case 'capped':
      return { capped: true, size: 4_096 * (1 + (salt % 20)) };
    case 'cappedMax':
      return { capped: true, size: 1 << 20, max: 1 + (salt % 9) };
    case 'collation':
      return { collation: { locale: salt % 2 ? 'fr' : 'de', strength: 1 + (salt % 3) } };
    case 'clustered':
      return { clusteredIndex: { key: { _id: 1 }, unique: true, name: 'by id' } };
    case 'validator':
      return { validator: { n: { $lt: 1 + (salt % NUMBERS) } }, validationAction: salt % 2 ? 'warn' : 'error' };
    case 'series':
      return { timeseries: { timeField: 'at', ...(salt % 2 ? { metaField: 'meta' } : {}) } };
    case 'images':
      return { changeStreamPreAndPostImages: { enabled: true } };
    case 'storage':
      return { storageEngine: { wiredTiger: { configString: 'block_compressor=zlib' } } };
    case 'view':
      return { viewOn: salt % 2 ? 'a' : 'b', pipeline: [{ $match: { n: salt % NUMBERS } }] };
    case 'viewOfView':
      return { viewOn: 'c', pipeline: [], collation: { locale: 'de' } };
  }
}
