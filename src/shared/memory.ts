/**
 * Giving back the memory of large buffers at once.
 *
 * V8 collects garbage whenever 64 MB were allocated outside its heap (v8, heap.cc: external memory limit), and marks all of
 * its heap each time. What passes megabytes on and leaves them to the collector has the processor collect more than work:
 * it took two thirds of an initial sync's time (docs/performance.md).
 */

/** Not larger memory is little to win, and may be of the pool that others have a part of. */
const SMALL_BYTES = Math.max(64 * 1024, Buffer.poolSize);

/**
 * Frees the memory that a buffer is in, all of it, whoever else has a view of it: only for its one owner, when nobody uses
 * it any more, not even a thread that compresses it. Afterwards the buffer is empty. Small buffers stay as they are.
 */
export function release(bytes: Uint8Array): void {
  const memory = bytes.buffer;
  if (memory instanceof ArrayBuffer && memory.byteLength > SMALL_BYTES) memory.transfer(0);
}
