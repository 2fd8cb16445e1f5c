/** How much of a database its deployment leaves out. */
import type { Db, ReadPreference } from 'mongodb';
import type { NamespaceFilter } from './filter.ts';

export interface LeftOut {
  readonly collections: number;
  readonly indexes: number;
  /** Of documents, and of the files of collections and indexes. */
  readonly dataBytes: number;
  readonly fileBytes: number;
}

/** @throws the driver's errors */
export async function leftOutOf(
  db: Db,
  filter: NamespaceFilter,
  options: { readonly signal: AbortSignal; readonly readPreference?: ReadPreference },
): Promise<LeftOut> {
  const sum = { collections: 0, indexes: 0, dataBytes: 0, fileBytes: 0 };
  if (filter.patterns.length === 0) return sum;
  const names = await db.listCollections({ type: 'collection' }, { nameOnly: true, ...options }).toArray();
  for (const { name } of names) {
    if (!filter.leavesOut(db.databaseName, name)) continue;
    // Of one that was dropped meanwhile every number is 0.
    const stats = await db.command({ collStats: name }, options);
    sum.collections += 1;
    sum.indexes += Number(stats['nindexes']);
    sum.dataBytes += Number(stats['size']);
    sum.fileBytes += Number(stats['storageSize']) + Number(stats['totalIndexSize']);
  }
  return sum;
}
