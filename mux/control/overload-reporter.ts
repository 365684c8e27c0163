/**
 * Tells the Managers of this MUX's overload over the active stream: every interval of fairness while it lasts, once when it is
 * over. Nothing is said in good times: the Managers take silence for it.
 */
import type { ananta } from "../../proto/gen/wire.js";
import type { Clock, Timer } from "../../runtime/env.js";
import type { ReplicaStream } from "../../runtime/dual-stream.js";
import { FAIRNESS_INTERVAL_MS, type Load } from "../fairness/fairness.js";

export class OverloadReporter {
  readonly #clock: Clock;
  readonly #report: () => Load;
  readonly #active: () => ReplicaStream<ananta.v1.MuxToManager.$Properties> | null;
  #timer: Timer | null = null;
  #saidOverloaded = false;

  constructor(
    clock: Clock,
    report: () => Load,
    active: () => ReplicaStream<ananta.v1.MuxToManager.$Properties> | null,
  ) {
    this.#clock = clock;
    this.#report = report;
    this.#active = active;
  }

  start(): void {
    this.#timer = this.#clock.setTimer(FAIRNESS_INTERVAL_MS, () => {
      this.start();
      this.#tell();
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #tell(): void {
    const { isOverloaded, packetsPerSecond, capacity, topTalkers } = this.#report();
    const stream = this.#active();
    if (stream === null || stream.isBlocked || (!isOverloaded && !this.#saidOverloaded)) return;
    this.#saidOverloaded = isOverloaded;
    stream.send({
      overload: {
        isOverloaded,
        packetsPerSecond: Math.round(packetsPerSecond),
        capacity: Math.round(capacity),
        topTalkers: topTalkers.map((talker) => ({
          vipId: talker.vipId,
          packetsPerSecond: Math.round(talker.packetsPerSecond),
          share: Math.round(talker.share),
        })),
      },
    });
  }
}
