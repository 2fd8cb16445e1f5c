/**
 * Views. `system.views` cannot be read on a source, not even by root, so its documents are made again from what
 * `listCollections` says of each view; `insert` is refused there too, `applyOps` is not (research, mongodb-internals §1).
 */
import { BsonType, elementName, elements, findElement, valueBytes } from '../bson/raw.ts';
import { LifeboatError } from '../shared/errors.ts';
import { document, elementBytes, stringElement } from './bytes.ts';
import { loadDocuments } from './load.ts';
import type { OpenHead } from './open-head.ts';
import { dropScratch, scratchDatabase } from './scratch.ts';
import { succeeded } from './socket.ts';

/** A view of the source: name and raw `options` of its listing. */
export interface ViewToMake {
  readonly db: string;
  readonly name: string;
  readonly type: 'view' | 'timeseries';
  readonly options: Buffer;
}

/** Makes views; those that are there are made again. The databases' `system.views` must be there. */
export async function makeViews(head: OpenHead, views: readonly ViewToMake[]): Promise<void> {
  for (const view of views) {
    const target = head.catalog.named(`${view.db}.system.views`);
    if (!target) throw new LifeboatError('Internal', `database ${view.db} has views, but no system.views`);
    await loadDocuments({ head, socket: head.socket }, target, await viewDocument(head, view));
  }
}

async function viewDocument(head: OpenHead, { db, name, type, options }: ViewToMake): Promise<Buffer> {
  const definition = type === 'view' ? options : await timeseriesDefinition(head, name, options);
  const fields = new Map([...elements(definition)].map((one) => [elementName(definition, one), one]));
  const kept = ['viewOn', 'pipeline', 'collation'].flatMap((field) => {
    const found = fields.get(field);
    return found ? [elementBytes(definition, found)] : [];
  });
  return document(stringElement('_id', `${db}.${name}`), ...kept);
}

/**
 * The document of the view in front of a time-series collection. Its pipeline is the server's own business: a collection
 * with the same options is made in a scratch database, and the document read there.
 */
async function timeseriesDefinition(head: OpenHead, name: string, options: Buffer): Promise<Buffer> {
  const { socket } = head;
  const scratch = scratchDatabase(head);
  const what = `making the view of the time-series collection ${name}`;
  // An attempt that died may have left it.
  await dropScratch(head);
  const created = [...elements(options)].map((one) => elementBytes(options, one));
  succeeded(await socket.raw(scratch, document(stringElement('create', name), ...created)), what);
  const { body } = succeeded(await socket.command(scratch, { find: 'system.views' }), what);
  const cursor = findElement(body, 'cursor');
  const batch = cursor && findElement(body, 'firstBatch', cursor.valueStart);
  const [found] = batch ? [...elements(body, batch.valueStart)] : [];
  if (found?.type !== BsonType.object) throw new LifeboatError('Internal', what);
  const bytes = Buffer.from(valueBytes(body, found));
  await dropScratch(head);
  return bytes;
}
