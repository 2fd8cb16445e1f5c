/** The address at which Prometheus finds the figures of a worker: its own, and below them those of the Temporal SDK. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { LifeboatError } from '../shared/errors.ts';

export interface MetricsServerOptions {
  /** `host:port` to listen on. */
  readonly listen: string;
  /** The figures of Lifeboat, and the type that they are in. */
  readonly own: () => Promise<{ readonly text: string; readonly contentType: string }>;
  /** Where the SDK shows its own: it can listen, but not be asked in another way. */
  readonly temporal: string;
}

export interface MetricsServer {
  readonly port: number;
  close(): Promise<void>;
}

const TEMPORAL_TIMEOUT_MS = 3_000;

/** @throws LifeboatError `MetricsPortTaken` when the address cannot be listened on */
export async function serveMetrics(options: MetricsServerOptions): Promise<MetricsServer> {
  const { listen, own, temporal } = options;
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0];
    if (request.method !== 'GET' || path !== '/metrics') {
      response.writeHead(404).end('The figures are at /metrics.\n');
      return;
    }
    void answer(own, temporal)
      .then(({ text, contentType }) => response.writeHead(200, { 'content-type': contentType }).end(text))
      .catch(() => response.writeHead(500).end());
  });
  await listening(server, listen);
  // Whoever ends the worker does not wait for a scraper that keeps its connection.
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((settle) => {
        server.close(() => settle());
      });
    },
  };
}

/** Splits `host:port`; an IPv6 address stands in brackets. */
export function hostAndPort(listen: string): { readonly host: string; readonly port: number } {
  const at = listen.lastIndexOf(':');
  return { host: listen.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(listen.slice(at + 1)) };
}

async function listening(server: Server, listen: string): Promise<void> {
  const { host, port } = hostAndPort(listen);
  try {
    await new Promise<void>((settle, fail) => {
      server.once('error', fail);
      server.listen({ host, port }, () => {
        server.removeListener('error', fail);
        settle();
      });
    });
  } catch (error) {
    const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
    const why = code === 'EADDRINUSE' ? 'another process listens there' : `it cannot be listened on (${String(code)})`;
    throw new LifeboatError('MetricsPortTaken', `metrics cannot be shown at ${listen}: ${why}`, { cause: error });
  }
}

async function answer(
  own: MetricsServerOptions['own'],
  temporal: string,
): Promise<{ readonly text: string; readonly contentType: string }> {
  const [{ text, contentType }, theirs] = await Promise.all([own(), temporalText(temporal)]);
  return { text: `${text.trimEnd()}\n${theirs}`, contentType };
}

/** Empty when the SDK does not answer: our own figures are worth showing all the same. */
async function temporalText(url: string): Promise<string> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TEMPORAL_TIMEOUT_MS) });
    return response.ok ? await response.text() : '';
  } catch {
    return '';
  }
}
