/**
 * What open connections and new ones meet while a pool changes, a machine fails, a MUX dies and a machine moves: a whole site with
 * eight MUXes under a thousand connections that go on asking. A connection that another machine answers, that is reset or
 * that stands still counts as broken.
 */
import { describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import type { Endpoint } from "../../fabric/endpoints/endpoint.js";
import { identityEcho } from "../../fabric/endpoints/identity-server.js";
import type { FlowGenerator } from "../../fabric/flow-generator.js";
import { BACKEND_PORT } from "../../fabric/site.js";
import { address, destination, MUXES, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const HOSTS = [1, 2, 3, 4, 5].map((host) => [`10.0.${host}.1`, `10.0.${host}.2`]);
const DIPS = HOSTS.flat();
const web = (dips: readonly string[]): ReturnType<typeof poolObject> => poolObject("web", dips);
const webVip = vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] });
const toWeb = { destinations: [destination(VIP, 80)] };

/** Answers since `before`, by DIP. */
function answersSince(flows: FlowGenerator, before: ReadonlyMap<string, number>): Map<string, number> {
  const { spread } = flows.statistics();
  return new Map([...spread].map(([dip, count]) => [dip, count - (before.get(dip) ?? 0)]));
}

describe("a pool under a thousand open connections", () => {
  it("takes three more members, and every connection keeps its own", async () => {
    const site = await WholeSite.start({ name: "three more", hosts: HOSTS }, web(DIPS.slice(0, 7)), webVip);
    const open = site.flows({ flows: 1_000, ...toWeb });
    await site.untilOpen(open, 1_000);
    await site.apply(web(DIPS));
    const fresh = site.flows({ flows: 1_000, ...toWeb });
    await site.untilOpen(fresh, 1_000);
    await site.advance(3_000);
    expect(open.statistics()).toMatchObject({ open: 1_000, broken: [] });
    expect([...open.statistics().spread.keys()].sort()).toEqual([...DIPS.slice(0, 7)].sort());
    expect([...fresh.statistics().spread.keys()].sort(), "new ones use them").toEqual([...DIPS].sort());
    await site.stop();
  });

  it("gives a member up: its connections go on, and none of the next thousand reaches it", async () => {
    const site = await WholeSite.start({ name: "one member less", hosts: HOSTS }, web(DIPS), webVip);
    const open = site.flows({ flows: 1_000, ...toWeb });
    await site.untilOpen(open, 1_000);
    const [gone = "", ...left] = DIPS;
    const before = new Map(open.statistics().spread);
    expect(before.get(gone), "about a tenth of them").toBeGreaterThan(50);

    await site.apply(web(left));
    const fresh = site.flows({ flows: 1_000, ...toWeb });
    await site.untilOpen(fresh, 1_000);
    await site.advance(6_000);
    expect(open.statistics()).toMatchObject({ open: 1_000, broken: [] });
    expect(answersSince(open, before).get(gone), "it still serves its own").toBeGreaterThan(100);
    expect([...fresh.statistics().spread.keys()].sort()).toEqual([...left].sort());
    await site.stop();
  });

  it("loses none when its members change and a MUX dies: the router has dropped it after its hold time", async () => {
    const site = await WholeSite.start({ name: "one of eight", hosts: HOSTS }, web(DIPS), webVip);
    const open = site.flows({ flows: 1_000, ...toWeb });
    await site.untilOpen(open, 1_000);
    await site.apply(web(DIPS.slice(2)));
    expect(site.nextHops(VIP)).toBe(MUXES);
    site.killMux(3);
    await site.advance(1_100);
    expect(site.nextHops(VIP), "the VIP stays, on one MUX less").toBe(MUXES - 1);
    const fresh = site.flows({ flows: 200, ...toWeb });
    await site.untilOpen(fresh, 200);
    await site.advance(6_000);
    for (const flows of [open, fresh]) expect(flows.statistics().broken).toEqual([]);
    expect(open.statistics().open).toBe(1_000);
    await site.stop();
  });

  it("is at its full rate within a second of nothing: no connection is refused or waits", async () => {
    const site = await WholeSite.start({ name: "no warming", hosts: HOSTS }, web(DIPS), webVip);
    const flows = site.flows({ flows: 2_000, opensPerSecond: 2_000, requestIntervalMs: 60_000, ...toWeb });
    await site.advance(1_200);
    expect(flows.statistics()).toMatchObject({ opened: 2_000, answeredOnce: 2_000, brokenCount: 0 });
    expect(flows.statistics().longestStallMs, "no segment was sent again").toBeLessThan(200);
    expect({ muxes: site.muxDrops(), hosts: site.hostDrops(), router: site.routerDrops() }).toEqual({
      muxes: {},
      hosts: {},
      router: {},
    });
    await site.stop();
  });
});

