// When probes start, and what their results add up to. No packets: attempts are ended by hand.
import { beforeEach, describe, expect, it } from "vitest";
import { HealthMonitor, type ProbeOutcome } from "../../../agent/health/monitor.js";
import type { DipId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import type { HostProbeItem } from "../../../dataplane/host-items.js";
import { SEED } from "../../packet/packet-kit.js";
import { probeItem } from "./probe-kit.js";

const OK: ProbeOutcome = { ok: true };
const REFUSED: ProbeOutcome = { ok: false, reason: "connection refused" };

/** Lets `seconds` pass in steps of 50 ms; every attempt ends at once with `outcome`, or never when null. */
function run(monitor: HealthMonitor, fromMs: number, seconds: number, outcome: ProbeOutcome | null): number[] {
  const startedMs: number[] = [];
  for (let nowMs = fromMs; nowMs < fromMs + seconds * 1_000; nowMs += 50) {
    for (const { probe, attempt } of monitor.due(nowMs)) {
      startedMs.push(nowMs);
      if (outcome !== null) monitor.finished(probe, attempt, outcome);
    }
  }
  return startedMs;
}

const newMonitor = (...probes: readonly HostProbeItem[]): HealthMonitor => {
  const monitor = new HealthMonitor(createRandom(SEED));
  monitor.setProbes(probes, 0);
  return monitor;
};

describe("the health monitor", () => {
  it("starts probes exactly one interval apart, the first within a second", () => {
    const started = run(newMonitor(probeItem()), 0, 60, OK);
    expect(started[0]).toBeLessThanOrEqual(1_000);
    expect(started).toHaveLength(12);
    for (let i = 1; i < started.length; i++) expect(started[i]! - started[i - 1]!).toBeCloseTo(5_000, -2);
  });

  it("knows nothing before its first threshold is reached, then says healthy once", () => {
    const monitor = newMonitor(probeItem());
    run(monitor, 0, 5, OK);
    expect(monitor.changes(5_000)).toEqual([]);
    run(monitor, 5_000, 5, OK);
    expect(monitor.changes(10_000)).toEqual([{ poolId: 1, dipId: 1, healthy: true, reason: "" }]);
    run(monitor, 10_000, 60, OK);
    expect(monitor.changes(70_000)).toEqual([]);
  });

  it("says unhealthy, and why, within threshold x interval, and healthy again after its threshold", () => {
    const monitor = newMonitor(probeItem());
    run(monitor, 0, 10, OK);
    monitor.changes(10_000);
    run(monitor, 10_000, 10, REFUSED);
    expect(monitor.changes(20_000), "two failures of three").toEqual([]);
    run(monitor, 20_000, 5, REFUSED);
    expect(monitor.changes(25_000)).toEqual([{ poolId: 1, dipId: 1, healthy: false, reason: "connection refused" }]);
    run(monitor, 25_000, 10, OK);
    expect(monitor.changes(35_000)).toEqual([{ poolId: 1, dipId: 1, healthy: true, reason: "" }]);
  });

  // A known mistake of others: failures counted over a lifetime mark a healthy member down in the end.
  it("counts only failures in a row: one in three, for ever, changes nothing", () => {
    const monitor = newMonitor(probeItem());
    run(monitor, 0, 10, OK);
    expect(monitor.changes(10_000)).toHaveLength(1);
    let nowMs = 10_000;
    for (let round = 0; round < 20; round++) {
      run(monitor, nowMs, 5, REFUSED);
      run(monitor, nowMs + 5_000, 10, OK);
      nowMs += 15_000;
    }
    expect(monitor.changes(nowMs)).toEqual([]);
  });

  it("ends an attempt by its timeout, and ignores the answer that comes later", () => {
    const monitor = newMonitor(probeItem({ unhealthyThreshold: 1, healthyThreshold: 1 }));
    const [{ probe, attempt }] = monitor.due(1_000) as [{ probe: HostProbeItem; attempt: number }];
    monitor.due(3_000);
    monitor.finished(probe, attempt, OK);
    expect(monitor.changes(3_000)).toEqual([{ poolId: 1, dipId: 1, healthy: false, reason: "timed out" }]);
  });

  it("does not catch up after a pause of the process", () => {
    const monitor = newMonitor(probeItem());
    run(monitor, 0, 10, OK);
    expect(run(monitor, 600_000, 11, OK)).toHaveLength(3);
  });

  it("starts a changed probe anew, drops a removed one, leaves the rest alone", () => {
    const monitor = newMonitor(probeItem(), probeItem({ dipId: 2 as DipId }));
    run(monitor, 0, 10, OK);
    expect(monitor.changes(10_000)).toHaveLength(2);
    const changed = probeItem({ port: 9_000, unhealthyThreshold: 1 });
    monitor.setProbes([changed], 10_000);
    expect(monitor.states(10_000)).toEqual([{ poolId: 1, dipId: 1, healthy: true, reason: "" }]);
    expect(monitor.due(10_000).map(({ probe }) => probe.port)).toEqual([9_000]);
  });
});

describe("UDP judged by its replies", () => {
  let traffic = { requests: 0, replies: 0 };
  beforeEach(() => {
    traffic = { requests: 0, replies: 0 };
  });
  function clients(monitor: HealthMonitor, fromMs: number, seconds: number, perSecond: number, replies: number): void {
    for (let nowMs = fromMs; nowMs < fromMs + seconds * 1_000; nowMs += 1_000) {
      traffic.requests += perSecond;
      traffic.replies += replies;
      monitor.observe(() => ({ ...traffic }), nowMs);
    }
  }

  it("finds a service that stopped answering although its probe succeeds, and tries it again after a time that doubles", () => {
    const monitor = newMonitor(probeItem({ protocol: "http" }));
    run(monitor, 0, 10, OK);
    monitor.changes(10_000);
    clients(monitor, 10_000, 10, 10, 10);
    clients(monitor, 20_000, 14, 10, 0);
    expect(monitor.changes(34_000), "inside threshold x interval").toEqual([]);
    clients(monitor, 34_000, 3, 10, 0);
    expect(monitor.changes(37_000)).toEqual([{ poolId: 1, dipId: 1, healthy: false, reason: "no reply to datagrams" }]);
    expect(monitor.changes(66_000), "30 s apart").toMatchObject([{ healthy: true }]);
    clients(monitor, 66_000, 17, 10, 0);
    expect(monitor.changes(83_000)).toMatchObject([{ healthy: false }]);
    expect(monitor.changes(112_000), "now 60 s").toEqual([]);
    expect(monitor.changes(142_000)).toMatchObject([{ healthy: true }]);
  });

  it("leaves a service alone that never answers (syslog), and one whose clients are few", () => {
    const silent = newMonitor(probeItem());
    run(silent, 0, 10, OK);
    silent.changes(10_000);
    clients(silent, 10_000, 100, 10, 0);
    expect(silent.changes(110_000)).toEqual([]);
    traffic = { requests: 0, replies: 0 };
    const quiet = newMonitor(probeItem());
    run(quiet, 0, 10, OK);
    quiet.changes(10_000);
    clients(quiet, 10_000, 5, 1, 1);
    clients(quiet, 15_000, 5, 1, 0);
    clients(quiet, 20_000, 100, 0, 0);
    expect(quiet.changes(120_000)).toEqual([]);
  });
});
