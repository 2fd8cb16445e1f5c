/** The parent of a snapshot: what stood at the same place of the same file in the manifest before it. */
import { LifeboatError } from '../shared/errors.ts';
import type { Stores } from '../stores/connect.ts';
import type { ManifestRecord } from '../stores/records.ts';
import { BLOCK_BYTES, HASH_BYTES } from './blocks.ts';
import { checkedRuns, comparePaths, type FileRun } from './manifest.ts';

/** Walks a manifest beside the files that are cut, which come in the same order; holds one run at a time. */
export class ParentBlocks implements AsyncDisposable {
  readonly #runs: AsyncGenerator<FileRun | LifeboatError, void, void> | undefined;
  #run: FileRun | undefined;
  #begun = false;

  constructor(stores: Stores, parent: ManifestRecord | null) {
    this.#runs = parent?.blockSize === BLOCK_BYTES ? checkedRuns(stores, parent) : undefined;
  }

  /** Whether the parent has this block at this place. Places must be asked for in the order of a manifest. */
  has(path: string, offset: number, hash: Buffer): boolean {
    const run = this.#run;
    if (run?.path !== path || offset < run.offset) return false;
    const at = ((offset - run.offset) / BLOCK_BYTES) * HASH_BYTES;
    return at < run.hashes.length && run.hashes.compare(hash, 0, HASH_BYTES, at, at + HASH_BYTES) === 0;
  }

  /** Moves on to the run that holds this place, if there is one; to be called before `has`. */
  async moveTo(path: string, offset: number): Promise<void> {
    if (!this.#runs) return;
    while (!this.#begun || (this.#run && isBefore(this.#run, path, offset))) {
      this.#begun = true;
      const { value } = await this.#runs.next();
      // Damage of the parent is no harm here: blocks that it does not vouch for are claimed or stored.
      if (!(value instanceof LifeboatError)) this.#run = value ?? undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#runs?.return();
  }
}

/** Whether all of a run comes before a place. */
function isBefore(run: FileRun, path: string, offset: number): boolean {
  const order = comparePaths(run.path, path);
  return order < 0 || (order === 0 && run.offset + (run.hashes.length / HASH_BYTES) * BLOCK_BYTES <= offset);
}
