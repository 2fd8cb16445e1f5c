/** zstd contexts that are used for one frame after the other. */
import { promisify } from 'node:util';
import { constants, createZstdCompress, createZstdDecompress, zstdDecompress } from 'node:zlib';

export interface CompressorOptions {
  /** Bytes of one step's output. A small one takes more processor time: in steps of 16 KiB, a third again. */
  readonly chunkSize: number;
  readonly level: number;
  /** How far back a frame looks, as a power of two; left out, zstd decides. */
  readonly windowLog?: number;
}

/**
 * A new context for each frame takes half as much processor time again, and `zstdCompress` makes a buffer for each that is
 * as large as what comes out at the worst: most of that time goes into the collection of garbage.
 */
export class Compressor {
  readonly #zstd;
  #output: Buffer[] = [];

  constructor({ chunkSize, level, windowLog }: CompressorOptions) {
    this.#zstd = createZstdCompress({
      chunkSize,
      params: {
        [constants.ZSTD_c_compressionLevel]: level,
        ...(windowLog === undefined ? {} : { [constants.ZSTD_c_windowLog]: windowLog }),
        // What is stored has a SHA-256 beside it: a checksum inside only takes time.
        [constants.ZSTD_c_checksumFlag]: 0,
      },
    });
    this.#zstd.on('data', (piece: Buffer) => this.#output.push(piece));
    this.#zstd.on('error', () => undefined);
  }

  /**
   * One frame, in pieces, made on a thread of the pool; `raw` must not change until this resolves. One at a time. The
   * memory of a piece may hold more than that, of frames before and after it: it is not to be released.
   */
  async compress(raw: Buffer): Promise<readonly Buffer[]> {
    this.#output = [];
    await new Promise<void>((settle, fail) => {
      this.#zstd.once('error', fail);
      this.#zstd.write(raw);
      this.#zstd.flush(constants.ZSTD_e_end, () => {
        this.#zstd.off('error', fail);
        if (this.#zstd.destroyed) fail(new Error('the zstd context has ended'));
        else settle();
      });
    });
    return this.#output;
  }
}

/** As many compressors as work at the same time, each used again unless its work failed. */
export class Compressors {
  readonly #options: CompressorOptions;
  readonly #idle: Compressor[] = [];

  constructor(options: CompressorOptions) {
    this.#options = options;
  }

  /** As that of a Compressor, any number at a time. */
  async compress(raw: Buffer): Promise<readonly Buffer[]> {
    const compressor = this.#idle.pop() ?? new Compressor(this.#options);
    const pieces = await compressor.compress(raw);
    this.#idle.push(compressor);
    return pieces;
  }
}

const decompressOnce = promisify(zstdDecompress);

/** A context that takes one frame after the other. */
class Decompressor {
  readonly #zstd;
  readonly #mostBytes: number;
  #output: Buffer[] = [];
  #bytes = 0;

  constructor(chunkSize: number, mostBytes: number) {
    this.#mostBytes = mostBytes;
    this.#zstd = createZstdDecompress({ chunkSize });
    this.#zstd.on('data', (piece: Buffer) => {
      this.#output.push(piece);
      this.#bytes += piece.length;
      // A few damaged bytes can stand for gigabytes.
      if (this.#bytes > this.#mostBytes) this.#zstd.destroy();
    });
    this.#zstd.on('error', () => undefined);
  }

  /** What comes out of the context for these bytes; undefined when it has ended. */
  async decompress(packed: Uint8Array): Promise<Buffer | undefined> {
    this.#output = [];
    this.#bytes = 0;
    await new Promise<void>((settle) => {
      this.#zstd.once('close', settle);
      this.#zstd.write(packed, () => {
        this.#zstd.off('close', settle);
        settle();
      });
    });
    if (this.#zstd.destroyed) return undefined;
    const [only, ...more] = this.#output;
    return only && more.length === 0 ? only : Buffer.concat(this.#output);
  }

  end(): void {
    this.#zstd.destroy();
  }
}

/**
 * As many contexts as work at the same time, for frames of which it is known what comes out.
 *
 * Most of the time of `zstdDecompress` goes into the making of its context, on the main thread. But what a damaged frame
 * leaves in a context comes out with the next one: so what is not right is decompressed again, in a new context.
 */
export class Decompressors {
  readonly #mostBytes: number;
  readonly #idle: Decompressor[] = [];

  /** @param mostBytes of one frame, decompressed */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** The bytes of a frame, or undefined when they are not right. They may share their memory with others'. */
  async decompress(packed: Uint8Array, isRight: (raw: Buffer) => boolean): Promise<Buffer | undefined> {
    const context = this.#idle.pop() ?? new Decompressor(FRAMES_TO_A_CHUNK * this.#mostBytes, this.#mostBytes);
    const raw = await context.decompress(packed);
    if (raw && isRight(raw)) {
      this.#idle.push(context);
      return raw;
    }
    context.end();
    try {
      const again = await decompressOnce(packed, { maxOutputLength: this.#mostBytes });
      return isRight(again) ? again : undefined;
    } catch {
      // zstd refuses what is not its own: damage, like a wrong hash.
      return undefined;
    }
  }
}

/** Memory for so many frames is made at a time. */
const FRAMES_TO_A_CHUNK = 8;
