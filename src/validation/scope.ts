/** Which collections of a head can be compared with the source, and why some cannot. */
import { EVERYTHING } from '../source/filter.ts';
import { namespaceRule } from '../source/namespaces.ts';
import type { Definition } from './catalog.ts';

/** A collection of the head whose documents belong to the backup. */
export interface CollectionToCompare {
  /** Hex. */
  readonly uuid: string;
  readonly db: string;
  readonly name: string;
  /** Why its documents cannot be compared; null when they can. */
  readonly notCompared: string | null;
}

/** None for what is no collection, or whose documents a head does not hold. */
export function toCompare({ db, name, uuid, options }: Definition): CollectionToCompare[] {
  if (uuid === undefined || namespaceRule(db, name, EVERYTHING) !== 'copy') return [];
  const notCompared = options.has('capped') ? 'it is capped: no server tells what a capped collection held' : null;
  return [{ uuid, db, name, notCompared }];
}
