/** A head fed straight from the oplog of a replica set: what tests of the head alone need. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MongoClient, ObjectId, type Long, type Timestamp } from 'mongodb';
import { pino } from 'pino';
import { findBinary } from '../../src/embedded/binaries.ts';
import { HeadOwner, type HeadAttempt, type HeadOptions } from '../../src/head/owner.ts';
import type { HeadIdentity } from '../../src/head/types.ts';
import { fromTimestamp, toTimestamp } from '../../src/mongo/positions.ts';
import { mongodOn } from '../../src/mongod/process.ts';
import { proveEqual, type EqualityReport } from '../../src/proof/equality.ts';
import { isLifeboatError } from '../../src/shared/errors.ts';
import type { Position } from '../../src/shared/optime.ts';

/** A new identity of the member `m`. */
export function headIdentity(changes: Partial<HeadIdentity> = {}): HeadIdentity {
  const replicaSetId = 'a'.repeat(24);
  return { deployment: 'shop', member: 'm', incarnation: new ObjectId().toHexString(), replicaSetId, ...changes };
}

export async function openHead(
  dataDir: string,
  identity: HeadIdentity,
  options: Partial<HeadOptions> = {},
): Promise<HeadOwner> {
  return HeadOwner.open({
    identity,
    epoch: 1,
    dataDir,
    binary: await findBinary('mongod'),
    cacheGiB: 0.25,
    logger: pino({ level: process.env['LIFEBOAT_TEST_LOG'] ?? 'silent' }),
    ...options,
  });
}

/** Makes an empty head the copy of a source that holds nothing yet. */
export async function beginAt(head: HeadOwner, position: Position): Promise<void> {
  await head.attempt('build').turn(async (open) => {
    const at = { appliedThrough: position, oplogFrom: position, inconsistentUntil: null };
    await open.save({ ...open.record, stage: 'consistent', position: at }, { journaled: true });
  });
}

/** The newest entry of a replica set. */
export async function newestEntry(client: MongoClient): Promise<Position> {
  const { lastWrite } = await client.db('admin').command({ hello: 1 });
  const { ts, t } = lastWrite.opTime as { ts: Timestamp; t: Long | number };
  return { ts: fromTimestamp(ts), term: Number(t) };
}

/** The first entry of a replica set, behind which its first collection is made. */
export async function oldestEntry(client: MongoClient): Promise<Position> {
  const entry = await client
    .db('local')
    .collection('oplog.rs')
    .findOne({}, { sort: { $natural: 1 } });
  if (!entry) throw new Error('the source has no oplog');
  return { ts: fromTimestamp(entry['ts'] as Timestamp), term: Number(entry['t']) };
}

/** The raw entries from `from` on. */
export async function rawEntries(client: MongoClient, from: Position): Promise<Buffer> {
  const oplog = client.db('local').collection('oplog.rs');
  const pieces: Uint8Array[] = [];
  const cursor = oplog.find({ ts: { $gte: toTimestamp(from.ts) } }, { raw: true });
  for await (const piece of cursor) pieces.push(piece as unknown as Uint8Array);
  return Buffer.concat(pieces);
}

/** Applies entries in one turn. */
export async function applyAll(
  head: HeadOwner,
  entries: Buffer,
  attempt: HeadAttempt = head.attempt('apply'),
): Promise<void> {
  await attempt.turn((open) => attempt.applier(open).run(entries));
}

/** Applies entries again and again, as a step that is retried, until an attempt comes through. */
export async function applyStubbornly(head: HeadOwner, entries: Buffer): Promise<number> {
  for (let failures = 0; ; failures++) {
    try {
      await applyAll(head, entries);
      return failures;
    } catch (error) {
      if (!isLifeboatError(error) || !error.retryable || failures > 50) throw error;
    }
  }
}

export function headDbpath(dataDir: string, { deployment, member }: HeadIdentity): string {
  return join(dataDir, 'heads', deployment, member, 'db');
}

/** Process id of the mongod of a head. */
export async function headPid(dataDir: string, identity: HeadIdentity): Promise<number> {
  const pid = await mongodOn(headDbpath(dataDir, identity));
  if (pid === undefined) throw new Error('no mongod runs on the head');
  return pid;
}

/** A client of the head's own mongod; its socket stands in that process's command line. */
export async function connectHead(dataDir: string, identity: HeadIdentity): Promise<MongoClient> {
  const words = (await readFile(`/proc/${await headPid(dataDir, identity)}/cmdline`, 'utf8')).split('\0');
  const socket = words[words.indexOf('--bind_ip') + 1] ?? '';
  return MongoClient.connect(`mongodb://${encodeURIComponent(socket)}/?directConnection=true`);
}

/** Compares the head with the source as it was where the head stands. */
export async function proveHead(
  source: MongoClient,
  dataDir: string,
  head: HeadOwner,
  identity: HeadIdentity,
): Promise<EqualityReport> {
  const at = head.state().position?.appliedThrough.ts;
  if (!at) throw new Error('the head holds nothing');
  const client = await connectHead(dataDir, identity);
  try {
    return await proveEqual({ source: { client: source, at }, copy: { client }, ids: 5 });
  } finally {
    await client.close();
  }
}
