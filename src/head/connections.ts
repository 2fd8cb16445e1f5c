/** Several connections to a head at work beside each other, inside one turn. */
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
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  const alone = async (): Promise<void> => {
    const own = await socket.another();
    try {
      await work(own, ended);
    } finally {
      // What does not end goes on without its connection: whoever uses the head next has to end its mongod.
      if (own.lost) socket.close();
      own.close();
    }
  };
  const fail = (error: unknown): void => failed.abort(error);
  await Promise.all(Array.from({ length: count }, () => alone().catch(fail)));
  failed.signal.throwIfAborted();
}
