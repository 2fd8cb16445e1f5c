/**
 * Indexes that a source can hold although its own version would not make them: servers kept what older ones took, such as
 * `{safe: true}`, `key: {a: true}` or `expireAfterSeconds: '3600'`, and neither `createIndexes` nor `applyOps` makes such
 * a spec (6.0.5: InvalidIndexSpecificationOption, CannotCreateIndex). One in a form of today would not be the source's.
 */
import { BsonType, elementName, elements, findElement } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { document, documentArray, element, stringElement } from './bytes.ts';
import { namespaceOf } from './catalog.ts';
import { buildable, indexName, isSecondary } from './indexes.ts';
import type { CollectionToMake } from './load.ts';
import type { OpenHead } from './open-head.ts';
import { refuseUnlessOfTheData } from './replies.ts';
import { dropScratch, scratchDatabase } from './scratch.ts';

/** What servers of today write into a spec (index_key_validate.cpp, allowedFieldNames). */
const OF_TODAY = new Set([
  ...['v', 'key', 'name', 'ns', 'unique', 'sparse', 'hidden', 'prepareUnique', 'partialFilterExpression', 'collation'],
  ...['expireAfterSeconds', 'storageEngine', 'wildcardProjection', 'background', 'originalSpec', 'clustered'],
  ...['weights', 'default_language', 'language_override', 'textIndexVersion', '2dsphereIndexVersion'],
  ...['bits', 'min', 'max', 'bucketSize', 'coarsestIndexedLevel', 'finestIndexedLevel'],
]);
const NUMBERS: ReadonlySet<number> = new Set([BsonType.double, BsonType.int32, BsonType.int64]);

/** Whether a server of today may refuse the spec; the others are not worth a question. */
function isOdd(spec: Buffer): boolean {
  for (const one of elements(spec)) {
    const name = elementName(spec, one);
    if (!OF_TODAY.has(name)) return true;
    if (name === 'expireAfterSeconds' && !NUMBERS.has(one.type)) return true;
  }
  const key = findElement(spec, 'key');
  if (!key) return true;
  return [...elements(spec, key.valueStart)].some(({ type }) => !NUMBERS.has(type) && type !== BsonType.string);
}

/**
 * Tries the odd ones out on an empty collection, so that one that cannot be made is told before the copying and not
 * after it.
 * @throws LifeboatError `IndexFormRefused`, naming collection and index
 */
export async function refuseOddIndexes(head: OpenHead, collections: readonly CollectionToMake[]): Promise<void> {
  const scratch = scratchDatabase(head);
  let tried = false;
  for (const collection of collections) {
    for (const spec of collection.indexes.filter((one) => isSecondary(one) && isOdd(one))) {
      const what = `${namespaceOf(collection)}: index "${indexName(spec)}"`;
      const reply = await head.socket.raw(
        scratch,
        document(
          stringElement('createIndexes', 'odd'),
          element(BsonType.array, 'indexes', documentArray([buildable(spec)])),
        ),
      );
      tried = true;
      if (reply.ok) continue;
      refuseUnlessOfTheData(reply, what);
      await dropScratch(head);
      throw new LifeboatError('IndexFormRefused', `${what}: a server answers ${reply.code} ${reply.codeName}`);
    }
    if (!tried) continue;
    // The next collection may have an index of that name.
    await dropScratch(head);
    tried = false;
  }
}
