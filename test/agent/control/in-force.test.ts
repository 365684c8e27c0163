import { describe, expect, it } from "vitest";
import { HeldRanges } from "../../../agent/control/held-ranges.js";
import { InForce } from "../../../agent/control/in-force.js";
import { createAgentDataplane } from "../../../agent/dataplane/agent-dataplane.js";
import type { DipId, IpAddress, LogIndex, VipId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import { silentLog } from "../../kit/silent-log.js";
import { testSeed, VirtualWorld } from "../../kit/virtual-world.js";
import { VIP } from "./fake-managers.js";

const dip = (dipId: number): HostItem => ({
  kind: "dip",
  dipId: dipId as DipId,
  address: `10.1.1.${dipId}` as IpAddress,
  locator: `10.1.1.${dipId}` as IpAddress,
  tenant: "default",
});
const outbound = (dipId: number): HostItem => ({
  kind: "outbound",
  dipId: dipId as DipId,
  vipId: 1 as VipId,
  vip: VIP,
});
const range = (dipId: number): HostItem => ({
  kind: "range",
  vipId: 1 as VipId,
  vip: VIP,
  protocol: 6,
  range: 128,
  dipId: dipId as DipId,
});
const SITE = [dip(1), dip(2), outbound(1), outbound(2)];

/** A host with two DIPs. */
async function host(title: string) {
  const world = new VirtualWorld({ seed: testSeed(title) });
  const held = await world.run(HeldRanges.open(world.env("host").disk, "/data", silentLog));
  const dataplane = createAgentDataplane({ random: createRandom(1) });
  let index = 0;
  let isSettled = false;
  const inForce = new InForce({
    tables: dataplane.tables,
    stops: dataplane,
    held,
    log: silentLog,
    events: {
      inForce: () => undefined,
      settled: () => (isSettled = true),
      outOfStep: (reason) => expect.unreachable(reason),
      failed: (error) => expect.unreachable(error.message),
    },
  });
  const view = async (...items: readonly HostItem[]): Promise<void> => {
    isSettled = false;
    const position = { clusterEpoch: 1, index: ++index as LogIndex };
    inForce.update({ delta: { kind: "snapshot", items: [...SITE, ...items] }, position, digest: "" });
    await world.runUntil(() => isSettled, 1_000);
    expect(inForce.position.index).toBe(index);
  };
  const owners = (): readonly string[] => [...held.ranges()].map((one) => `${one.range} ${one.dip}`);
  return { world, held, dataplane, inForce, view, owners };
}

describe("what is in force, and its record", () => {
  it("follows a range that a whole view moves to another DIP of the host", async () => {
    const { inForce, view, owners, dataplane } = await host("moves");
    await view(range(1));
    expect(owners()).toEqual(["128 10.1.1.1"]);
    await view(range(2));
    expect(owners()).toEqual(["128 10.1.1.2"]);
    expect(inForce.view.rangeCount).toBe(1);
    expect(dataplane.stoppedRanges()).toEqual([]);
  });

  // The release was done, the range rested, and the other DIP was granted it, all in what one view shows.
  it("holds a range for the other DIP that a view shows it for, though the first one was giving it back", async () => {
    const { world, held, inForce, view, owners, dataplane } = await host("moves while released");
    await view(range(1));
    const given = await world.run(inForce.giveUp([...held.ranges()]));
    expect(given).toHaveLength(1);
    await view(range(1)); // does not know of the release yet
    expect(owners()).toEqual([]);
    await view(range(2));
    expect(owners()).toEqual(["128 10.1.1.2"]);
    expect(dataplane.stoppedRanges()).toEqual([]);
    inForce.resume(given); // a late refusal takes nothing from the other
    await world.advance(10);
    expect(owners()).toEqual(["128 10.1.1.2"]);
  });

  it("keeps the record of a range while its VIP is deleted, and uses it again with the VIP", async () => {
    const { inForce, view, owners } = await host("vip deleted");
    await view(range(1));
    await view();
    expect(inForce.view.rangeCount).toBe(0);
    expect(owners()).toEqual(["128 10.1.1.1"]);
    await view(range(1));
    expect(inForce.view.rangeCount).toBe(1);
    expect(owners()).toEqual(["128 10.1.1.1"]);
  });
});
