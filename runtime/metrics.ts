/**
 * Metrics of one process in Prometheus' form. Each process declares all of its metrics in one place (`manager/metrics.ts`,
 * `mux/metrics.ts`, `agent/metrics.ts`): name with unit, help, and how to read the value. Values are read when scraped, so
 * that nothing on a hot path has to know of metrics.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";

/** One reading: a value and its labels. */
export interface Sample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Metric {
  /** With unit, "ananta_mux_packets_total". */
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly labels?: readonly string[];
  readonly read: () => readonly Sample[];
}

export class Metrics {
  readonly #registry = new Registry();

  constructor(metrics: readonly Metric[]) {
    collectDefaultMetrics({ register: this.#registry });
    for (const metric of metrics) this.#declare(metric);
  }

  /** The text that Prometheus scrapes. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #declare({ name, help, type, labels = [], read }: Metric): void {
    const registers = [this.#registry];
    if (type === "gauge") {
      new Gauge({
        name,
        help,
        labelNames: [...labels],
        registers,
        collect() {
          this.reset();
          for (const sample of read()) this.set({ ...sample.labels }, sample.value);
        },
      });
      return;
    }
    new Counter({
      name,
      help,
      labelNames: [...labels],
      registers,
      collect() {
        this.reset(); // the component counts; this only shows
        for (const sample of read()) this.inc({ ...sample.labels }, sample.value);
      },
    });
  }
}
