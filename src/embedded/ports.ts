/** Ports of the loopback interface. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

const LOOPBACK = '127.0.0.1';

/** Below the ports that systems give to outgoing connections: one of those would sooner or later sit on a kept port. */
const FIRST_PORT = 20_000;
const PORTS = 12_000;

async function isFree(port: number): Promise<boolean> {
  return new Promise((settle) => {
    const server = createServer();
    server.once('error', () => settle(false));
    server.listen({ port, host: LOOPBACK }, () => server.close(() => settle(true)));
  });
}

/** `kept` while it is free, else a free one; none of `others`. */
export async function usablePort(kept: number | undefined, others: readonly number[] = []): Promise<number> {
  for (let port = kept ?? randomPort(); ; port = randomPort()) {
    if (!others.includes(port) && (await isFree(port))) return port;
  }
}

function randomPort(): number {
  return FIRST_PORT + randomInt(PORTS);
}
