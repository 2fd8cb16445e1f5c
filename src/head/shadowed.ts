/**
 * A collection beside the buckets of a time series of the same name. A source can have both: one is made by itself while
 * the other is created, or the buckets are created by their own name (tried on 5.0.32, 6.0.5, 6.0.27). From then on what names the
 * collection is done to the buckets, whether a client says it, or the head does what an entry says: its indexes would not be
 * the source's.
 */
import { LifeboatError } from '../shared/errors.ts';
import { namespaceOf, type HeadCatalog, type HeadCollection } from './catalog.ts';

/** What the collection is called that holds the documents of a time series, before the name of that. */
export const BUCKETS = 'system.buckets.';

interface HeadNames {
  readonly catalog: HeadCatalog;
  /** `<deployment>/<member>` */
  readonly label: string;
}

/** @throws LifeboatError `ShadowedCollection` when one of the two is there, and the other as well */
export function refuseShadow({ catalog, label }: HeadNames, { db, name }: Pick<HeadCollection, 'db' | 'name'>): void {
  const plain = name.startsWith(BUCKETS) ? name.slice(BUCKETS.length) : name;
  const [collection, buckets] = [catalog.named(`${db}.${plain}`), catalog.named(`${db}.${BUCKETS}${plain}`)];
  if (!collection || !buckets) return;
  const what = `${namespaceOf(collection)} is a collection, and ${namespaceOf(buckets)} holds a time series of that name`;
  throw new LifeboatError('ShadowedCollection', `${label}: ${what}`);
}

/** @throws LifeboatError `ShadowedCollection` when there are two such on the head */
export function refuseShadows(head: HeadNames): void {
  for (const collection of head.catalog.collections) {
    if (collection.name.startsWith(BUCKETS)) refuseShadow(head, collection);
  }
}
