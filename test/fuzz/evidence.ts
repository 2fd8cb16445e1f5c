/** What is kept of a run that failed: the entries that its source wrote, each as text and as it was. */
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { deserialize, EJSON } from 'bson';
import { toTimestamp } from '../../src/mongo/positions.ts';
import type { Bed } from './bed.ts';
import type { RunResult } from './run.ts';

/** One entry a line: `entry`, canonical extended JSON for the eye, and `raw`, its bytes in base64. */
export async function keepEvidence({ source }: Bed, { from }: RunResult, path: string): Promise<void> {
  const entries = source.client
    .db('local')
    .collection('oplog.rs')
    .find({ ts: { $gt: toTimestamp(from.ts) } }, { raw: true });
  async function* lines(): AsyncGenerator<string, void, void> {
    for await (const found of entries) {
      const raw = found as unknown as Buffer;
      const entry = deserialize(raw, { promoteValues: false, bsonRegExp: true, validation: { utf8: false } });
      yield `${JSON.stringify({ entry: EJSON.serialize(entry, { relaxed: false }), raw: raw.toString('base64') })}\n`;
    }
  }
  await pipeline(Readable.from(lines()), createWriteStream(path));
}
