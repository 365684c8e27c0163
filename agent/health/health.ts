/**
 * Health of this host's members (Ananta §3.4.3): probes of its own machines, and what their UDP clients get.
 *
 *     tables (probe items) --> monitor --due--> prober --packets--> machines
 *                                 ^---outcome------'                   |
 *     Managers <--changes at once, all of it every few seconds-- monitor
 */
import type { Random } from "../../core/random.js";
import { PacketBatch } from "../../dataplane/packet-batch.js";
import type { Log } from "../../runtime/env.js";
import type { ProbedHost } from "../dataplane/probed-host.js";
import { HealthMonitor, type MemberHealth } from "./monitor.js";
import { Prober, type ProberOptions } from "./prober.js";
import { openTls } from "./tls-session.js";

export interface HealthOptions {
  readonly random: Random;
  readonly log: Log;
  readonly host: ProbedHost;
  /** `whole`: of every member; else what changed. */
  readonly report: (members: readonly MemberHealth[], whole: boolean) => void;
  readonly openTls?: ProberOptions["openTls"];
}

/** A report that was lost with its stream or its leader is made up for after so long. */
const WHOLE_REPORT_MS = 5_000;
const OBSERVE_MS = 1_000;

export class Health {
  readonly #options: HealthOptions;
  readonly #monitor: HealthMonitor;
  readonly #prober: Prober;
  readonly #batch = new PacketBatch({ packets: 256 });
  #version = -1;
  #wholeMs = 0;
  #observedMs = 0;
  #probes = 0;
  #failures = 0;

  constructor(options: HealthOptions) {
    this.#options = options;
    const { random } = options;
    this.#monitor = new HealthMonitor(random.fork());
    this.#prober = new Prober({
      random: random.fork(),
      transmit: (dipId, packet) => void this.#batch.append(packet, dipId), // full: lost, as on any wire; TCP tries again
      finished: (probe, attempt, outcome) => {
        if (!outcome.ok) this.#failures++;
        this.#monitor.finished(probe, attempt, outcome);
      },
      openTls: options.openTls ?? openTls,
    });
  }

  get counters(): { readonly probed: number; readonly probes: number; readonly failures: number } {
    return { probed: this.#monitor.size, probes: this.#probes, failures: this.#failures };
  }

  states(nowMs: number): readonly MemberHealth[] {
    return this.#monitor.states(nowMs);
  }

  /** Call every few tens of milliseconds. What probes send is appended to `out`. */
  tick(nowMs: number, out: PacketBatch): void {
    const { host } = this.#options;
    if (host.probesVersion() !== this.#version) {
      this.#version = host.probesVersion();
      this.#monitor.setProbes(host.probes(), nowMs);
    }
    this.#prober.tick(nowMs);
    for (const { probe, attempt } of this.#monitor.due(nowMs)) {
      this.#probes++;
      const address = host.addressOf(probe.dipId);
      if (address === null) this.#monitor.finished(probe, attempt, { ok: false, reason: "the machine is not here" });
      else this.#prober.start(probe, attempt, address, nowMs);
    }
    if (nowMs - this.#observedMs >= OBSERVE_MS) {
      this.#observedMs = nowMs;
      this.#monitor.observe((dipId, port) => host.udpTraffic(dipId, port), nowMs);
    }
    this.#report(nowMs);
    this.#flush(nowMs, out);
  }

  /** A packet of a machine to the host itself. */
  receive(batch: PacketBatch, index: number, dipId: number, nowMs: number): void {
    this.#prober.receive(batch, index, dipId, nowMs);
  }

  /** Answers to what was received leave. */
  settle(nowMs: number, out: PacketBatch): void {
    this.#report(nowMs);
    this.#flush(nowMs, out);
  }

  /** A stream has become the active one: it knows nothing yet. */
  reportAll(nowMs: number): void {
    this.#wholeMs = nowMs;
    this.#options.report(this.#monitor.states(nowMs), true);
  }

  stop(): void {
    this.#prober.stop();
  }

  #report(nowMs: number): void {
    const changes = this.#monitor.changes(nowMs);
    for (const { poolId, dipId, healthy, reason } of changes)
      this.#options.log.info(healthy ? "member is healthy" : "member is unhealthy", { poolId, dipId, reason });
    if (nowMs - this.#wholeMs >= WHOLE_REPORT_MS) this.reportAll(nowMs);
    else if (changes.length > 0) this.#options.report(changes, false);
  }

  #flush(nowMs: number, out: PacketBatch): void {
    if (this.#batch.count === 0) return;
    this.#options.host.processFromHost(this.#batch, nowMs, out);
    this.#batch.clear();
  }
}
