/** Live writes for the demo: orders that come and go, and payments between accounts in transactions. */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Decimal128, type MongoClient } from 'mongodb';

export const ACCOUNTS = 1_000;
const OPENING_BALANCE = 100;
export const TOTAL_BALANCE = ACCOUNTS * OPENING_BALANCE;

interface Account {
  readonly _id: number;
  readonly balance: number;
}

interface Order {
  readonly _id: number;
  readonly customer: number;
  readonly state: string;
  readonly total: Decimal128;
  readonly items: readonly { readonly sku: string; readonly quantity: number }[];
  readonly receipt: Buffer;
}

function order(id: number): Order {
  return {
    _id: id,
    customer: randomInt(ACCOUNTS),
    state: 'new',
    total: Decimal128.fromString((randomInt(100_000) / 100).toFixed(2)),
    items: Array.from({ length: 1 + randomInt(5) }, () => ({
      sku: `sku-${randomInt(5_000)}`,
      quantity: 1 + randomInt(9),
    })),
    receipt: randomBytes(200 + randomInt(800)),
  };
}

/** Fills the shop before the backup starts. */
export async function fillShop(client: MongoClient, orders: number): Promise<void> {
  const shop = client.db('shop');
  await shop
    .collection<Account>('accounts')
    .insertMany(Array.from({ length: ACCOUNTS }, (_, _id) => ({ _id, balance: OPENING_BALANCE })));
  for (let from = 0; from < orders; from += 2_000) {
    const documents = Array.from({ length: Math.min(2_000, orders - from) }, (_, n) => order(from + n));
    await shop.collection<Order>('orders').insertMany(documents, { ordered: false });
  }
  await shop.collection('orders').createIndex({ customer: 1, state: 1 });
  await shop.createCollection('events', { capped: true, size: 1_000_000 });
}

/** Writes until it is stopped. */
export class ShopWriter {
  readonly #client: MongoClient;
  readonly #abort = new AbortController();
  readonly #loops: Promise<void>[];
  #next: number;
  #writes = 0;

  constructor(client: MongoClient, firstOrder: number) {
    this.#client = client;
    this.#next = firstOrder;
    this.#loops = [this.#loop(() => this.#trade()), this.#loop(() => this.#pay())];
  }

  /** Documents written so far. */
  get writes(): number {
    return this.#writes;
  }

  /** Ends the writers; rejects with the first error one of them met. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#loops);
  }

  async #loop(step: () => Promise<void>): Promise<void> {
    while (!this.#abort.signal.aborted) {
      await step();
      // A steady trickle, so that the demo measures the backup and not the writer.
      await delay(5);
    }
  }

  async #trade(): Promise<void> {
    const shop = this.#client.db('shop');
    const orders = shop.collection<Order>('orders');
    const first = this.#next;
    this.#next += 10;
    await orders.insertMany(Array.from({ length: 10 }, (_, n) => order(first + n)));
    await orders.updateOne({ _id: randomInt(first) }, { $set: { state: 'shipped', 'items.0.quantity': randomInt(9) } });
    await orders.deleteOne({ _id: randomInt(first) });
    await shop.collection<{ _id?: never; kind: string }>('events').insertOne({ kind: 'traded' });
    this.#writes += 13;
  }

  async #pay(): Promise<void> {
    const accounts = this.#client.db('shop').collection<Account>('accounts');
    const amount = randomInt(10);
    await this.#client.withSession((session) =>
      session.withTransaction(async () => {
        await accounts.updateOne({ _id: randomInt(ACCOUNTS) }, { $inc: { balance: -amount } }, { session });
        await accounts.updateOne({ _id: randomInt(ACCOUNTS) }, { $inc: { balance: amount } }, { session });
      }),
    );
    this.#writes += 2;
  }
}
