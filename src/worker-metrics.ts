/** The figures of the worker at one address: see docs/metrics.md. */
import type { RuntimeOptions } from '@temporalio/worker';
import type { Daemon } from './activities/daemon.ts';
import { headReadings, storeReadings } from './metrics/readings.ts';
import type { Reading } from './metrics/registry.ts';
import { serveMetrics } from './metrics/server.ts';

/** How long stores may take to answer a scrape; Prometheus waits ten seconds. */
const STORES_TIMEOUT_MS = 5_000;

type MetricsOptions = NonNullable<NonNullable<RuntimeOptions['telemetryOptions']>['metrics']>;

/** The SDK's own figures, in base units and with names as Prometheus wants them. */
export function temporalMetrics(port: number): MetricsOptions {
  return {
    prometheus: {
      bindAddress: `127.0.0.1:${port}`,
      countersTotalSuffix: true,
      unitSuffix: true,
      useSecondsForDurations: true,
    },
  };
}

/**
 * Shows the figures until it is disposed of.
 * @param temporalPort where the SDK shows its own, on this machine only
 * @throws LifeboatError `MetricsPortTaken`
 */
export async function showMetrics(daemon: Daemon, listen: string, temporalPort: number): Promise<AsyncDisposable> {
  const own = async (): Promise<{ readonly text: string; readonly contentType: string }> => ({
    text: await daemon.metrics.text(await readings(daemon)),
    contentType: daemon.metrics.contentType,
  });
  const server = await serveMetrics({ listen, own, temporal: `http://127.0.0.1:${temporalPort}/metrics` });
  daemon.logger.info({ listen }, 'metrics are shown at /metrics');
  return { [Symbol.asyncDispose]: () => server.close() };
}

async function readings(daemon: Daemon): Promise<Reading[]> {
  const heads = daemon.heads.held().flatMap(({ key, up }) => {
    const [deployment, member] = key.split('/');
    return deployment === undefined || member === undefined ? [] : [{ deployment, member, up }];
  });
  const stored = await fromStores(daemon);
  return [
    { name: 'lifeboat_daemon_info', labels: { daemon: daemon.id }, value: 1 },
    { name: 'lifeboat_store_up', labels: {}, value: stored ? 1 : 0 },
    ...(stored ?? []),
    ...headReadings(heads),
  ];
}

/** Undefined when the stores do not answer in time. */
async function fromStores(daemon: Daemon): Promise<Reading[] | undefined> {
  const reading = (async () => storeReadings(await daemon.stores(), daemon.id))();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((settle) => {
    timer = setTimeout(() => settle(undefined), STORES_TIMEOUT_MS);
  });
  try {
    return await Promise.race([reading, late]);
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    reading.catch(() => undefined);
  }
}
