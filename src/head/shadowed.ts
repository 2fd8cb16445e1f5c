/**
 * A collection beside the buckets of a time series of its name. A source can have both: one is made by itself while the
 * other is created, or the time series is made by half (tried on 5.0.32, 6.0.5, 6.0.27). From then on a command that names the
 * collection and is about documents to insert, indexes or options is done to the buckets, on the source and on a head alike. Documents go by
 * UUID; what an entry says of the indexes of such a collection cannot be done to a head.
 */
import { LifeboatError } from '../shared/errors.ts';
import { BUCKETS } from '../source/filter.ts';
import { namespaceOf, type HeadCatalog, type HeadCollection } from './catalog.ts';

interface HeadNames {
  readonly catalog: HeadCatalog;
}

/** Whether what names the collection would be done to buckets of its name. */
export function isShadowed(head: HeadNames, collection: HeadCollection): boolean {
  return shadowOf(head, collection) !== undefined;
}

function shadowOf({ catalog }: HeadNames, { db, name }: HeadCollection): HeadCollection | undefined {
  return catalog.named(`${db}.${BUCKETS}${name}`);
}

/** @throws LifeboatError `ShadowedCollection` when the buckets of a time series have the collection's name */
export function refuseShadowed(head: HeadNames, collection: HeadCollection): void {
  const buckets = shadowOf(head, collection);
  if (!buckets) return;
  const what = `${namespaceOf(collection)} is a collection, and ${namespaceOf(buckets)} holds a time series of that name`;
  throw new LifeboatError('ShadowedCollection', what);
}
