/**
 * Which collection of the head has which UUID. Entries name collections by UUID; names change, and while an initial
 * sync is replayed a collection may carry a name of the future.
 */
import { Long, type Binary, type Document } from 'mongodb';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';

export interface HeadCollection {
  /** Hex. */
  readonly uuid: string;
  readonly db: string;
  readonly name: string;
  readonly capped?: boolean;
}

/** `db.collection` */
export function namespaceOf({ db, name }: HeadCollection): string {
  return `${db}.${name}`;
}

export class HeadCatalog {
  readonly #byUuid = new Map<string, HeadCollection>();
  readonly #byName = new Map<string, HeadCollection>();

  /** Reads the catalog of a head. */
  static async read(socket: HeadSocket): Promise<HeadCatalog> {
    const catalog = new HeadCatalog();
    const reply = await socket.command('admin', { listDatabases: 1, nameOnly: true });
    const { databases } = replyValues(succeeded(reply, 'listing its databases')) as { databases: { name: string }[] };
    for (const { name } of databases) if (name !== 'local') await catalog.readDatabase(socket, name);
    return catalog;
  }

  get collections(): Iterable<HeadCollection> {
    return this.#byUuid.values();
  }

  get(uuid: string): HeadCollection | undefined {
    return this.#byUuid.get(uuid);
  }

  /** The collection of that name, if there is one; not a view. */
  named(ns: string): HeadCollection | undefined {
    return this.#byName.get(ns);
  }

  set(collection: HeadCollection): void {
    this.delete(collection.uuid);
    this.#byUuid.set(collection.uuid, collection);
    this.#byName.set(namespaceOf(collection), collection);
  }

  delete(uuid: string): void {
    const known = this.#byUuid.get(uuid);
    if (!known) return;
    this.#byUuid.delete(uuid);
    if (this.#byName.get(namespaceOf(known)) === known) this.#byName.delete(namespaceOf(known));
  }

  /** Forgets a database. */
  deleteDatabase(db: string): void {
    for (const collection of [...this.#byUuid.values()]) if (collection.db === db) this.delete(collection.uuid);
  }

  /** Reads one database anew: after operations that may have renamed a collection out of the way. */
  async readDatabase(socket: HeadSocket, db: string): Promise<void> {
    this.deleteDatabase(db);
    for (const info of await listCollections(socket, db)) {
      const uuid = uuidOf(info);
      if (uuid !== undefined) this.set({ uuid, db, name: String(info['name']), capped: isCapped(info) });
    }
  }
}

function isCapped(info: Document): boolean {
  return (info['options'] as Document | undefined)?.['capped'] === true;
}

/** UUID in hex of what one entry of `listCollections` is about; a view has none. */
function uuidOf(info: Document): string | undefined {
  const uuid = (info['info'] as { uuid?: Binary } | undefined)?.uuid;
  return uuid && Buffer.from(uuid.buffer).toString('hex');
}

/** The entries of `listCollections` as values: they hold names and options, no documents. */
async function listCollections(socket: HeadSocket, db: string, filter: Document = {}): Promise<Document[]> {
  const what = `listing the collections of ${db}`;
  const infos: Document[] = [];
  let reply = await socket.command(db, { listCollections: 1, filter, cursor: { batchSize: 5_000 } });
  for (;;) {
    const { cursor } = replyValues(succeeded(reply, what)) as {
      cursor: { id: Long | number; firstBatch?: Document[]; nextBatch?: Document[] };
    };
    infos.push(...(cursor.firstBatch ?? cursor.nextBatch ?? []));
    if (Number(cursor.id) === 0) return infos;
    const more = { getMore: Long.fromValue(cursor.id), collection: '$cmd.listCollections', batchSize: 5_000 };
    reply = await socket.command(db, more);
  }
}

/** The collection that carries a name, asked of the head itself; undefined for a view or nothing. */
export async function collectionNamed(
  socket: HeadSocket,
  db: string,
  name: string,
): Promise<HeadCollection | undefined> {
  const [info] = await listCollections(socket, db, { name });
  const uuid = info && uuidOf(info);
  return info && uuid !== undefined ? { uuid, db, name, capped: isCapped(info) } : undefined;
}
