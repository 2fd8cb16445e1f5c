/** The connection to a head, with something on the other end that cuts its replies anywhere, or speaks no protocol. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { BSON } from 'mongodb';
import { HeadSocket, replyValues } from '../src/head/socket.ts';
import { isLifeboatError } from '../src/shared/errors.ts';
import { testFolder } from './support/folders.ts';

async function speaking<T>(answer: (socket: Socket) => void, work: (head: HeadSocket) => Promise<T>): Promise<T> {
  await using folder = await testFolder();
  const path = join(folder.path, 's');
  const server = createServer((socket) => socket.on('error', () => undefined).on('data', () => answer(socket)));
  await once(server.listen(path), 'listening');
  const head = await HeadSocket.open(path);
  try {
    return await work(head);
  } finally {
    head.close();
    server.close();
  }
}

function message(document: object): Buffer {
  const body = BSON.serialize(document);
  const head = Buffer.alloc(21);
  head.writeInt32LE(head.length + body.length, 0);
  return Buffer.concat([head, body]);
}

test('a reply is whole wherever it was cut on its way', async () => {
  const reply = message({ ok: 1, text: 'x'.repeat(100) });
  for (const cuts of [[1], [3, 4], [4], [5], [20], [21], [reply.length - 1], [2, 3, 4, 5, 50]]) {
    const parts = [0, ...cuts].map((from, n) => reply.subarray(from, cuts[n] ?? reply.length));
    const answer = (socket: Socket): void => {
      const [part, ...rest] = parts;
      // Each goes out when the one before it is gone: in a packet of its own.
      const send = (one: Buffer | undefined, others: readonly Buffer[]): void => {
        if (one) socket.write(one, () => setImmediate(() => send(others[0], others.slice(1))));
      };
      send(part, rest);
    };
    await speaking(answer, async (head) => {
      for (const n of [1, 2]) assert.equal(replyValues(await head.command('admin', { n }))['text'], 'x'.repeat(100));
    });
  }
});

test('a reply of a length that none has ends the connection, and nothing else', async () => {
  for (const length of [-1, 0, 3, 4, 5, 21, 0x7f_ff_ff_ff]) {
    const reply = Buffer.alloc(64);
    reply.writeInt32LE(length, 0);
    await speaking(
      (socket) => socket.write(reply),
      async (head) => {
        await assert.rejects(head.command('admin', { ping: 1 }), (error) => isLifeboatError(error, 'HeadLost'));
        assert.ok(head.lost);
      },
    );
  }
});
