/**
 * What a mongod believes that its capped collections hold.
 *
 * Number and bytes of a collection's documents are kept beside it and reach the disk with a checkpoint only: after a kill
 * they are those of the checkpoint, while the journal brings the documents back. A capped collection is trimmed by them, on
 * what is restored from a head, and on a head itself where no entry says what is lost (trims.ts), so that one that was
 * killed would lose more than its source, or less (4.4.2, 5.0.32, 6.0.5, 6.0.27: a collection with `max: 100` and 82
 * documents believed in 100, and lost one for each that came). `validate` counts anew.
 */
import { Long } from 'mongodb';
import type { OpenHead } from './open-head.ts';
import { replyValues, succeeded, type HeadSocket } from './socket.ts';

/** Lets the head count its capped collections. Reads all of each. */
export async function countCappedCollections(head: OpenHead): Promise<void> {
  const databases = new Set([...head.catalog.collections].map(({ db }) => db));
  for (const db of databases) {
    for (const name of await cappedCollections(head.socket, db)) {
      succeeded(await head.socket.command(db, { validate: name }), `counting ${db}.${name}`);
    }
  }
}

async function cappedCollections(socket: HeadSocket, db: string): Promise<string[]> {
  const what = `listing the capped collections of ${db}`;
  const filter = { 'options.capped': true };
  const names: string[] = [];
  let reply = await socket.command(db, { listCollections: 1, filter, cursor: { batchSize: 5_000 } });
  for (;;) {
    const { cursor } = replyValues(succeeded(reply, what)) as {
      cursor: { id: Long | number; firstBatch?: { name: string }[]; nextBatch?: { name: string }[] };
    };
    names.push(...(cursor.firstBatch ?? cursor.nextBatch ?? []).map(({ name }) => name));
    if (Number(cursor.id) === 0) return names;
    const more = { getMore: Long.fromValue(cursor.id), collection: '$cmd.listCollections', batchSize: 5_000 };
    reply = await socket.command(db, more);
  }
}
