/**
 * Who may reach whom: security groups at the hosts, tenants whose private addresses are the same, and a VIP that leads back to
 * the machine that called it. A whole site; refusals are counted where packets end.
 */
import { describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import type { ApiObject } from "../../fabric/control/manager-api.js";
import type { Endpoint } from "../../fabric/endpoints/endpoint.js";
import { BACKEND_PORT } from "../../fabric/site.js";
import { Call } from "./call.js";
import { destination, MUXES, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const webRule = ruleObject(`tcp/80 -> web:${BACKEND_PORT}`);
const SPACE: ApiObject = { metadata: { name: "default" }, tenant: { addressSpaces: ["10.0.0.0/8"] } };

interface GroupRule {
  readonly peer: string;
  readonly action?: "allow" | "deny";
  readonly direction?: "in" | "out";
}

const group = (name: string, ...rules: readonly GroupRule[]): ApiObject => ({
  metadata: { name },
  securityGroup: {
    rules: rules.map((rule, at) => ({ direction: "in", action: "allow", protocol: "all", priority: at + 1, ...rule })),
  },
});

/** A call of every endpoint; after a second, how many were answered. */
async function answered(site: WholeSite, callers: readonly Endpoint[], vip = VIP, port = 80): Promise<number> {
  const calls = callers.map((caller) => new Call(site, caller, destination(vip, port)));
  await site.advance(1_000);
  return calls.filter(({ text }) => text !== "").length;
}

describe("security groups", () => {
  it("are attached to a VIP that is in use: they filter new connections at once, and the VIP stays announced", async () => {
    const site = await WholeSite.start(
      { name: "attached later", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
      poolObject("web", ["10.0.1.1", "10.0.2.1"]),
      vipObject("web", VIP, { rules: [webRule] }),
    );
    const open = site.flows({ flows: 100, requestIntervalMs: 500, destinations: [destination(VIP, 80)] });
    await site.untilOpen(open, 100);
    const [before] = site.vipIds();
    const withdrawn: string[] = [];
    site.onRouterEvent((event) => withdrawn.push(event.kind));

    const [first, ...others] = site.clients;
    const friends = group("friends", { peer: `${first!.address}/32` });
    await site.apply(friends, vipObject("web", VIP, { rules: [webRule], securityGroups: ["friends"] }));
    expect(await answered(site, [first!]), "within a second of the change").toBe(1);
    expect(await answered(site, others)).toBe(0);
    expect(site.hostDrops()["security_group"]).toBeGreaterThanOrEqual(others.length);

    await site.advance(2_000);
    expect(open.statistics(), "what was open goes on").toMatchObject({ open: 100, broken: [] });
    expect({ ids: site.vipIds(), withdrawn, nextHops: site.nextHops(VIP) }).toEqual({
      ids: [before],
      withdrawn: [],
      nextHops: MUXES,
    });
    await site.apply(vipObject("web", VIP, { rules: [webRule] }));
    expect(await answered(site, others), "and detached again").toBe(others.length);
    await site.stop();
  });

  it("admit to a machine only what came through the load balancer, with the client's own address", async () => {
    const site = await WholeSite.start(
      { name: "through the load balancer", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
      SPACE,
      poolObject("web", ["10.0.1.1"]),
      vipObject("web", VIP, { rules: [webRule] }),
    );
    const neighbour = site.machine(2);
    expect(await answered(site, [neighbour], "10.0.1.1", BACKEND_PORT), "inside, machines reach each other").toBe(1);
    await site.apply(
      group("front", { peer: "0.0.0.0/0" }),
      group("back", { peer: "sg:front" }),
      poolObject("web", ["10.0.1.1"], { securityGroups: ["back"] }),
      vipObject("web", VIP, { rules: [webRule], securityGroups: ["front"] }),
    );
    expect(await answered(site, [neighbour], "10.0.1.1", BACKEND_PORT)).toBe(0);
    expect(site.hostDrops()["security_group"]).toBeGreaterThan(0);
    const call = new Call(site, site.clients[0]!, destination(VIP, 80));
    await site.advance(1_000);
    expect(call.text).toContain(`by=10.0.1.1 saw=${site.clients[0]!.address}:`);
    await site.stop();
  });

  it("are stateful, and one tenant's alone: what a closed machine asks outside is answered", async () => {
    const red = { tenant: "red" };
    const site = await WholeSite.start(
      { name: "a closed tenant", hosts: [["10.0.1.1", { dip: "10.0.1.2", ...red }]] },
      { metadata: { name: "red" }, tenant: {} },
      poolObject("web", ["10.0.1.1"]),
      vipObject("web", VIP, { rules: [webRule], outbound: { pools: ["web"] } }),
      poolObject("web", ["10.0.1.2"], {}, "red"),
      vipObject("web", "203.0.113.11", { rules: [webRule] }, "red"),
    );
    await site.apply(
      group("closed", { peer: "0.0.0.0/0", action: "deny" }),
      poolObject("web", ["10.0.1.1"], { securityGroups: ["closed"] }),
    );
    expect(await answered(site, site.clients)).toBe(0);
    expect(await answered(site, site.clients, "203.0.113.11")).toBe(20);
    const server = site.servers[0]!.address;
    const asked = Array.from({ length: 20 }, () => site.machine(1));
    expect(await answered(site, asked, server, 443), "its own questions").toBe(20);
    await site.stop();
  });
});

describe("tenants that use the same private address", () => {
  it("do not meet: each VIP reaches its own tenant's machine, and each machine leaves by its own VIP", async () => {
    const TENANTS = [
      { tenant: "red", vip: "203.0.113.21", locator: "172.16.0.1", host: 1 },
      { tenant: "blue", vip: "203.0.113.22", locator: "172.16.0.2", host: 2 },
      { tenant: "green", vip: "203.0.113.23", locator: "172.16.0.3", host: 2 }, // beside blue's, on one host
    ];
    const machine = ({ tenant, locator }: (typeof TENANTS)[number]) => ({ dip: "10.0.0.4", tenant, locator });
    const [red, blue, green] = TENANTS.map(machine);
    const site = await WholeSite.start(
      { name: "one address, three tenants", hosts: [[red!], [blue!, green!]] },
      ...TENANTS.flatMap(({ tenant, vip }): ApiObject[] => [
        { metadata: { name: tenant }, tenant: { addressSpaces: ["10.0.0.0/8"] } },
        poolObject("web", ["10.0.0.4"], {}, tenant),
        vipObject("web", vip, { rules: [ruleObject("tcp/80 -> web:9200")], outbound: { pools: ["web"] } }, tenant),
      ]),
    );
    const machines = [site.machine(1), site.machine(2, 1), site.machine(2, 2)];
    for (const [at, { tenant }] of TENANTS.entries())
      machines[at]!.listen(9_200 as Port, {
        received: (connection) => connection.send(new TextEncoder().encode(tenant)),
        peerClosed: (connection) => connection.close(),
        ended: () => undefined,
      });
    for (const [at, { tenant, vip }] of TENANTS.entries()) {
      const calls = site.clients.map((client) => new Call(site, client, destination(vip, 80)));
      const others = machines.filter((_, n) => n !== at).map(({ counters }) => counters.packetsIn);
      await site.advance(1_000);
      expect(calls.map(({ text }) => text)).toEqual(Array<string>(20).fill(tenant));
      expect(machines.filter((_, n) => n !== at).map(({ counters }) => counters.packetsIn)).toEqual(others);
    }
    const server = destination(site.servers[0]!.address, 443);
    const asked = machines.map((one) => Array.from({ length: 10 }, () => new Call(site, one, server)));
    await site.advance(1_000);
    for (const [at, { vip }] of TENANTS.entries())
      for (const { text } of asked[at]!) expect(text).toContain(`saw=${vip}:`);
    await site.stop();
  });
});

describe("a VIP that leads back to its caller", () => {
  const DIPS = ["10.0.1.1", "10.0.2.1"];
  const internal = (hairpin: "drop" | "snat"): ApiObject =>
    vipObject("web", VIP, { scope: "internal", hairpin, rules: [webRule] });

  async function calls(site: WholeSite): Promise<{ readonly connected: number; readonly byItself: number }> {
    const made = Array.from({ length: 200 }, () => new Call(site, site.machine(1), destination(VIP, 80)));
    await site.advance(150); // a SYN is repeated after 200 ms
    return {
      connected: made.filter(({ text }) => text !== "").length,
      byItself: made.filter(({ text }) => text.startsWith("by=10.0.1.1")).length,
    };
  }

  it("drops and counts the half of 200 connections that fall on the caller itself, where the VIP says so", async () => {
    const hosts = DIPS.map((dip) => [dip]);
    const site = await WholeSite.start({ name: "hairpin", hosts }, SPACE, poolObject("web", DIPS), internal("drop"));
    const { connected, byItself } = await calls(site);
    const failed = 200 - connected;
    expect(failed).toBeGreaterThan(70);
    expect(failed).toBeLessThan(130);
    expect({ byItself, hairpin: site.hostDrops()["hairpin"] }).toEqual({ byItself: 0, hairpin: failed });
    await site.stop();
  });

  it("serves all 200 where the VIP gives them another source", async () => {
    const hosts = DIPS.map((dip) => [dip]);
    const site = await WholeSite.start({ name: "hairpin", hosts }, SPACE, poolObject("web", DIPS), internal("snat"));
    const { connected, byItself } = await calls(site);
    expect(connected).toBe(200);
    expect(byItself).toBeGreaterThan(70);
    expect(site.hostDrops()).toEqual({});
    await site.stop();
  });
});
