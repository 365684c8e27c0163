/** Reports of probes: only what differs from the replicated state enters the log. */
import { expect, test } from "vitest";
import type { DipId, HostId, PoolId } from "../../../core/brands.js";
import { healthCommand } from "../../../manager/projection/health-report.js";

const host = { hostId: 1 as HostId, incarnation: 2 };
/** Member 7 of pool 3 is down. */
const state = {
  memberHealth: (pool: PoolId, dip: DipId) =>
    pool === 3 && dip === 7 ? { poolId: pool, dipId: dip, reason: "timed out", sinceMs: 0, index: 1 as never } : null,
};

test("a whole report that says what is known costs the log nothing", () => {
  const members = [
    { poolId: 3, dipId: 7, healthy: false, reason: "timed out" },
    { poolId: 3, dipId: 8, healthy: true, reason: "" },
  ];
  expect(healthCommand(state, host, { whole: true, members })).toBeNull();
});

test("what differs becomes transitions, with bounded reasons", () => {
  const members = [
    { poolId: 3, dipId: 7, healthy: true, reason: "ignored" },
    { poolId: 3, dipId: 8, healthy: false, reason: "x".repeat(500) },
  ];
  expect(healthCommand(state, host, { members })).toEqual({
    kind: "report-health",
    hostId: 1,
    incarnation: 2,
    transitions: [
      { poolId: 3, dipId: 7, healthy: true, reason: "" },
      { poolId: 3, dipId: 8, healthy: false, reason: "x".repeat(128) },
    ],
  });
});

test("ids that can't be are refused", () => {
  expect(() => healthCommand(state, host, { members: [{ poolId: 0, dipId: 7, healthy: true }] })).toThrow(
    "health.members[0]: ids count from 1",
  );
});
