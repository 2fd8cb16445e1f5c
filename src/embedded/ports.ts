/** Ports of the loopback interface. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

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

/**
 * How long a port that is kept is waited for, in milliseconds. A process that was killed is no longer found by its command
 * line while the kernel still closes what it had open (do_exit: exit_mm comes before exit_files).
 */
const WAIT_FOR_KEPT_MS = 3_000;
const LOOK_AGAIN_MS = 50;

/** `kept` if it is free, or soon is, else a free one; none of `others`. */
export async function usablePort(kept: number | undefined, others: readonly number[] = []): Promise<number> {
  if (kept !== undefined && !others.includes(kept)) {
    for (const deadline = performance.now() + WAIT_FOR_KEPT_MS; performance.now() < deadline;) {
      if (await isFree(kept)) return kept;
      await delay(LOOK_AGAIN_MS);
    }
  }
  for (let port = randomPort(); ; port = randomPort()) {
    if (!others.includes(port) && (await isFree(port))) return port;
  }
}

function randomPort(): number {
  return FIRST_PORT + randomInt(PORTS);
}
