/** zstd contexts that make one frame after the other. */
import { constants, createZstdCompress } from 'node:zlib';

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

/**
 * As many compressors as work at the same time, each used again unless its work failed. There is no such thing for the
 * other way: bytes that a damaged frame has behind its end come out of a context with the next one.
 */
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
