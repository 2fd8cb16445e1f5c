/**
 * Raw documents that wait on disk because they are too many for memory. The file has no name from its begin on, so that
 * nothing is left of it when the process ends, in whatever way.
 */
import { randomUUID } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { LifeboatError } from '../shared/errors.ts';

const LENGTH_BYTES = 4;

export class SpillFile {
  readonly #file: FileHandle;
  #end = 0;
  #closed: Promise<void> | undefined;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** @throws the system's errors */
  static async create(folder: string): Promise<SpillFile> {
    const path = join(folder, `spill-${randomUUID()}`);
    const file = await open(path, 'wx+', 0o600);
    await rm(path);
    return new SpillFile(file);
  }

  /** Adds a raw document, which begins with its own length. */
  async append(document: Buffer): Promise<void> {
    for (let at = 0; at < document.length;) {
      const { bytesWritten } = await this.#file.write(document, at, document.length - at, this.#end);
      at += bytesWritten;
      this.#end += bytesWritten;
    }
  }

  /** The documents, in their order, each in memory of its own. */
  async *documents(): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.#end;) {
      const length = (await this.#read(at, LENGTH_BYTES)).readInt32LE(0);
      yield await this.#read(at, length);
      at += length;
    }
  }

  async #read(from: number, bytes: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(bytes);
    for (let at = 0; at < bytes;) {
      const { bytesRead } = await this.#file.read(buffer, at, bytes - at, from + at);
      if (bytesRead === 0) throw new LifeboatError('Internal', 'a file of operations ends before its end');
      at += bytesRead;
    }
    return buffer;
  }

  /** Lets go of the file and of its room on the disk, once what is under way with it has ended. Safe to call twice. */
  close(): void {
    // Nobody can do anything about a close that fails, and nothing is lost by it.
    this.#closed ??= this.#file.close().catch(() => undefined);
  }
}
