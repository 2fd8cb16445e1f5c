/** A transaction that is driven by hand, as `mongos` drives one: over a session of its own that can also prepare it. */
import { Long, UUID, type Document, type Timestamp } from 'mongodb';
import type { MongodAddress } from '../../src/mongod/process.ts';
import { fields, RawWire, rawDocument, RefusedByServer } from './raw-wire.ts';

/** How long one is begun again, in milliseconds: what it collides with may stay. */
const PATIENCE_MS = 20_000;

/** Needs a server with test commands. */
export class HandTransaction implements AsyncDisposable {
  readonly #wire: RawWire;
  readonly #session = { lsid: { id: new UUID() }, txnNumber: Long.fromNumber(1), autocommit: false };
  #begun = false;
  #prepared: Timestamp | undefined;

  private constructor(wire: RawWire) {
    this.#wire = wire;
  }

  static async open(primary: MongodAddress): Promise<HandTransaction> {
    return new HandTransaction(await RawWire.open(primary));
  }

  /** One in which `work` was done and that is prepared; begun again when the server says that a client is to. */
  static async prepared(
    primary: MongodAddress,
    work: (transaction: HandTransaction) => Promise<unknown>,
  ): Promise<HandTransaction> {
    for (const begun = performance.now(); ;) {
      const transaction = await HandTransaction.open(primary);
      try {
        await work(transaction);
        await transaction.prepare();
        return transaction;
      } catch (error) {
        await transaction[Symbol.asyncDispose]();
        const isWorthATry = error instanceof RefusedByServer && error.isTransient;
        if (!isWorthATry || performance.now() - begun > PATIENCE_MS) throw error;
      }
    }
  }

  /** A command inside the transaction. */
  async run(db: string, command: Document): Promise<Document> {
    const start = this.#begun ? {} : { startTransaction: true };
    this.#begun = true;
    return this.#wire.command(rawDocument([fields({ ...command, ...this.#session, ...start, $db: db })]));
  }

  async prepare(): Promise<void> {
    const reply = await this.run('admin', { prepareTransaction: 1, writeConcern: { w: 'majority' } });
    this.#prepared = reply['prepareTimestamp'] as Timestamp;
  }

  /** @param at when it counts as committed, if it was prepared: not before that, which it is when left out */
  async commit(at = this.#prepared): Promise<void> {
    const commitTimestamp = at ? { commitTimestamp: at } : {};
    await this.run('admin', { commitTransaction: 1, ...commitTimestamp, writeConcern: { w: 'majority' } });
    await this.#wire[Symbol.asyncDispose]();
  }

  async abort(): Promise<void> {
    await this.run('admin', { abortTransaction: 1, writeConcern: { w: 'majority' } });
    await this.#wire[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#wire[Symbol.asyncDispose]();
  }
}
