/** The figures of one worker: counters, which its activities add to, and gauges, which are read anew for each scrape. */
import { Counter, Gauge, Registry } from 'prom-client';
import { METRICS, metricNames, type CounterName, type GaugeName, type LabelsOf, type MetricName } from './table.ts';

/** One value of a gauge. */
export type Reading = {
  readonly [K in GaugeName]: { readonly name: K; readonly labels: LabelsOf<K>; readonly value: number };
}[GaugeName];

export class Metrics {
  readonly #registry = new Registry();
  readonly #counters = new Map<MetricName, Counter>();
  readonly #gauges = new Map<MetricName, Gauge>();

  constructor() {
    for (const name of metricNames()) {
      const { type, labels, help } = METRICS[name];
      const options = { name, help, labelNames: [...labels], registers: [this.#registry] };
      if (type === 'counter') this.#counters.set(name, new Counter(options));
      else this.#gauges.set(name, new Gauge(options));
    }
  }

  count<K extends CounterName>(name: K, labels: LabelsOf<K>, amount = 1): void {
    this.#counters.get(name)?.inc(labels, amount);
  }

  /** The exposition text of Prometheus. A gauge that `readings` does not have is absent from it. */
  async text(readings: readonly Reading[]): Promise<string> {
    for (const gauge of this.#gauges.values()) gauge.reset();
    for (const { name, labels, value } of readings) this.#gauges.get(name)?.set(labels, value);
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
