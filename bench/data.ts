/**
 * The data that is measured with: four collections of small, middle, large and very large documents. The same scale
 * gives the same documents in every run. Text compresses about threefold; a quarter of the bytes are random.
 */
import { Binary, BSONRegExp, Decimal128, Long, type MongoClient, ObjectId, Timestamp, type Document } from 'mongodb';
import { Random } from '../test/support/random.ts';

export const DATABASE = 'bench';

/** 2026-01-01, in seconds. */
const EPOCH = 1_767_225_600;

const words = (() => {
  const random = new Random(1);
  const letters = 'etaoinshrdlucmfwypvbgkqjxz'.split('');
  const word = (): string => Array.from({ length: 3 + random.below(8) }, () => random.pick(letters)).join('');
  return Array.from({ length: 4096 }, word);
})();

/** Words, frequent ones more often. */
function text(random: Random, length: number): string {
  const parts: string[] = [];
  for (let sum = 0; sum < length;) {
    const word = words[Math.floor((random.below(4096) * random.below(4096)) / 4096)] ?? '';
    parts.push(word);
    sum += word.length + 1;
  }
  return parts.join(' ').slice(0, length);
}

const hex = (random: Random, length: number): string => random.bytes(length).toString('hex').slice(0, length);
const binary = (random: Random, length: number): Binary => new Binary(random.bytes(length));
const uniform = (random: Random): number => random.next() / 2 ** 32;

function objectId(tag: number, n: number): ObjectId {
  const bytes = Buffer.alloc(12, tag);
  bytes.writeUInt32BE(0x69000000 + Math.floor(n / 1000), 0);
  bytes.writeUInt32BE(n, 8);
  return new ObjectId(bytes);
}

function smallDocument(n: number, random: Random): Document {
  return {
    _id: objectId(1, n),
    k: random.next() >>> 1,
    grp: n % 997,
    ts: new Date((EPOCH + n) * 1000 + random.below(1000)),
    name: text(random, 24),
    state: random.pick(['new', 'open', 'done', 'void']),
    amt: uniform(random) * 1000,
    tok: hex(random, 32),
    note: text(random, 40),
    n: Long.fromNumber(n),
  };
}

function middleDocument(n: number, random: Random): Document {
  const item = (): Document => ({
    sku: hex(random, 10),
    q: random.below(9),
    p: Decimal128.fromString((random.below(99_999) / 100).toFixed(2)),
    opt: [random.below(5), null, true, { x: uniform(random) }],
  });
  return {
    _id: objectId(2, n),
    user: {
      id: random.below(100_000),
      name: text(random, 16),
      addr: {
        street: text(random, 20),
        zip: String(random.below(99_999)).padStart(5, '0'),
        geo: [uniform(random) * 360 - 180, uniform(random) * 180 - 90],
      },
    },
    tags: Array.from({ length: random.below(5) }, () => words[random.below(200)]),
    items: [item(), item(), item()],
    blob: binary(random, 96),
    rx: new BSONRegExp(`^a${n % 10}`),
    cts: new Timestamp({ t: EPOCH + n, i: 1 }),
    big: Long.fromBits(random.next(), random.next() >>> 4),
    desc: text(random, 220),
  };
}

function largeDocument(n: number, random: Random): Document {
  const attribute = (_: unknown, j: number): Document => ({ n: j, v: text(random, 40), h: hex(random, 16) });
  return {
    _id: n,
    ver: 1,
    html: text(random, 26_000),
    attrs: Array.from({ length: 60 }, attribute),
    bin: binary(random, 9_000),
  };
}

function veryLargeDocument(n: number, random: Random): Document {
  const bytes = ((n % 12) + 1) << 20;
  const half = Math.floor(bytes / 2);
  const piece = text(random, 65_536);
  return {
    _id: `big${String(n).padStart(2, '0')}`,
    ver: 1,
    bin: binary(random, half),
    txt: piece.repeat(Math.floor(half / piece.length) + 1).slice(0, half - 300),
  };
}

interface Shape {
  readonly name: string;
  readonly count: number;
  readonly batch: number;
  readonly make: (n: number, random: Random) => Document;
}

