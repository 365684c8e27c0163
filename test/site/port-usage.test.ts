/**
 * What `ananta snat usage` knows of ports in use, in a whole site on virtual time: hosts report it to the replicas that they have streams
 * to, and every replica answers with what any of them knows.
 */
import { expect, it } from "vitest";
import { SERVER_PORT } from "../../fabric/site.js";
import { SNAT_USAGE } from "../../manager/api/methods.js";
import { destination, poolObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";

it("every replica knows how many ports of each DIP are in use, and of a host that is gone that it is not known", async () => {
  const site = await WholeSite.start(
    { name: "ports in use", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
    poolObject("web", ["10.0.1.1", "10.0.2.1"]),
    vipObject("web", VIP, { outbound: { pools: ["web"] } }),
  );
  const usage = async (replica: number, stale = false) => {
    const { shares } = await site.managers.call(replica, SNAT_USAGE, { vip: VIP, stale });
    return new Map(
      (shares ?? []).flatMap(({ dip, protocol, owned, inUse, onHold, useAgeMs }) =>
        protocol === 6 ? [[dip, { owned, inUse, onHold, useAgeMs }] as const] : [],
      ),
    );
  };
  const flows = site.flows({
    flows: 40,
    direction: "outbound",
    sources: [site.machine(1)],
    destinations: [destination(site.servers[0]!.address, SERVER_PORT)],
  });
  await site.untilOpen(flows, 40);
  await site.advance(13_000); // replicas beat every 3 s, and a host reports with every third beat
  for (const replica of [1, 2, 3]) {
    const found = await usage(replica, replica === 3);
    expect(found.get("10.0.1.1"), `replica ${replica}`).toMatchObject({ inUse: 40, onHold: 0 });
    expect(found.get("10.0.1.1")!.owned).toBeGreaterThanOrEqual(56);
    expect(found.get("10.0.2.1")).toMatchObject({ inUse: 0, onHold: 0 });
    for (const { useAgeMs } of found.values()) expect(useAgeMs).toBeLessThan(10_000);
  }

  site.remove(flows);
  site.killHost(1);
  await site.advance(5_000);
  const after = await usage(1);
  expect(after.get("10.0.1.1")!.inUse, "it says nothing any more").toBeNull();
  expect(after.get("10.0.2.1")).toMatchObject({ inUse: 0, onHold: 0 });
  await site.stop();
});
