/** Several connections to a head at work beside each other, inside one turn. */
import { together } from '../shared/signals.ts';
import type { OpenHead } from './open-head.ts';
import type { HeadSocket } from './socket.ts';

/** A head, and one of the connections to it. */
export interface HeadConnection {
  readonly head: OpenHead;
  readonly socket: HeadSocket;
}

/**
 * Runs `work` over `count` further connections at once. Whoever has the turn waits for all of them: nothing else happens to
 * the head meanwhile.
 * @param work gets a connection of its own, and a signal that is aborted with `signal` or when the work of another failed
 * @throws what the first one threw that failed, when all have ended; LifeboatError `HeadLost`
 */
export async function overConnections(
  socket: HeadSocket,
  count: number,
  signal: AbortSignal,
  work: (own: HeadSocket, ended: AbortSignal) => Promise<void>,
): Promise<void> {
  const alone = async (ended: AbortSignal): Promise<void> => {
    const own = await socket.another();
    try {
      await work(own, ended);
    } finally {
      // What does not end goes on without its connection: whoever uses the head next has to end its mongod.
      if (own.lost) socket.close();
      own.close();
    }
  };
  await together(
    signal,
    Array.from({ length: count }, () => alone),
  );
}
