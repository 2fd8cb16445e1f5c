/** The chain of a collection's slices. Pure. */
import type { Binary } from 'mongodb';
import { LifeboatError } from '../shared/errors.ts';
import type { ReadFrom, SliceRecord } from '../stores/records.ts';

/** A slice without its bytes. */
export interface SliceHeader {
  readonly id: SliceRecord['_id'];
  readonly after: Binary | null;
  readonly token: Binary | null;
  readonly readFrom: ReadFrom;
  readonly documents: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
}

/** The slices that together hold a collection, in the order to load them. */
export interface Chain {
  readonly slices: readonly SliceHeader[];
  /** True when the last slice reached the end of the collection. */
  readonly complete: boolean;
  /** The number that the next slice gets, over all that were ever stored. */
  readonly nextSeq: number;
}

/**
 * The loadable chain among all slices of a collection: from the newest one that begins the collection to the end.
 * Slices before that belong to a reading that was given up. A slice may go back behind slices before it (their token
 * was gone): then both hold some documents, and the later slice has the newer ones.
 * @param headers all of them, by `seq`
 * @throws LifeboatError `SliceMissing` when a number is left out or a slice follows a token that no slice has
 */
export function chainOf(headers: readonly SliceHeader[]): Chain {
  const begin = headers.findLastIndex(({ after }) => after === null);
  if (headers.some(({ id }, index) => id.seq !== index) || (headers.length > 0 && begin < 0)) throw broken();
  const slices = headers.slice(Math.max(0, begin));
  const tokens = new Set<string>();
  for (const { after, token } of slices) {
    if (after !== null && !tokens.has(keyOf(after))) throw broken();
    if (token !== null) tokens.add(keyOf(token));
  }
  const last = slices.at(-1);
  return { slices, complete: last !== undefined && last.token === null, nextSeq: headers.length };
}

/**
 * Tokens after which reading can go on, best first, ending with null, the start of the collection. A token is gone when
 * its record was deleted; going back in growing strides finds one that is not, in few tries.
 * @param usable whether tokens of that reader mean something to who reads now
 */
export function resumePoints({ slices }: Chain, usable: (readFrom: ReadFrom) => boolean): (Binary | null)[] {
  const tokens = slices.flatMap(({ token, readFrom }) => (token !== null && usable(readFrom) ? [token] : []));
  const points: (Binary | null)[] = [];
  for (let stride = 1; stride <= tokens.length; stride *= 2) points.push(tokens.at(-stride) ?? null);
  return [...points, null];
}

function keyOf(token: Binary): string {
  return token.toString('base64');
}

function broken(): LifeboatError {
  return new LifeboatError('SliceMissing', 'the chain of slices of a collection is broken');
}
