/**
 * Manifests: which blocks, in which order, make the files of a snapshot.
 *
 * The block hashes stand in parts, written while the files are cut; the header is committed last and makes a snapshot
 * of them. Parts are numbered in the order of (path, offset), paths in the order of `comparePaths`.
 */
import { createHash } from 'node:crypto';
import { Binary } from 'mongodb';
import { castDriverError } from '../mongo/errors.ts';
import { LifeboatError } from '../shared/errors.ts';
import { PART_BYTES } from '../stores/bytes.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestPartRecord, ManifestRecord, StoredPosition, StoredVerification } from '../stores/records.ts';
import { HASH_BYTES } from './blocks.ts';

/** A run of blocks of one file: what a part says. */
export interface FileRun {
  /** Path relative to the dbpath, with `/`. */
  readonly path: string;
  readonly fileBytes: number;
  /** Where the run begins in the file. */
  readonly offset: number;
  /** 32 bytes a block. */
  readonly hashes: Buffer;
}

/** One block in its file. */
export interface BlockPlace {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
  readonly hash: Buffer;
}

/** What is being deleted is no snapshot any more. */
export const IS_SNAPSHOT = { deleting: { $exists: false } } as const;

/**
 * False of a snapshot that was found to differ from its source, and of all behind it, compared or not.
 * @param differs of the initial sync that it is of (MemberRecord.differs)
 */
export function isGood(
  { optime, verification }: Pick<ManifestRecord, 'optime'> & { readonly verification?: StoredVerification | undefined },
  differs: StoredPosition | undefined,
): boolean {
  return verification?.state !== 'different' && (!differs || optime.ts.lessThan(differs.ts));
}

const METADATA: ReadonlySet<string> = new Set(['WiredTiger', 'WiredTiger.turtle', 'WiredTiger.wt']);

/** Whether a file is one of those that say where in the others a checkpoint is. */
export function isMetadata(path: string): boolean {
  return METADATA.has(path);
}

