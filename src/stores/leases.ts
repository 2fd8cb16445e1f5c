/**
 * Leases: while one is live, nothing that it refers to is removed from the blockstore (design decision 10).
 *
 * Time is the blockstore's: it stamps `takenAt` and `expiresAt`, and it alone decides what has expired. A holder only
 * measures how long ago its last renewal was confirmed, and stops by itself when that is longer than the lease lasts.
 * A lease ends in one of two ways, both a write: its holder ends it (the record goes), or another revokes it.
 */
import { ReadConcern, WriteConcern, type ClientSession } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from './connect.ts';
import type { LeaseRecord } from './records.ts';

/** How long a lease lasts without being renewed, in milliseconds. */
export const LEASE_MS = 60_000;

export type LeaseRequest = Pick<LeaseRecord, 'purpose' | 'deployment' | 'daemon' | 'snapshot'>;

/** A lease that this process holds and keeps renewing until it is ended or lost. */
export interface Lease extends AsyncDisposable {
  /** Counts up over all leases. */
  readonly number: number;
  /** Aborted, with a `FenceLost` as its reason, when the lease was revoked or could not be renewed in time. */
  readonly signal: AbortSignal;
  /**
   * Renews once more and stops renewing, so that no renewal collides with a transaction on the record.
   * @throws LifeboatError `FenceLost` when it is no longer held
   */
  settle(): Promise<void>;
  /**
   * Ends the lease inside a transaction, which then collides with any revocation of it.
   * @throws LifeboatError `FenceLost` when it is no longer held
   */
  endIn(session: ClientSession): Promise<void>;
  /** Ends the lease if it is still there. A store that does not answer is no error: the lease then expires. */
  end(): Promise<void>;
}

/**
 * Takes a new lease; it holds from the moment this resolves.
 * @param lastsMs how long it lasts without a renewal, in milliseconds
 */
export async function takeLease(stores: Stores, request: LeaseRequest, lastsMs = LEASE_MS): Promise<Lease> {
  try {
    const fields = { ...request, takenAt: '$$NOW', expiresAt: { $add: ['$$NOW', lastsMs] }, revoked: false };
    const change = [{ $set: literally(fields, Object.keys(request)) }];
    let asked = performance.now();
    // In one transaction: whoever draws a later number sees this lease, or it never comes to be.
    const number = await stores.client.withSession((session) =>
      session.withTransaction(
        async () => {
          asked = performance.now();
          const counter = await stores.counters.findOneAndUpdate(
            { _id: 'leases' },
            { $inc: { value: 1 } },
            { upsert: true, returnDocument: 'after', session },
          );
          if (!counter) throw new LifeboatError('Internal', 'the counter of leases gave no number');
          await stores.leases.updateOne({ _id: counter.value }, change, { upsert: true, session });
          return counter.value;
        },
        { readConcern: new ReadConcern('snapshot'), writeConcern: new WriteConcern('majority') },
      ),
    );
    return new HeldLease(stores, number, lastsMs, asked);
  } catch (error) {
    throw castDriverError(error, 'store', 'taking a lease');
  }
}

/** A pipeline reads `$…` as a path: the named fields are values, whatever stands in them. */
function literally(fields: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, names.includes(name) ? { $literal: value } : value]),
  );
}

class HeldLease implements Lease {
  readonly number: number;
  readonly #stores: Stores;
  readonly #lastsMs: number;
  readonly #lost = new AbortController();
  #renewal: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #over = false;

  constructor(stores: Stores, number: number, lastsMs: number, confirmedAt: number) {
    this.#stores = stores;
    this.number = number;
    this.#lastsMs = lastsMs;
    this.#confirmed(confirmedAt);
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  async settle(): Promise<void> {
    clearTimeout(this.#renewal);
    await this.#renewing;
    await this.#renewOnce();
    this.#stop();
    this.signal.throwIfAborted();
  }

  async endIn(session: ClientSession): Promise<void> {
    const { deletedCount } = await this.#stores.leases.deleteOne({ _id: this.number, revoked: false }, { session });
    if (deletedCount === 0) throw this.#fenceLost('was revoked');
  }

  async end(): Promise<void> {
    this.#stop();
    await this.#renewing;
    await this.#stores.leases.deleteOne({ _id: this.number }).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  #stop(): void {
    this.#over = true;
    clearTimeout(this.#renewal);
    clearTimeout(this.#deadline);
  }

  /** @param at when the renewal was sent, on the clock of `performance`: the store stamped it later than that */
  #confirmed(at: number): void {
    clearTimeout(this.#renewal);
    clearTimeout(this.#deadline);
    if (this.#over) return;
    const left = Math.max(0, at + this.#lastsMs - performance.now());
    this.#deadline = setTimeout(() => this.#lose('could not be renewed in time'), left).unref();
    this.#again();
  }

  #again(): void {
    if (this.#over) return;
    this.#renewal = setTimeout(() => {
      this.#renewing = this.#renewOnce();
    }, this.#lastsMs / 3).unref();
  }

  async #renewOnce(): Promise<void> {
    const asked = performance.now();
    try {
      const { matchedCount } = await this.#stores.leases.updateOne({ _id: this.number, revoked: false }, [
        { $set: { expiresAt: { $add: ['$$NOW', this.#lastsMs] } } },
      ]);
      if (matchedCount === 0) this.#lose('was revoked');
      else this.#confirmed(asked);
    } catch {
      // The deadline decides: until then a store that is away may come back.
      this.#again();
    }
  }

  #lose(how: string): void {
    if (this.#over) return;
    this.#stop();
    this.#lost.abort(this.#fenceLost(how));
  }

  #fenceLost(how: string): LifeboatError {
    return new LifeboatError('FenceLost', `lease ${this.number} ${how}`);
  }
}

/** Revokes the leases of a deployment that have expired by the blockstore's clock; says how many. */
export async function revokeExpiredLeases(stores: Stores, deployment: string): Promise<number> {
  try {
    const { modifiedCount } = await stores.leases.updateMany(
      { deployment, revoked: false, $expr: { $lt: ['$expiresAt', '$$NOW'] } },
      { $set: { revoked: true } },
    );
    return modifiedCount;
  } catch (error) {
    throw castDriverError(error, 'store', `revoking expired leases of ${deployment}`);
  }
}
