/**
 * The record of a validation and of its collections: how far it is, and what was found.
 *
 * Progress is true whoever made it: a range that was compared equal at one optime stays equal, as entries are applied
 * strictly. So an attempt that is cut short leaves what it wrote to the next one, and an older claim writes nothing more.
 */
import { randomBytes } from 'node:crypto';
import { MongoServerError, type ObjectId } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { toStoredPosition } from '../mongo/positions.ts';
import { uuidBinary } from '../mongo/uuid.ts';
import { LifeboatError } from '../shared/errors.ts';
import type { Position } from '../shared/optime.ts';
import type { Stores } from '../stores/connect.ts';
import type { MemberFence } from '../stores/members.ts';
import type { StoredFinding, ValidationCollectionRecord, ValidationRecord } from '../stores/records.ts';
import { bounded } from './findings.ts';
import type { CollectionToCompare } from './scope.ts';

const DUPLICATE_KEY = 11000;
const CHANGED_ALWAYS = 'its definition changed whenever it was compared; its documents were compared';
/** How many namespaces that were not compared a report names. */
const MOST_OMISSIONS = 1_000;
/** How many records one write takes. */
const WRITE_BATCH = 500;

/** What a validation is of. */
export interface Validated {
  readonly deployment: string;
  readonly member: string;
  /** The head was left in the middle of a repair: only the validation that began it can go on. */
  readonly inRepair: boolean;
}

export class ValidationLog {
  readonly #stores: Stores;
  readonly #fence: MemberFence;
  #record: ValidationRecord;
  readonly #collections = new Map<string, ValidationCollectionRecord>();
  readonly #changed = new Set<string>();

  private constructor(stores: Stores, fence: MemberFence, record: ValidationRecord) {
    this.#stores = stores;
    this.#fence = fence;
    this.#record = record;
  }

  /**
   * Goes on with the validation of this initial sync that there is, or begins one.
   * @throws LifeboatError `ValidationFailed` when one has failed under this claim, or in the middle of a repair; `FenceLost`; `StoreUnavailable` (retryable)
   */
  static async open(stores: Stores, fence: MemberFence, of: Validated): Promise<ValidationLog> {
    return storing(fence, async () => {
      for (;;) {
        const { incarnation } = fence;
        const latest = await stores.validations.findOne({ incarnation }, { sort: { startedAt: -1 } });
        if (latest?.state === 'different' && (of.inRepair || latest.epoch === fence.epoch))
          throw validationFailed(fence, latest);
        const record = latest?.state === 'running' || latest?.state === 'equal' ? latest : undefined;
        if (!record) {
          // Begun by another attempt meanwhile, it is found.
          await insertNew(stores, fence, of);
          continue;
        }
        const log = new ValidationLog(stores, fence, record);
        if (record.state === 'running') await log.#takeOver();
        return log;
      }
    });
  }

  get record(): ValidationRecord {
    return this.#record;
  }

  /** By UUID in hex. */
  get collections(): ReadonlyMap<string, ValidationCollectionRecord> {
    return this.#collections;
  }

  async #takeOver(): Promise<void> {
    await this.#update({});
    const found = this.#stores.validationCollections.find({ '_id.validation': this.#record._id });
    for await (const one of found) this.#collections.set(one._id.uuid.toString('hex'), one);
  }

  /** Notes what is to be compared. Said again, what is there stays as it is. */
  async list(collections: readonly CollectionToCompare[]): Promise<void> {
    const records = collections.map((one) => newCollection(this.#record._id, this.#fence.epoch, one));
    await storing(this.#fence, async () => {
      for (let at = 0; at < records.length; at += WRITE_BATCH) {
        const writes = records.slice(at, at + WRITE_BATCH).map(({ _id, ...fields }) => ({
          updateOne: { filter: { _id }, update: { $setOnInsert: fields }, upsert: true },
        }));
        await this.#stores.validationCollections.bulkWrite(writes, { ordered: false });
      }
      await this.#takeOver();
    });
  }

  /** Changes what is known of a collection; written by the next `flush`. */
  change(uuid: string, fields: Partial<Omit<ValidationCollectionRecord, '_id' | 'epoch'>>): void {
    const known = this.#collections.get(uuid);
    if (!known) return;
    this.#collections.set(uuid, { ...known, ...fields });
    this.#changed.add(uuid);
  }

  /**
   * Writes what changed.
   * @throws LifeboatError `FenceLost`; `StoreUnavailable` (retryable)
   */
  async flush(
    fields: Partial<Pick<ValidationRecord, 'stage' | 'round' | 'definitionsLeftOut'>> = {},
    comparedAt?: Position,
  ): Promise<void> {
    await storing(this.#fence, async () => {
      const { epoch } = this.#fence;
      const changed = [...this.#changed].flatMap((uuid) => this.#collections.get(uuid) ?? []);
      for (let at = 0; at < changed.length; at += WRITE_BATCH) {
        const writes = changed.slice(at, at + WRITE_BATCH).map(({ _id, ...one }) => ({
          updateOne: { filter: { _id, epoch: { $lte: epoch } }, update: { $set: { ...one, epoch } } },
        }));
        const { matchedCount } = await this.#stores.validationCollections.bulkWrite(writes, { ordered: false });
        if (matchedCount < writes.length) throw fenceLost(this.#fence);
      }
      this.#changed.clear();
      await this.#update({
        ...fields,
        ...this.#totals(fields.definitionsLeftOut),
        ...(comparedAt ? { comparedAt: toStoredPosition(comparedAt) } : {}),
      });
    });
  }

  /** Ends the validation; its collections' records are no longer needed. */
  async end(state: 'equal' | 'different', failed: readonly StoredFinding[] = []): Promise<void> {
    await storing(this.#fence, async () => {
      const endedAt = await this.#stores.now();
      await this.#update({ ...this.#totals(), state, endedAt, failed: bounded(failed) });
      await this.#stores.validationCollections.deleteMany({ '_id.validation': this.#record._id });
    });
  }

  /** @throws LifeboatError `ValidationFailed`, with the validation's id and nothing of what was found */
  fail(): never {
    throw validationFailed(this.#fence, this.#record);
  }

  async #update(fields: Partial<ValidationRecord>): Promise<void> {
    const { epoch } = this.#fence;
    const updated = await this.#stores.validations.findOneAndUpdate(
      { _id: this.#record._id, state: 'running', epoch: { $lte: epoch } },
      { $set: { ...fields, epoch } },
      { returnDocument: 'after' },
    );
    if (!updated) throw fenceLost(this.#fence);
    this.#record = updated;
  }

  #totals(definitionsLeftOut = this.#record.definitionsLeftOut): Partial<ValidationRecord> {
    const all = [...this.#collections.values()];
    const sum = (field: 'ranges' | 'documents' | 'bytes'): number => all.reduce((total, one) => total + one[field], 0);
    return {
      collections: all.filter(({ state, differing }) => state === 'compared' && differing.length === 0).length,
      ranges: sum('ranges'),
      documents: sum('documents'),
      bytes: sum('bytes'),
      repaired: bounded(all.flatMap((one) => one.repaired)),
      notCompared: [
        ...all.flatMap((one) =>
          one.state === 'not-compared' ? [{ namespace: `${one.db}.${one.name}`, reason: whyNotCompared(one) }] : [],
        ),
        ...definitionsLeftOut.map((namespace) => ({ namespace, reason: CHANGED_ALWAYS })),
      ].slice(0, MOST_OMISSIONS),
    };
  }
}