/** The order of paths in a manifest: WiredTiger's metadata first (see cut.ts), then by UTF-16 code units. */
export function comparePaths(a: string, b: string): number {
  if (isMetadata(a) !== isMetadata(b)) return isMetadata(a) ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The blocks of a run, in order. */
export function* placesOf(run: FileRun, blockSize: number): Generator<BlockPlace, void, void> {
  for (let at = 0; at < run.hashes.length; at += HASH_BYTES) {
    const offset = run.offset + (at / HASH_BYTES) * blockSize;
    const bytes = Math.min(blockSize, run.fileBytes - offset);
    yield { path: run.path, offset, bytes, hash: run.hashes.subarray(at, at + HASH_BYTES) };
  }
}

/** What a part says of itself. */
export function digestOf(run: FileRun): Buffer {
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64LE(BigInt(run.fileBytes), 0);
  numbers.writeBigUInt64LE(BigInt(run.offset), 8);
  return createHash('sha256').update(`${run.path}\0`).update(numbers).update(run.hashes).digest();
}

/** Parts that are sent to the store together. */
const PARTS_AT_ONCE = 500;

/** Writes the parts of one manifest, in order. */
export class ManifestWriter {
  readonly #stores: Stores;
  readonly #snapshot: string;
  readonly #lease: number;
  readonly #runBytes: number;
  readonly #whole = createHash('sha256');
  /** The hashes of the run, `#runLength` bytes of them; grows as it must. */
  #run = Buffer.allocUnsafe(64 * HASH_BYTES);
  #runLength = 0;
  #offset = 0;
  #parts = 0;
  #unsent: ManifestPartRecord[] = [];
  #unsentBytes = 0;

  /** @param runBytes how many bytes of hashes one part holds at most, a multiple of 32 */
  constructor(stores: Stores, snapshot: string, lease: number, runBytes = PART_BYTES) {
    this.#stores = stores;
    this.#snapshot = snapshot;
    this.#lease = lease;
    this.#runBytes = runBytes;
  }

  /** Adds the next hash of a file. */
  async add(path: string, fileBytes: number, offset: number, hash: Buffer): Promise<void> {
    if (this.#runLength === 0) this.#offset = offset;
    if (this.#runLength === this.#run.length) this.#run = Buffer.concat([this.#run], this.#run.length * 2);
    this.#runLength += hash.copy(this.#run, this.#runLength);
    if (this.#runLength >= this.#runBytes) await this.#endRun(path, fileBytes);
  }

  /** Ends a file: every file has at least one part, an empty one too. */
  async endFile(path: string, fileBytes: number): Promise<void> {
    if (this.#runLength === 0 && fileBytes > 0) return;
    if (fileBytes === 0) this.#offset = 0;
    await this.#endRun(path, fileBytes);
  }

  /** Sends what is left; resolves to what the header says of the parts. */
  async finish(): Promise<Pick<ManifestRecord, 'parts' | 'sha256'>> {
    await this.#send();
    return { parts: this.#parts, sha256: new Binary(this.#whole.digest()) };
  }

  async #endRun(path: string, fileBytes: number): Promise<void> {
    const hashes = Buffer.from(this.#run.subarray(0, this.#runLength));
    const run: FileRun = { path, fileBytes, offset: this.#offset, hashes };
    this.#runLength = 0;
    const digest = digestOf(run);
    this.#whole.update(digest);
    this.#unsent.push({
      _id: { snapshot: this.#snapshot, n: this.#parts },
      path,
      fileBytes,
      offset: run.offset,
      hashes: new Binary(run.hashes),
      sha256: new Binary(digest),
      lease: this.#lease,
    });
    this.#parts += 1;
    this.#unsentBytes += run.hashes.length;
    if (this.#unsent.length >= PARTS_AT_ONCE || this.#unsentBytes >= PART_BYTES) await this.#send();
  }

  async #send(): Promise<void> {
    if (this.#unsent.length === 0) return;
    try {
      await this.#stores.manifestParts.insertMany(this.#unsent);
    } catch (error) {
      throw castDriverError(error, 'store', `storing the manifest of ${this.#snapshot}`);
    }
    this.#unsent = [];
    this.#unsentBytes = 0;
  }
}

/**
 * The header of a snapshot.
 * @throws LifeboatError `UnknownSnapshot`
 */
export async function readManifest(stores: Stores, id: string): Promise<ManifestRecord> {
  try {
    const manifest = await stores.manifests.findOne({ _id: id, ...IS_SNAPSHOT });
    if (manifest) return manifest;
  } catch (error) {
    throw castDriverError(error, 'store', `reading snapshot ${id}`);
  }
  throw new LifeboatError('UnknownSnapshot', `there is no snapshot ${id}`);
}

/** The newest committed manifest of a member, or null. */
export async function newestManifest(
  stores: Stores,
  deployment: string,
  member: string,
): Promise<ManifestRecord | null> {
  try {
    return await stores.manifests.findOne(
      { deployment, member, ...IS_SNAPSHOT },
      { sort: { 'optime.ts': -1, createdAt: -1 } },
    );
  } catch (error) {
    throw castDriverError(error, 'store', `looking for the newest snapshot of ${deployment}`);
  }
}

/**
 * Every run of a manifest in order, each checked. What is missing or does not match comes as a `ManifestDamaged` in its
 * place, so that a verification can go on behind it.
 */
export async function* checkedRuns(
  stores: Stores,
  manifest: ManifestRecord,
): AsyncGenerator<FileRun | LifeboatError, void, void> {
  const damaged = (what: string): LifeboatError =>
    new LifeboatError('ManifestDamaged', `the manifest of snapshot ${manifest._id} is damaged: ${what}`);
  const whole = createHash('sha256');
  // Parts may be 8 MB each: a few in a batch are enough.
  const cursor = stores.manifestParts
    .find({ '_id.snapshot': manifest._id }, { batchSize: 100 })
    .sort({ '_id.snapshot': 1, '_id.n': 1 });
  let next = 0;
  try {
    for await (const part of cursor) {
      if (part._id.n >= manifest.parts) break;
      for (; next < part._id.n; next += 1) yield damaged(`part ${next} is missing`);
      next += 1;
      const run = { path: part.path, fileBytes: part.fileBytes, offset: part.offset, hashes: bytesOf(part.hashes) };
      whole.update(bytesOf(part.sha256));
      if (!saneRun(run, manifest.blockSize) || !digestOf(run).equals(bytesOf(part.sha256))) {
        yield damaged(`part ${part._id.n} (of file ${part.path}) does not match its checksum`);
      } else yield run;
    }
  } catch (error) {
    throw castDriverError(error, 'store', `reading the manifest of snapshot ${manifest._id}`);
  } finally {
    await cursor.close();
  }
  for (; next < manifest.parts; next += 1) yield damaged(`part ${next} is missing`);
  if (!whole.digest().equals(bytesOf(manifest.sha256)))
    yield damaged('its parts do not match the checksum of the header');
}

/** As `checkedRuns`, but the first damage is thrown. */
export async function* readRuns(stores: Stores, manifest: ManifestRecord): AsyncGenerator<FileRun, void, void> {
  for await (const run of checkedRuns(stores, manifest)) {
    if (run instanceof LifeboatError) throw run;
    yield run;
  }
}

/** Whether a run can be what it says: its path stays below the dbpath, and its blocks inside the file. */
function saneRun({ path, fileBytes, offset, hashes }: FileRun, blockSize: number): boolean {
  const inside =
    path !== '' &&
    path.split('/').every((name) => name !== '' && name !== '.' && name !== '..' && !name.includes('\0'));
  const blocks = hashes.length / HASH_BYTES;
  const most = Math.ceil((fileBytes - offset) / blockSize);
  return inside && Number.isInteger(blocks) && offset % blockSize === 0 && blocks <= most;
}

export function bytesOf(binary: Binary): Buffer {
  return Buffer.from(binary.buffer.buffer, binary.buffer.byteOffset, binary.length());
}

/**
 * Snapshots of this deployment that died: they have parts, no manifest names them, and the lease they were written under
 * is over.
 */
export async function findLeftovers(stores: Stores, deployment: string): Promise<string[]> {
  try {
    return await stores.client.withSession({ causalConsistency: true }, async (session) => {
      const ids = new RegExp(`^${deployment}-\\d{8}T\\d{6}Z-[0-9a-f]{6}$`);
      const found = (await stores.manifestParts.distinct(
        '_id.snapshot',
        { '_id.snapshot': ids },
        { session },
      )) as string[];
      const isSnapshot = async (id: string): Promise<boolean> =>
        (await stores.manifests.findOne({ _id: id }, { session, projection: { _id: 1 } })) !== null;
      const isBeingWritten = async (id: string): Promise<boolean> => {
        const part = await stores.manifestParts.findOne({ '_id.snapshot': id }, { session, projection: { lease: 1 } });
        return (
          part !== null && (await stores.leases.findOne({ _id: part.lease, revoked: false }, { session })) !== null
        );
      };
      const dead: string[] = [];
      for (const id of found) {
        // The lease before the manifest, once more: one that was committed in between has no lease, but a manifest.
        if ((await isSnapshot(id)) || (await isBeingWritten(id)) || (await isSnapshot(id))) continue;
        dead.push(id);
      }
      return dead;
    });
  } catch (error) {
    throw castDriverError(error, 'store', `looking for what dead snapshots of ${deployment} left`);
  }
}

/** Removes the parts of snapshots that died. Says how many. */
export async function removeLeftovers(stores: Stores, deployment: string): Promise<number> {
  const dead = await findLeftovers(stores, deployment);
  if (dead.length === 0) return 0;
  try {
    return (await stores.manifestParts.deleteMany({ '_id.snapshot': { $in: dead } })).deletedCount;
  } catch (error) {
    throw castDriverError(error, 'store', `removing what dead snapshots of ${deployment} left`);
  }
}
