/**
 * What of a source belongs to a backup. Pure; the one place that says it (design, "The one invariant").
 *
 * The server keeps some collections for itself: each member makes its own, or they mean nothing on another set. Of a few
 * of those the collection must still be there with the source's UUID, or mongod's own replay of entries ends with a
 * fatal error (research, mongodb-internals §5).
 */

import type { NamespaceFilter } from './filter.ts';

/**
 * `copy`: collection and documents belong to the backup.
 * `rebuild`: the collection does; its documents cannot be read and are made from the listed views (`system.views`).
 * `empty`: the collection is made with its UUID and stays without documents: entries that write some are not applied.
 * `skip`: nothing of it is in the backup, no entry of it is applied.
 */
export type NamespaceRule = 'copy' | 'rebuild' | 'empty' | 'skip';

const EMPTY_CONFIG = new Set([
  'transactions',
  'image_collection',
  'system.indexBuilds',
  // Change stream pre-images: written by each member itself, never through the oplog.
  'system.preimages',
]);

/**
 * The rule for a collection. For a view or a time-series collection ask for the collection behind it.
 * @param filter what its deployment leaves out
 */
export function namespaceRule(db: string, collection: string, filter: NamespaceFilter): NamespaceRule {
  if (db === 'local' || filter.leavesOut(db, collection)) return 'skip';
  if (db === 'config') return configRule(collection);
  if (db === 'admin' && collection === 'system.keys') return 'skip';
  if (collection === 'system.profile') return 'skip';
  return collection === 'system.views' ? 'rebuild' : 'copy';
}

function configRule(collection: string): NamespaceRule {
  if (EMPTY_CONFIG.has(collection)) return 'empty';
  if (collection === 'system.sessions' || collection.startsWith('cache.')) return 'skip';
  return collection === 'system.views' ? 'rebuild' : 'copy';
}

/** Splits `db.collection` at the first dot; a collection's name may hold more of them. */
export function splitNamespace(ns: string): { readonly db: string; readonly collection: string } {
  const dot = ns.indexOf('.');
  return dot < 0 ? { db: ns, collection: '' } : { db: ns.slice(0, dot), collection: ns.slice(dot + 1) };
}
