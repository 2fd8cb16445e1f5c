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
  /** Both sides hold the same documents, but not in the same order. */
  readonly reordered: boolean;
  /** With `growing`: the `_id`s, canonical extended JSON, of what the source has behind the end of the copy. */
  readonly behind: readonly string[];
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

  found(maxIds: number): Found {
    const ids = [...this.#byId.values()].flat().flatMap(({ id }) => id ?? []);
    return { count: this.size, ids: ids.slice(0, maxIds) };
  }
}

export interface CompareOptions {
  /** How many `_id`s to tell of each kind of difference; 0 tells none. */
  readonly maxIds: number;
  /** Set where documents may have been added to the source since: what it has behind the end of the copy is set apart. */
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
  const behind: string[] = [];
  let [documents, bytes, different, outOfStep, gaveUp] = [0, 0, 0, false, false];

  const meet = (document: Buffer, own: WaitingRoom, others: WaitingRoom, isBehind = false): void => {
    const id = idBytes(document);
    const hash = sha256(document);
    const key = id ? (id.length <= 64 ? id.toString('latin1') : `#${sha256(id)}`) : `-${hash}`;
    const counterpart = others.take(key, hash);
    if (!counterpart && isBehind) {
      behind.push(id ? idText(id) : 'no _id');
    } else if (!counterpart) {
      own.add(key, { hash, id: maxIds > 0 ? (id ? idText(id) : 'no _id') : undefined });
    } else if (counterpart.hash !== hash) {
      different++;
      if (id && differentIds.length < maxIds) differentIds.push(idText(id));
    }
  };

  for (;;) {
    const a = source.take() ?? ((await source.fill()) ? source.take() : undefined);
    const b = copy.take() ?? ((await copy.fill()) ? copy.take() : undefined);
    if (!a && !b) break;
    if (a) {
      documents++;
      bytes += a.length;
    }
    const inStep = onlySource.size === 0 && onlyCopy.size === 0;
    if (inStep && a && b && a.equals(b)) continue;
    outOfStep ||= !(growing && inStep && a && !b);
    if (a) meet(a, onlySource, onlyCopy, growing && !b);
    if (b) meet(b, onlyCopy, onlySource);
    if (onlySource.size + onlyCopy.size > MAX_WAITING) {
      gaveUp = true;
      break;
    }
  }
  const missing = onlySource.found(maxIds);
  const extra = onlyCopy.found(maxIds);
  const reordered = outOfStep && missing.count + extra.count + different === 0;
  return {
    documents,
    bytes,
    missing,
    extra,
    different: { count: different, ids: differentIds },
    reordered,
    behind,
    gaveUp,
  };
}