/** One datagram a second from one socket, each with its number; who answered which. */
class Counting {
  readonly by: string[] = [];
  sent = 0;
  readonly #site: WholeSite;
  readonly #client: Endpoint;
  readonly #port = 30_000 as Port;

  constructor(site: WholeSite, client: Endpoint) {
    this.#site = site;
    this.#client = client;
    client.listenUdp(this.#port, (payload) => {
      const [, by = "", n = ""] = /^by=(\S+) \S+ (\d+)/.exec(new TextDecoder().decode(payload)) ?? [];
      this.by[Number(n)] = by;
    });
  }

  async run(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      const tuple = { source: this.#client.address, sourcePort: this.#port };
      const to = { destination: address(VIP), destinationPort: 53 as Port };
      this.#client.sendUdp({ ...tuple, ...to }, new TextEncoder().encode(String(this.sent++)));
      await this.#site.advance(1_000);
    }
  }

  get lost(): number {
    let lost = 0;
    for (let n = 0; n < this.sent; n++) if (this.by[n] === undefined) lost++;
    return lost;
  }
}

describe("a client that sends one datagram a second from one socket", () => {
  const PROBE = { protocol: "tcp", port: BACKEND_PORT, intervalSeconds: 1, timeoutSeconds: 1, unhealthyThreshold: 2 };
  const dnsVip = vipObject("dns", VIP, { rules: [ruleObject("udp/53 -> dns:5300")] });

  async function scene(name: string): Promise<{ site: WholeSite; counting: Counting }> {
    const hosts = [["10.0.1.1"], ["10.0.2.1"]];
    const site = await WholeSite.start({ name, hosts }, poolObject("dns", hosts.flat(), { probe: PROBE }), dnsVip);
    for (const host of [1, 2]) site.machine(host).listenUdp(5_300 as Port, identityEcho);
    await site.advance(3_000); // both are up
    return { site, counting: new Counting(site, site.clients[0]!) };
  }

  it("is answered by one machine as long as nothing changes", async () => {
    const { site, counting } = await scene("a minute");
    await counting.run(60);
    expect(counting.lost).toBe(0);
    expect(new Set(counting.by).size).toBe(1);
    await site.stop();
  });

  it("goes on at the other machine when the probe of its own fails, after two missed probes and no more", async () => {
    const { site, counting } = await scene("a probe fails");
    await counting.run(10);
    const [first = ""] = counting.by;
    const hosts = [1, 2].filter((host) => site.machine(host).address === first);
    expect(hosts).toHaveLength(1);
    const machine = site.machine(hosts[0]!);
    machine.unlisten(BACKEND_PORT); // what the probe asks
    machine.unlistenUdp(5_300 as Port);
    await counting.run(20);
    expect(counting.lost, "threshold x interval + 1").toBeLessThanOrEqual(3);
    expect(counting.lost, "a failure costs something").toBeGreaterThan(0);
    expect(new Set(counting.by.slice(14)).size).toBe(1);
    expect(counting.by[20]).not.toBe(first);
    await site.stop();
  });
});

describe("a machine that moves to another host", () => {
  it("serves new connections there within a second, under the VIP that it had", async () => {
    const moving = { dip: "10.0.1.1" };
    const hosts = [["10.0.1.9", { ...moving, locator: "10.9.1.1" }], [{ ...moving, locator: "10.9.2.1" }]];
    const site = await WholeSite.start({ name: "a move", hosts, hostsAtStart: 1 }, web(["10.0.1.1"]), webVip);
    const before = site.flows({ flows: 50, ...toWeb });
    await site.untilOpen(before, 50);
    before.finish();
    await site.advance(3_000);
    expect(before.statistics()).toMatchObject({ completed: 50, brokenCount: 0 });

    // A host gives a machine up by starting without it; another may speak for it then.
    await site.stopHost(1);
    await site.startHost(1, 1);
    await site.startHost(2);
    const startedMs = site.nowMs;
    const after = site.flows({ flows: 50, opensPerSecond: 1_000, ...toWeb });
    await site.untilOpen(after, 50);
    expect(site.nowMs - startedMs).toBeLessThan(1_000);
    expect(site.machine(2).counters.packetsIn).toBeGreaterThan(100);
    expect(site.nextHops(VIP)).toBe(MUXES);
    await site.stop();
  });
});