function whyNotCompared({ reason, ranges, documents }: ValidationCollectionRecord): string {
  const part = ranges === 0 ? '' : `; ${documents} of its documents were compared, and are equal`;
  return `${reason ?? ''}${part}`;
}

function newCollection(
  validation: string,
  epoch: number,
  { uuid, db, name, notCompared }: CollectionToCompare,
): ValidationCollectionRecord {
  return {
    _id: { validation, uuid: uuidBinary(uuid) },
    epoch,
    db,
    name,
    state: 'listed',
    reason: notCompared,
    next: null,
    tries: 0,
    ranges: 0,
    documents: 0,
    bytes: 0,
    differing: [],
    repaired: [],
  };
}

/** Begins one, unless another attempt has. */
async function insertNew(
  stores: Stores,
  { incarnation, epoch }: MemberFence,
  { deployment, member }: Validated,
): Promise<void> {
  const startedAt = await stores.now();
  const time = startedAt.toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const record: ValidationRecord = {
    _id: `${deployment}-${time}-${randomBytes(3).toString('hex')}`,
    deployment,
    member,
    incarnation,
    epoch,
    state: 'running',
    stage: 'server',
    round: 0,
    startedAt,
    endedAt: null,
    comparedAt: null,
    collections: 0,
    ranges: 0,
    documents: 0,
    bytes: 0,
    repaired: [],
    notCompared: [],
    failed: [],
    definitionsLeftOut: [],
  };
  try {
    await stores.validations.insertOne(record);
  } catch (error) {
    if (!(error instanceof MongoServerError) || error.code !== DUPLICATE_KEY) throw error;
  }
}

/** Ends what a validation of an initial sync that was given up left behind. */
export async function giveUpValidations(stores: Stores, incarnation: ObjectId): Promise<void> {
  await endUnfinished(stores, incarnation, ['running']);
}

/** As giveUpValidations, where only the head is given up: that it was found equal says nothing of the next one. */
export async function giveUpFindings(stores: Stores, incarnation: ObjectId): Promise<void> {
  await endUnfinished(stores, incarnation, ['running', 'equal']);
}

async function endUnfinished(
  stores: Stores,
  incarnation: ObjectId,
  states: readonly ValidationRecord['state'][],
): Promise<void> {
  const ids = await stores.validations
    .find({ incarnation })
    .project<Pick<ValidationRecord, '_id'>>({ _id: 1 })
    .toArray();
  await stores.validationCollections.deleteMany({ '_id.validation': { $in: ids.map(({ _id }) => _id) } });
  await stores.validations.updateMany(
    { incarnation, state: { $in: [...states] } },
    { $set: { state: 'given-up', endedAt: await stores.now() } },
  );
}

function fenceLost({ key }: MemberFence): LifeboatError {
  return new LifeboatError('FenceLost', `another attempt has taken over the validation of ${key}`);
}

function validationFailed({ key }: MemberFence, { _id, failed }: ValidationRecord): LifeboatError {
  const namespaces = new Set(failed.map(({ namespace }) => namespace)).size;
  return new LifeboatError(
    'ValidationFailed',
    `validation ${_id}: ${namespaces} ${namespaces === 1 ? 'namespace' : 'namespaces'} of the head of ${key} cannot be made equal to the source`,
  );
}

async function storing<T>({ key }: MemberFence, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw castDriverError(error, 'store', `writing the validation of ${key}`);
  }
}