/** At scale 1: about 1.8 GB. */
const shapes: readonly Shape[] = [
  { name: 'a', count: 2_000_000, batch: 10_000, make: smallDocument },
  { name: 'b', count: 500_000, batch: 4_000, make: middleDocument },
  { name: 'c', count: 20_000, batch: 200, make: largeDocument },
  { name: 'd', count: 24, batch: 1, make: veryLargeDocument },
];

const countAt = ({ count }: Shape, scale: number): number => Math.max(12, Math.round(count * scale));

/** Loads the collections and their secondary indexes. */
export async function loadData(client: MongoClient, scale: number): Promise<void> {
  const db = client.db(DATABASE);
  for (const [tag, shape] of shapes.entries()) {
    const { name, batch, make } = shape;
    const count = countAt(shape, scale);
    for (let from = 0; from < count; from += batch) {
      const random = new Random((tag + 1) * 0x1000_0000 + from);
      const documents = Array.from({ length: Math.min(batch, count - from) }, (_, i) => make(from + i, random));
      await db.collection(name).insertMany(documents, { ordered: false, writeConcern: { w: 1 } });
    }
  }
  await db.collection('a').createIndexes([{ key: { k: 1 } }, { key: { grp: 1, ts: -1 } }]);
  await db.collection('b').createIndexes([{ key: { tags: 1 } }, { key: { 'user.id': 1 } }]);
}

/** Bytes of all documents. */
export async function dataBytes(client: MongoClient): Promise<number> {
  return Number((await client.db(DATABASE).stats())['dataSize']);
}

/** Changes a share of the documents of every collection but the last, chosen at random. Another seed, other changes. */
export async function changeDocuments(
  client: MongoClient,
  scale: number,
  share: number,
  seed: number,
): Promise<number> {
  const random = new Random(seed);
  let changed = 0;
  for (const [tag, shape] of shapes.slice(0, 3).entries()) {
    const { name } = shape;
    const count = countAt(shape, scale);
    const chosen = new Set<number>();
    while (chosen.size < Math.floor(count * share)) chosen.add(random.below(count));
    const updates = [...chosen].map((n) => ({
      updateOne: {
        filter: { _id: (name === 'c' ? n : objectId(tag + 1, n)) as unknown as ObjectId },
        update: {
          $set:
            name === 'a'
              ? { k: random.next() >>> 1, note: text(random, 40) }
              : name === 'b'
                ? { 'user.id': random.below(100_000), desc: text(random, 220) }
                : { ver: seed, 'attrs.7.v': text(random, 40) },
        },
      },
    }));
    for (let at = 0; at < updates.length; at += 1000) {
      await client
        .db(DATABASE)
        .collection(name)
        .bulkWrite(updates.slice(at, at + 1000), { ordered: false });
    }
    changed += updates.length;
  }
  return changed;
}

/** Database of `writeOperations`. */
export const REPLAYED = 'rp';

/** `count` operations on single documents of one collection: 60 % inserts, 25 % updates, 15 % deletes. */
export async function writeOperations(client: MongoClient, count: number): Promise<void> {
  const collection = client.db(REPLAYED).collection('ops');
  const random = new Random(9);
  const living: number[] = [];
  let next = 0;
  const operation = (n: number): Parameters<typeof collection.bulkWrite>[0][number] => {
    const choice = uniform(random);
    if (choice < 0.6 || living.length < 1000) {
      living.push(next);
      return { insertOne: { document: smallDocument(next++, random) } };
    }
    const at = random.below(living.length);
    const filter = { _id: objectId(1, living[at] ?? 0) };
    if (choice < 0.85) {
      const $set = { k: random.next() >>> 1, note: `${n} ${text(random, 30)}` };
      return { updateOne: { filter, update: { $set, $inc: { n: Long.ONE } } } };
    }
    living[at] = living.at(-1) ?? 0;
    living.pop();
    return { deleteOne: { filter } };
  };
  for (let at = 0; at < count; at += 5000) {
    await collection.bulkWrite(Array.from({ length: Math.min(5000, count - at) }, (_, n) => operation(at + n)));
  }
}
