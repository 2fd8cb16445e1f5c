/**
 * Comparing the documents of two cursors, byte for byte, in one pass.
 *
 * While both give the same bytes in the same order nothing is kept. From the first difference on, a document that has
 * no counterpart yet is remembered by the hash of its `_id` and of its bytes until the counterpart comes; as both sides
 * come in one order, what is remembered is as much as what differs.
 */
import { idBytes, idText, sha256 } from './elements.ts';
import type { RawCursor } from './raw-cursor.ts';

export interface DocumentsCompared {
  readonly documents: number;
  readonly bytes: number;
  readonly missing: Found;
  readonly extra: Found;
  readonly different: Found;
  /** What both sides hold does not come in the same order. */
  readonly reordered: boolean;
  /** With `growing`: the `_id`s, canonical extended JSON, of what only the source has; nothing is `missing` then. */
  readonly onlyInSource: readonly string[];
  /** Set when too much differed to be held in memory: the counts are then lower bounds, and missing and extra unknown. */
  readonly gaveUp: boolean;
}

export interface Found {
  readonly count: number;
  readonly ids: readonly string[];
}

/** Documents without a counterpart that are held before the comparison gives up: some 50 MB. */
const MAX_WAITING = 200_000;

interface Waiting {
  readonly hash: string;
  readonly id: string | undefined;
  /** How many documents its side gave before it. */
  readonly at: number;
}

/** Documents of one side that wait for their counterpart, by `_id`; an `_id` may wait twice where nothing forbids it. */
class WaitingRoom {
  readonly #byId = new Map<string, Waiting[]>();
  size = 0;

  add(key: string, waiting: Waiting): void {
    const others = this.#byId.get(key);
    if (others) others.push(waiting);
    else this.#byId.set(key, [waiting]);
    this.size++;
  }

  /** Takes out a document of that `_id`, one with the same bytes if there is one. */
  take(key: string, hash: string): Waiting | undefined {
    const candidates = this.#byId.get(key);
    if (!candidates) return undefined;
    const same = candidates.findIndex((candidate) => candidate.hash === hash);
    const [taken] = candidates.splice(Math.max(0, same), 1);
    if (candidates.length === 0) this.#byId.delete(key);
    this.size--;
    return taken;
  }

  ids(): string[] {
    return [...this.#byId.values()].flat().flatMap(({ id }) => id ?? []);
  }

  found(maxIds: number): Found {
    return { count: this.size, ids: this.ids().slice(0, maxIds) };
  }
}

export interface CompareOptions {
  /** How many `_id`s to tell of each kind of difference; 0 tells none. */
  readonly maxIds: number;
  /**
   * Set where documents may have been added to the source since, in any place: an insert has its optime before its place, so
   * that of two that are under way at once the later may come first.
   */
  readonly growing?: boolean;
}

export async function compareDocuments(
  source: RawCursor,
  copy: RawCursor,
  { maxIds, growing = false }: CompareOptions,
): Promise<DocumentsCompared> {
  const onlySource = new WaitingRoom();
  const onlyCopy = new WaitingRoom();
  const differentIds: string[] = [];
  let [documents, bytes, different, reordered, gaveUp] = [0, 0, 0, false, false];
  // Where the pair stands that was found last. Pairs that come in one order are found in that order.
  let last = { source: -1, copy: -1 };

  const meet = (document: Buffer, side: 'source' | 'copy', at: number): void => {
    const [own, others] = side === 'source' ? [onlySource, onlyCopy] : [onlyCopy, onlySource];
    const id = idBytes(document);
    const hash = sha256(document);
    const key = id ? (id.length <= 64 ? id.toString('latin1') : `#${sha256(id)}`) : `-${hash}`;
    const counterpart = others.take(key, hash);
    if (!counterpart) {
      const isTold = maxIds > 0 || growing;
      own.add(key, { hash, id: isTold ? (id ? idText(id) : 'no _id') : undefined, at });
      return;
    }
    const pair = side === 'source' ? { source: at, copy: counterpart.at } : { source: counterpart.at, copy: at };
    reordered ||= pair.source < last.source || pair.copy < last.copy;
    last = pair;
    if (counterpart.hash !== hash) {
      different++;
      if (id && differentIds.length < maxIds) differentIds.push(idText(id));
    }
  };

  for (let at = 0; ; at += 1) {
    const a = source.take() ?? ((await source.fill()) ? source.take() : undefined);
    const b = copy.take() ?? ((await copy.fill()) ? copy.take() : undefined);
    if (!a && !b) break;
    if (a) {
      documents++;
      bytes += a.length;
    }
    if (onlySource.size === 0 && onlyCopy.size === 0 && a && b && a.equals(b)) {
      last = { source: at, copy: at };
      continue;
    }
    if (a) meet(a, 'source', at);
    if (b) meet(b, 'copy', at);
    // What a growing source has behind the end of the copy may be any number, and is no difference yet.
    const isBounded = !growing || b !== undefined;
    if (isBounded && onlySource.size + onlyCopy.size > MAX_WAITING) {
      gaveUp = true;
      break;
    }
  }
  return {
    documents,
    bytes,
    missing: growing && !gaveUp ? NOTHING : onlySource.found(maxIds),
    extra: onlyCopy.found(maxIds),
    different: { count: different, ids: differentIds },
    reordered,
    onlyInSource: growing && !gaveUp ? onlySource.ids() : [],
    gaveUp,
  };
}

const NOTHING: Found = { count: 0, ids: [] };
