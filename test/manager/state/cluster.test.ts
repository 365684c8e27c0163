/** The cluster's own facts, and the order in which entries are applied. */
import { expect, test } from "vitest";
import type { LogIndex, NodeId } from "../../../core/brands.js";
import { COMMAND_FORMAT_VERSION } from "../../../manager/state/commands/commands.js";
import { createStateMachine } from "../../../manager/state/index.js";
import { HASH_KEY, Site, smallSite } from "./fixture.js";

test("a cluster is bootstrapped once; a second leader's bootstrap is ignored", () => {
  const site = new Site();
  expect(site.machine.site).toBeNull();
  site.bootstrap();
  site.ok("none", { kind: "bootstrap", clusterId: "other", clusterEpoch: 9, hashKey: "f".repeat(16) });
  expect(site.machine.site).toEqual({ clusterId: "test", clusterEpoch: 1, hashKey: HASH_KEY });
  expect(site.muxView.get("site")).toEqual({
    kind: "site",
    hashKey: Uint8Array.of(1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef),
  });
});

test("a hash key that is not 8 bytes of hex is refused", () => {
  const site = new Site();
  const bootstrap = { kind: "bootstrap", clusterId: "c", clusterEpoch: 1, hashKey: "short" } as const;
  expect(site.refused(bootstrap).code).toBe("INVALID_ARGUMENT");
});

test("a replica's start gets a number, once per boot id", () => {
  const site = new Site();
  const start = (bootId: string) =>
    site.ok("replica-started", { kind: "start-replica", nodeId: 2 as NodeId, bootId }).incarnation;
  expect([start("x"), start("x"), start("y"), start("y")]).toEqual([1, 1, 2, 2]);
  expect(site.machine.replicas()).toEqual([{ nodeId: 2, incarnation: 2, bootId: "y" }]);
});

test("an entry is applied once: an index that does not grow stops the process", () => {
  const machine = createStateMachine();
  const batch = {
    formatVersion: COMMAND_FORMAT_VERSION,
    clusterTimeMs: 0,
    wallMs: 0,
    muxSafeIndex: 0 as LogIndex,
    commands: [],
  };
  machine.apply(batch, 5 as LogIndex);
  expect(() => machine.apply(batch, 5 as LogIndex)).toThrow(/once and in order/);
  expect(machine.apply(batch, 9 as LogIndex)).toEqual({
    index: 9,
    results: [],
    muxChanges: [],
    hostChanges: new Map(),
    ended: [],
  });
  expect(machine.appliedIndex).toBe(9);
});

test("cluster time only grows, whatever a new leader's clock says", () => {
  const site = new Site();
  for (const [told, expected] of [
    [100, 100],
    [40, 100],
    [100.9, 100],
    [250, 250],
  ] as const) {
    site.nowMs = told;
    site.apply({ kind: "tick" });
    expect(site.machine.clusterTimeMs).toBe(expected);
  }
});

test("with no session and nothing resting no tick is due", () => {
  expect(smallSite().machine.nextTickDueMs()).toBeNull();
});
