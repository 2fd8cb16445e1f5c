/**
 * What a scenario of the fidelity suite is: something that happens to a source, at known moments of a backup, after which
 * head and source have to be equal. One source and one backup serve all scenarios; each has databases of its own.
 */
import type { Collection, Db, Document, MongoClient } from 'mongodb';
import type { MongodAddress } from '../../../src/mongod/process.ts';
import { HandTransaction } from '../hand-transaction.ts';

/** Moments of an initial sync, in their order; see DataPath.initialSync. */
export const SYNC_MOMENTS = ['planned', 'listed', 'sliced', 'copied'] as const;
/** `restarted`: the head was ended and opened anew, with what was undecided in its transactions. */
export const MOMENTS = [...SYNC_MOMENTS, 'routine', 'restarted'] as const;
export type Moment = (typeof MOMENTS)[number];

export interface Named {
  /** Short, unlike any other: begins the names of the scenario's databases. */
  readonly key: string;
  /** What is promised, as the test's name. */
  readonly promise: string;
  /** The first major version whose servers can do it. */
  readonly from?: 5 | 6;
}

/** Something that happens as a whole. It happens once at each moment, each time to another database. */
export interface Change extends Named {
  readonly before?: (place: Place) => Promise<unknown>;
  readonly change: (place: Place) => Promise<unknown>;
  /** All but `restarted` when left out. */
  readonly moments?: readonly Moment[];
}

/** Something that takes its time: what happens at which moments, in one database. */
export interface Course extends Named {
  readonly course: (place: Place) => Partial<Record<'before' | Moment, () => Promise<unknown>>>;
}

export type Scenario = Change | Course;

export type Doc = Document & { readonly _id: number | string };

/** Documents between the first and the last half: more than one reply holds, so that a copy can be stopped among them. */
export const PADDING = 1_100;

export interface PlaceParts {
  readonly client: MongoClient;
  readonly primary: MongodAddress;
  readonly name: string;
  readonly major: number;
  /** Whether collections are to be long enough for a copy to be stopped in the middle of them. */
  readonly isLong: boolean;
}

/** Where a scenario happens. */
export class Place {
  readonly client: MongoClient;
  readonly db: Db;
  /** A second database, for what goes from one to the other. */
  readonly other: Db;
  readonly major: number;
  readonly isLong: boolean;
  readonly #primary: MongodAddress;

  constructor({ client, primary, name, major, isLong }: PlaceParts) {
    this.client = client;
    this.db = client.db(name);
    this.other = client.db(`${name}_b`);
    this.major = major;
    this.isLong = isLong;
    this.#primary = primary;
  }

  readonly collection = (name = 'c'): Collection<Doc> => this.db.collection<Doc>(name);

  /** Inserts documents; where the collection is to be long, with others between the first and the last half of them. */
  readonly fill = async (documents: readonly Doc[] = plain(), name = 'c'): Promise<void> => {
    const half = documents.length >> 1;
    await this.collection(name).insertMany([...documents.slice(0, half), ...this.padding()]);
    await this.collection(name).insertMany(documents.slice(half));
  };

  padding(): Doc[] {
    return Array.from({ length: this.isLong ? PADDING : 0 }, (_, n) => ({ _id: `pad${n}`, key: `pad${n}` }));
  }

  async transaction(): Promise<HandTransaction> {
    return HandTransaction.open(this.#primary);
  }

  async prepared(work: (transaction: HandTransaction) => Promise<unknown>): Promise<HandTransaction> {
    return HandTransaction.prepared(this.#primary, work);
  }

  async admin(command: Document): Promise<Document> {
    return this.client.db('admin').command(command);
  }
}

/** A dozen documents, alike but for `n`. */
export function plain(count = 12): Doc[] {
  return Array.from({ length: count }, (_, n) => ({
    _id: n,
    n,
    key: n,
    text: `document ${n}`,
    nested: { a: n, '10': 'ten', '2': 'two', list: [1, 2, 3] },
    list: [{ n: 1 }, { n: 2 }, { n: 3 }],
  }));
}
