/**
 * CRC-64 as Go's `hash/crc64` computes it with its table `ECMA`: the polynomial of ECMA-182 with its bits reversed, all
 * ones before and after (elsewhere called CRC-64/XZ; that of "123456789" is 0x995dc9bbdf1939fa). An archive of `mongodump`
 * has one behind each collection.
 *
 * Numbers of 64 bits are two halves of 32 here, for a BigInt would be made anew for each byte. Eight bytes are taken at
 * once: table n says what a byte does to the checksum that n others follow (Kounavis and Berry, "A Systematic Approach to
 * Building High Performance Software-Based CRC Generators", 2005). Sixteen at once were no faster.
 */

/** The polynomial, 0xc96c5795d7870f42, in halves. */
const POLYNOMIAL_LOW = 0xd7870f42;
const POLYNOMIAL_HIGH = 0xc96c5795;

/** How many bytes are taken at once. */
const STEP = 8;

/** The tables, one behind the other; of each of their 256 entries the low half, then the high one. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(STEP * 512);
  for (let byte = 0; byte < 256; byte += 1) {
    let low = byte;
    let high = 0;
    for (let bit = 0; bit < 8; bit += 1) {
      const isOdd = (low & 1) === 1;
      low = (low >>> 1) | (high << 31);
      high >>>= 1;
      if (isOdd) {
        low ^= POLYNOMIAL_LOW;
        high ^= POLYNOMIAL_HIGH;
      }
    }
    tables[place(0, byte)] = low;
    tables[place(0, byte) + 1] = high;
  }
  for (let at = place(1, 0); at < tables.length; at += 2) {
    const low = half(tables, at - place(1, 0));
    const high = half(tables, at - place(1, 0) + 1);
    const first = place(0, low);
    tables[at] = (low >>> 8) ^ (high << 24) ^ half(tables, first);
    tables[at + 1] = (high >>> 8) ^ half(tables, first + 1);
  }
  return tables;
}

/** Where table `n` has its entry for the lowest byte of `word`. */
function place(n: number, word: number): number {
  return (n << 9) | ((word & 0xff) << 1);
}

function half(tables: Int32Array, at: number): number {
  // What the compiler cannot know: there is something there. A default instead of the cast would take time.
  return tables[at] as number;
}

/** The checksum of bytes that come in pieces. */
export class Crc64 {
  #low = -1;
  #high = -1;

  update(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const tables = TABLES;
    let low = this.#low;
    let high = this.#high;
    let at = 0;
    for (const last = bytes.length - STEP; at <= last; at += STEP) {
      low ^= view.getInt32(at, true);
      high ^= view.getInt32(at + 4, true);
      const a = place(7, low);
      const b = place(6, low >>> 8);
      const c = place(5, low >>> 16);
      const d = place(4, low >>> 24);
      const e = place(3, high);
      const f = place(2, high >>> 8);
      const g = place(1, high >>> 16);
      const h = place(0, high >>> 24);
      low =
        half(tables, a) ^
        half(tables, b) ^
        half(tables, c) ^
        half(tables, d) ^
        half(tables, e) ^
        half(tables, f) ^
        half(tables, g) ^
        half(tables, h);
      high =
        half(tables, a + 1) ^
        half(tables, b + 1) ^
        half(tables, c + 1) ^
        half(tables, d + 1) ^
        half(tables, e + 1) ^
        half(tables, f + 1) ^
        half(tables, g + 1) ^
        half(tables, h + 1);
    }
    for (; at < bytes.length; at += 1) {
      const first = place(0, low ^ view.getUint8(at));
      low = (low >>> 8) ^ (high << 24) ^ half(tables, first);
      high = (high >>> 8) ^ half(tables, first + 1);
    }
    this.#low = low;
    this.#high = high;
  }

  /** The checksum of all bytes so far: 0 ≤ value < 2⁶⁴. */
  value(): bigint {
    return (BigInt(~this.#high >>> 0) << 32n) | BigInt(~this.#low >>> 0);
  }
}
