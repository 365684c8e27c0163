/** Section "A host asks for SNAT ports" of docs/configuration.md: what agents are told, and operators read in their logs. */
import type { DipId, MuxId } from "../../../core/brands.js";
import type { Command } from "../../../manager/state/commands/commands.js";
import { LARGE, type Site, pool, smallSite, vip } from "../state/fixture.js";
import { outboundSpec } from "../state/specs.js";
import { provokeAll } from "./document.js";

const web = (outbound: Partial<Parameters<typeof outboundSpec>[0]>): ReturnType<typeof vip> =>
  vip("web", "198.51.100.1", { spec: { outbound: outboundSpec({ pools: ["web"], maxPorts: 64_512, ...outbound }) } });

/** All that a first request gets: 60,480 ports, or 1,500 ranges of a table of 1,600. */
const takeMuch = (site: Site): readonly string[] => site.allocate("10.0.0.1", 64_512);

function smallTable(site: Site): void {
  site.join("mux-2", "192.0.2.2", { ...LARGE, snatRanges: 1_600 });
}

/** A tenant that could own ports, with a weight of 3. */
function blue(site: Site): void {
  const spec = { weight: 3, addressSpaces: [], maxVips: 0, maxRulesPerVip: 1_500 };
  const ref = { kind: "Tenant" as const, tenant: "blue", name: "blue" };
  site.configure(
    { ref, labels: {}, object: { kind: "Tenant", spec }, expectedGeneration: null },
    pool("web", ["10.0.0.1"], { tenant: "blue" }),
    vip("web", "198.51.100.2", { tenant: "blue", outbound: ["web"] }),
  );
}

const provocations: Readonly<Record<string, (site: Site) => Command>> = {
  "no VIP's outbound names a pool with member default/10.0.0.3": (site) => {
    site.register("host-2", ["10.0.0.3"]);
    return site.allocation("10.0.0.3", 8);
  },
  "VIP default/new is being configured on the MUXes; ask again": (site) => {
    site.register("host-2", ["10.0.0.3"]);
    site.applyObjects(pool("new", ["10.0.0.3"]), vip("new", "198.51.100.9", { outbound: ["new"] }));
    return site.allocation("10.0.0.3", 8);
  },
  "no MUX is live, so none could deliver the replies": (site) => {
    site.ok("none", { kind: "leave-mux", muxId: 1 as MuxId, incarnation: 1 });
    return site.allocation("10.0.0.1", 8);
  },
  "DIP 7 is not one of host host-1": (site) => ({ ...site.allocation("10.0.0.1", 8), dipId: 7 as DipId }) as Command,
  "host host-1 is at incarnation 2; this request comes from 1": (site) => {
    const request = site.allocation("10.0.0.1", 8);
    site.register("host-1", ["10.0.0.1", "10.0.0.2"], [], "second start");
    return request;
  },
  "DIP default/10.0.0.1 owns all 64 ports that VIP default/web allows a DIP": (site) => {
    site.configure(web({ maxPorts: 64 }));
    site.allocate("10.0.0.1", 64);
    return site.allocation("10.0.0.1", 8);
  },
  "all ports of VIP default/web are owned, most of them by default/10.0.0.1 (60480), default/10.0.0.2 (4032)": (
    site,
  ) => {
    takeMuch(site);
    site.allocate("10.0.0.2", 64_512);
    return site.allocation("10.0.0.1", 8);
  },
  "no port of VIP default/web is free; 8064 ranges rest, the first for another 119 s": (site) => {
    const first = takeMuch(site);
    site.release("10.0.0.2", ...site.allocate("10.0.0.2", 64_512));
    site.release("10.0.0.1", ...first);
    site.nowMs += 1_000;
    return site.allocation("10.0.0.1", 8);
  },
  "VIP default/web has no port for DIP default/10.0.0.1: the last 4032 are reserved for DIPs below their minPorts": (
    site,
  ) => {
    takeMuch(site);
    site.configure(web({ minPorts: 2_400 }), pool("web", ["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    return site.allocation("10.0.0.1", 8);
  },
  "VIP default/web has no port for DIP default/10.0.0.1: the last 4032 are left to DIPs that own less than its 60480": (
    site,
  ) => {
    takeMuch(site);
    return site.allocation("10.0.0.1", 8);
  },
  "DIP default/10.0.0.2 waits for 26208 ports of VIP default/web: others are asked for what they own above their fair share, 30240 of the 60480 of default/10.0.0.1, for 0 s; ports come back when their flows are over, and rest for 120 s":
    (site) => {
      takeMuch(site);
      site.allocate("10.0.0.2", 64_512);
      return site.allocation("10.0.0.2", 64_512);
    },
  "the SNAT table of the smallest live MUX holds 1600 ranges: the last 100 are left to tenants below their share; tenant default, of weight 1, owns 1500; its share is 1500; most for their weight own default (1500, weight 1), blue (0, weight 3); ranges come back when hosts have not used them for 120 s: ask again in 10 s":
    (site) => {
      smallTable(site);
      blue(site);
      takeMuch(site);
      return site.allocation("10.0.0.1", 8);
    },
  "the SNAT table of the smallest live MUX holds 1600 ranges: 1600 are owned, and the other 0 reserved for DIPs below their minPorts; tenant default, of weight 1, owns 1600; its share is 1600; most for their weight own default (1600, weight 1); ranges come back when hosts have not used them for 120 s: ask again in 1 s":
    (site) => {
      smallTable(site);
      takeMuch(site);
      return site.allocation("10.0.0.1", 8);
    },
};

provokeAll("A host asks for SNAT ports", provocations, (provoke) => {
  const site = smallSite();
  const result = site.apply(provoke(site));
  return result.ok ? [] : [result.message];
});
