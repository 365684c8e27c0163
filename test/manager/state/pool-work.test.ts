/**
 * What a change of a large pool costs on every replica, counted in keys that are formatted and rows that are compared: it grows with the pool,
 * not with the pool times its hosts. A pool of 655 members on as many hosts that changes with a probe would else cost 450,000 of each.
 */
import { beforeEach, expect, test, vi } from "vitest";
import type { HostId, LogIndex, PoolId, Port } from "../../../core/brands.js";
import type * as HostItems from "../../../dataplane/host-items.js";
import type * as Equal from "../../../manager/state/equal.js";
import { COMMAND_FORMAT_VERSION, type Command } from "../../../manager/state/commands/commands.js";
import { createStateMachine } from "../../../manager/state/index.js";
import { assertInvariants } from "../../../manager/state/invariants.js";
import type { AppliedBatch } from "../../../manager/state/commands/results.js";
import { Site, pool, vip } from "./fixture.js";
import { probeSpec } from "./specs.js";

const work = vi.hoisted(() => ({ keys: 0, comparisons: 0 }));
vi.mock("../../../dataplane/host-items.js", async (original) => {
  const actual = await original<typeof HostItems>();
  const hostItemKey: typeof actual.hostItemKey = (item) => {
    work.keys += 1;
    return actual.hostItemKey(item);
  };
  return { ...actual, hostItemKey };
});
vi.mock("../../../manager/state/equal.js", async (original) => {
  const actual = await original<typeof Equal>();
  const isEqual: typeof actual.isEqual = (a, b) => {
    work.comparisons += 1;
    return actual.isEqual(a, b);
  };
  return { ...actual, isEqual };
});

beforeEach(() => {
  work.keys = work.comparisons = 0;
});

/** A pool with a member on each of `size` hosts, with a probe, behind one rule. */
function siteOf(size: number): Site {
  const site = new Site();
  const dips = Array.from({ length: size }, (_, at) => `10.0.0.${at + 1}`);
  site.bootstrap();
  dips.forEach((dip, at) => site.register(`host-${at + 1}`, [dip]));
  site.configure(
    pool("web", dips, { maxMembers: 50, spec: { probe: probeSpec({ protocol: "tcp", port: 0 as Port }) } }),
    vip("web", "198.51.100.1", { rules: ["tcp/80 -> web"] }),
  );
  return site;
}

/** The member on that host passes its probe no more. */
function memberDown(site: Site, host: number): Command {
  const { hostId, incarnation, dips } = site.machine.hosts()[host]!;
  const transitions = dips.map((dipId) => ({ poolId: 1 as PoolId, dipId, healthy: false, reason: "refused" }));
  return { kind: "report-health", hostId, incarnation, transitions };
}

function measure(site: Site, ...commands: readonly Command[]): AppliedBatch & { readonly keys: number } {
  work.keys = work.comparisons = 0;
  const applied = site.machine.apply(
    {
      formatVersion: COMMAND_FORMAT_VERSION,
      clusterTimeMs: 0,
      wallMs: 0,
      muxSafeIndex: 0 as LogIndex,
      commands: commands.map((command) => ({ origin: null, command })),
    },
    ++site.index as LogIndex,
  );
  return { ...applied, keys: work.keys };
}

test.each([20, 40])(
  "a probe's verdict on one of %i members compares each row of the pool once, and forms its key twice, for all hosts",
  (size) => {
    const site = siteOf(size);
    const { keys, hostChanges } = measure(site, memberDown(site, 3));
    expect(hostChanges.size, "every host is told").toBe(size);
    const rows = size + 1 + 2; // owners, the rule, two tables
    expect(keys, "as it was and as it is").toBeLessThanOrEqual(2 * rows + 5);
    expect(work.comparisons).toBeLessThanOrEqual(rows + 5);
    assertInvariants(site.machine.inspect());
  },
);

test("all hosts hold the same list of changes, not a copy each", () => {
  const site = siteOf(20);
  const lists = new Set(measure(site, memberDown(site, 3)).hostChanges.values());
  expect(lists.size).toBe(1);
});

test("verdicts on many members in one entry are looked at together: hosts get what differs in the end", () => {
  const site = siteOf(40);
  const { keys, hostChanges } = measure(site, ...[3, 5, 7, 9].map((host) => memberDown(site, host)));
  expect(keys).toBeLessThanOrEqual(2 * (40 + 1 + 5) + 10);
  expect(hostChanges.get(1 as HostId)?.map((change) => change.op)).toEqual(["upsert"]); // the table that MUXes will use
  assertInvariants(site.machine.inspect());
});

test("a host that comes gets all rows, and the others just what is new", () => {
  const site = siteOf(20);
  const dips = Array.from({ length: 21 }, (_, at) => `10.0.0.${at + 1}`);
  site.configure(pool("web", dips, { maxMembers: 50 }));
  const register: Command = {
    kind: "register-host",
    name: "host-21",
    bootId: "host-21-1",
    dips: [{ tenant: "default", address: "10.0.0.21" as never, locator: "10.0.0.21" as never }],
    heldRanges: [],
  };
  const { hostChanges, keys } = measure(site, register);
  const told = (host: number): readonly string[] =>
    (hostChanges.get(host as HostId) ?? []).map((change) => (change.op === "upsert" ? change.item.kind : change.key));
  expect(told(1)).toEqual(["table", "owner"]);
  expect(told(21).filter((kind) => kind === "owner")).toHaveLength(21);
  expect(keys).toBeLessThan(3 * 21 + 20);
  assertInvariants(site.machine.inspect());
});

test("reading a snapshot forms the rows of a pool once, however many hosts see them", () => {
  const counts = [20, 40].map((size) => {
    const site = siteOf(size);
    const chunks = [...site.machine.snapshot()];
    const restored = createStateMachine();
    work.keys = 0;
    restored.restore(chunks, site.index as LogIndex);
    return work.keys;
  });
  expect(counts[1]! / counts[0]!).toBeLessThan(2.2);
});
