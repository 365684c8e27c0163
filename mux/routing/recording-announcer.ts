/** An announcer for tests and benchmarks: remembers what it was told. */
import type { IpAddress } from "../../core/brands.js";
import type { Clock } from "../../runtime/env.js";
import type { RouteAnnouncer } from "./route-announcer.js";

export interface RecordedRoutes {
  readonly atMs: number;
  readonly vips: readonly IpAddress[];
}

export class RecordingAnnouncer implements RouteAnnouncer {
  readonly changes: RecordedRoutes[] = [];
  announced: readonly IpAddress[] = [];
  isStarted = false;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  start(): void {
    this.isStarted = true;
  }

  announce(vips: readonly IpAddress[]): void {
    if (vips.length === this.announced.length && vips.every((vip, index) => vip === this.announced[index])) return;
    this.announced = [...vips];
    this.changes.push({ atMs: this.#clock.nowMs(), vips: this.announced });
  }

  withdraw(): void {
    this.announce([]);
  }

  stop(): void {
    this.withdraw();
    this.isStarted = false;
  }
}
