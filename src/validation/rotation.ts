/**
 * Which part of a head's documents is the next to be compared with the source, so that a fixed number of snapshots
 * covers the whole. Pure.
 *
 * A round goes through all collections in the order of their UUIDs, and through each by `_id`. One bound says how far it
 * is: what is dropped leaves the round by itself, and what is made behind the bound comes into it. What is made before the
 * bound is the next round's.
 */

/** The first range that is not compared yet. */
export interface Place {
  /** Hex. Of a collection that is gone, the next one is meant. */
  readonly uuid: string;
  /** Where in it, raw BSON `{_id}`; null: at its begin. */
  readonly from: Buffer | null;
}

/** How far the rounds are. */
export interface Rotation {
  /** Counts from 1. */
  readonly round: number;
  /** How many snapshots this round has had, whether or not they compared anything. */
  readonly snapshots: number;
  /** Null: at its begin. */
  readonly at: Place | null;
  /** What this round has compared. */
  readonly bytes: number;
  /** How many snapshots in a row had no time for a single range at `at`. */
  readonly tries: number;
}

export const FIRST_ROUND: Rotation = { round: 1, snapshots: 0, at: null, bytes: 0, tries: 0 };

/** After so many snapshots without time for one range, its collection is left out of the round, and said to be. */
export const MOST_TRIES = 3;

/** What a round is to keep to. */
export interface RoundPlan {
  /** How many snapshots a round may take. */
  readonly within: number;
  /** What every snapshot compares at least, in bytes: small heads are compared as a whole each time. */
  readonly leastBytes: number;
}

/**
 * How many bytes the next snapshot has to compare for the round to keep to its plan; Infinity for all that is left, which
 * the last one takes. Sizes are estimates, and earlier snapshots may have compared less than their part.
 * @param totalBytes all documents of the head, about
 */
export function dueBytes(
  { snapshots, bytes }: Rotation,
  totalBytes: number,
  { within, leastBytes }: RoundPlan,
): number {
  if (snapshots + 1 >= within) return Infinity;
  const due = (totalBytes * (snapshots + 1)) / within - bytes;
  return Math.max(leastBytes, Math.ceil(due));
}

/** The collection that a place is in and where in it, or undefined when the round is at its end. */
export function placeIn<T extends { readonly uuid: string }>(
  collections: readonly T[],
  at: Place | null,
): { readonly collection: T; readonly from: Buffer | null } | undefined {
  const sorted = inOrder(collections);
  const collection = at === null ? sorted[0] : sorted.find(({ uuid }) => uuid >= at.uuid);
  return collection && { collection, from: collection.uuid === at?.uuid ? at.from : null };
}

/** The place behind all of a collection; null when there is none. */
export function placeBehind(collections: readonly { readonly uuid: string }[], uuid: string): Place | null {
  const next = inOrder(collections).find((one) => one.uuid > uuid);
  return next ? { uuid: next.uuid, from: null } : null;
}

function inOrder<T extends { readonly uuid: string }>(collections: readonly T[]): readonly T[] {
  return collections.toSorted((a, b) => (a.uuid < b.uuid ? -1 : a.uuid > b.uuid ? 1 : 0));
}
