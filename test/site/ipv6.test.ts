/**
 * VIPs of IPv6 in a whole site: announced as host routes, carried in IPv4 and in IPv6 tunnels, answered past the MUXes, both
 * directions, with what goes wrong on the way. A pool has a machine whose host is found at an IPv4 address, and others at IPv6 ones.
 */
import { describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { BulkTransfer } from "../../fabric/bulk-transfer.js";
import { BACKEND_PORT, BACKEND_UDP_PORT, BULK_PORT, SERVER_PORT } from "../../fabric/site.js";
import { OPERATOR_APPLY, OPERATOR_EXPLAIN_FLOW, OPERATOR_RESET_FLOWS, SNAT_WHO } from "../../manager/api/methods.js";
import { packetOf } from "../packet/fixtures/notation.js";
import { read, readEncapsulated } from "../packet/packet-kit.js";
import { Call } from "./call.js";
import { address, destination, MUXES, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "2001:db8:113::10";
const CALLER_VIP = "2001:db8:113::20";
/** A host that is reached by IPv4, and two that are reached by IPv6. */
const HOSTS = [[{ dip: "fd00:1::1", locator: "10.0.1.1" }], ["fd00:2::1"], ["fd00:3::1"]];
const DIPS = ["fd00:1::1", "fd00:2::1", "fd00:3::1"];
const web = (dips: readonly string[] = DIPS): ReturnType<typeof poolObject> => poolObject("web", dips);
const decoder = new TextDecoder();

describe("a VIP of IPv6", () => {
  it("is announced by every MUX, and what is sent to it arrives unchanged, in tunnels of either family", async () => {
    const probe = { protocol: "tcp", port: BACKEND_PORT, intervalSeconds: 1, timeoutSeconds: 1 };
    const site = await WholeSite.start(
      { name: "an IPv6 VIP", hosts: HOSTS },
      poolObject("web", DIPS, { probe }),
      vipObject("web", VIP, {
        rules: [
          ruleObject(`tcp/80 -> web:${BACKEND_PORT}`),
          ruleObject(`tcp/9000 -> web:${BULK_PORT}`),
          ruleObject(`udp/53 -> web:${BACKEND_UDP_PORT}`),
        ],
        inboundNat: [{ name: "direct", protocol: "tcp", ports: "50000-50002", pool: "web", backendPort: BACKEND_PORT }],
      }),
    );
    expect(site.nextHops(VIP)).toBe(MUXES);
    const outers = new Map<string, Set<number>>();
    const toClients = { sources: new Set<string>(), mss: new Set<number>() };
    site.tap((packet, { kind }) => {
      if (kind === "host") {
        const { outer, inner } = readEncapsulated(packet);
        outers.set(outer.source.slice(0, 4), (outers.get(outer.source.slice(0, 4)) ?? new Set()).add(outer.protocol));
        expect(inner.destination).toBe(VIP);
      } else if (kind === "local") {
        const { source, mss } = read(packet);
        toClients.sources.add(source);
        if (mss !== null) toClients.mss.add(mss);
      }
    });

    const calls = Array.from(
      { length: 60 },
      (_, n) => new Call(site, site.clientsIpv6[n % 6]!, destination(VIP, 80)), // six clients
    );
    let answered = 0;
    for (const [n, client] of site.clientsIpv6.entries()) {
      const tuple = { source: client.address, sourcePort: (31_000 + n) as Port };
      client.listenUdp(tuple.sourcePort, (payload) => {
        if (decoder.decode(payload).includes(`saw=[${client.address}]:${tuple.sourcePort} `)) answered++;
      });
      client.sendUdp({ ...tuple, destination: address(VIP), destinationPort: 53 as Port }, new Uint8Array([63]));
    }
    const direct = [0, 1, 2].map((n) => new Call(site, site.clientsIpv6[n]!, destination(VIP, 50_000 + n)));
    const bulk = site.clientsIpv6
      .slice(0, 3)
      .map(
        (source) =>
          new BulkTransfer(
            { source, destination: destination(VIP, 9_000), bytes: 1_000_000 },
            createRandom(site.world.seed),
            () => site.nowMs,
          ),
      );
    await site.world.runUntil(() => bulk.every(({ result }) => result !== null), 60_000, "the hashes");
    expect(bulk.map(({ result }) => result?.isWhole)).toEqual([true, true, true]);

    const by = (call: Call): string => /^by=(\S+)/.exec(call.text)?.[1] ?? String(call.end);
    expect([...new Set(calls.map(by))].sort()).toEqual(DIPS);
    for (const [n, call] of calls.entries()) {
      expect(call.end).toBe("closed");
      expect(call.text, "the machine saw the client").toContain(` saw=[${site.clientsIpv6[n % 6]!.address}]:`);
    }
    expect(answered).toBe(6);
    expect(new Set(direct.map(by)).size, "inbound NAT has a port for each machine").toBe(3);
    expect(toClients.sources).toEqual(new Set([VIP]));
    expect([...toClients.mss].sort(), "with room for the tunnel to come").toEqual([1_400, 1_420]);
    expect([...outers].sort()).toEqual([
      ["10.2", new Set([41])],
      ["2001", new Set([41])],
    ]);
    await site.stop();
  });

  // Hosts pass segments on to each other between locators of one family: each has a source of its own family only.
  it.each([
    ["IPv4", DIPS.map((dip, n) => [{ dip, locator: `10.0.${n + 1}.1` }])],
    ["IPv6", DIPS.map((dip) => [dip])],
  ])("keeps every connection while its pool changes and a MUX dies, in tunnels of %s", async (family, hosts) => {
    const site = await WholeSite.start(
      { name: `IPv6 under changes, ${family}`, hosts },
      web(DIPS.slice(0, 2)),
      vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] }),
    );
    const open = site.flows({ flows: 300, sources: site.clientsIpv6, destinations: [destination(VIP, 80)] });
    await site.untilOpen(open, 300);
    await site.apply(web(DIPS.slice(1)));
    site.killMux(3);
    await site.advance(1_100);
    expect(site.nextHops(VIP)).toBe(MUXES - 1);
    const fresh = site.flows({ flows: 100, sources: site.clientsIpv6, destinations: [destination(VIP, 80)] });
    await site.untilOpen(fresh, 100);
    await site.advance(6_000);
    for (const flows of [open, fresh]) expect(flows.statistics().broken).toEqual([]);
    expect([...open.statistics().spread.keys()].sort()).toEqual(DIPS.slice(0, 2));
    expect([...fresh.statistics().spread.keys()].sort()).toEqual(DIPS.slice(1));
    await site.stop();
  });

  it("takes a machine out whose service stops, and says in names where a flow goes and ends flows", async () => {
    const probe = { protocol: "tcp", port: BACKEND_PORT, intervalSeconds: 1, timeoutSeconds: 1, thresholdDown: 2 };
    const site = await WholeSite.start(
      { name: "IPv6 and its operator", hosts: HOSTS },
      poolObject("web", DIPS, { probe }),
      vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] }),
    );
    const open = site.flows({
      flows: 60,
      requestIntervalMs: 500,
      sources: site.clientsIpv6,
      destinations: [destination(VIP, 80)],
    });
    await site.untilOpen(open, 60);
    await site.advance(2_000);
    site.machine(1).unlisten(BACKEND_PORT);
    await site.advance(5_000);
    const fresh = site.flows({ flows: 60, sources: site.clientsIpv6, destinations: [destination(VIP, 80)] });
    await site.untilOpen(fresh, 60);
    expect([...fresh.statistics().spread.keys()].sort()).toEqual(DIPS.slice(1));

    const explained = await site.managers.call(1, OPERATOR_EXPLAIN_FLOW, {
      flow: { protocol: 6, source: site.clientsIpv6[0]!.address, sourcePort: 7, destination: VIP, destinationPort: 80 },
    });
    expect(JSON.stringify(explained)).toMatch(/"fd00:[23]::1"/);
    const chosen = site.machine(2).connectionCount;
    const reset = await site.managers.call(1, OPERATOR_RESET_FLOWS, { dip: DIPS[1]! });
    expect(reset.hosts).toMatchObject([{ name: "host-2", flows: chosen, answered: true }]);
    await site.advance(500);
    expect(site.machine(2).connectionCount).toBe(0);
    await site.stop();
  });

  it("is named by what is refused: not while a MUX forwards IPv4 only, and no such MUX once there is one", async () => {
    const site = await WholeSite.start(
      { name: "a MUX of IPv4", hosts: HOSTS, ipv4Muxes: [5] },
      web(),
      vipObject("old", "203.0.113.10", { rules: [] }),
    );
    const six = vipObject("six", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] });
    const refused = await site.managers.refusal(1, OPERATOR_APPLY, {
      origin: { session: "f".repeat(32), sequence: 1 },
      objects: [six],
    });
    expect(refused.code).toBe("FAILED_PRECONDITION");
    expect(refused.message).toContain(`${VIP} is an IPv6 address, and the live MUX mux-5 forwards IPv4 only`);

    await site.stopMux(5);
    await site.apply(six);
    expect(site.nextHops(VIP)).toBe(MUXES - 1);
    await site.startMux(5);
    await site.advance(3_000);
    expect(site.nextHops(VIP), "it is kept out").toBe(MUXES - 1);
    expect(site.muxes.at(-1)!.status().membership).not.toBe("announcing");
    const [told] = site.world.log.find("refused by the Managers", "mux-5");
    expect(told?.fields["reason"]).toBe(`MUX mux-5 forwards IPv4 only, and VIP ${VIP} is an IPv6 address`);
    await site.stop();
  });
});

describe("machines behind a VIP of IPv6", () => {
  it("leave by its ports, which every MUX knows before, and it is remembered who had them", async () => {
    const site = await WholeSite.start(
      { name: "IPv6 SNAT", hosts: HOSTS },
      web(),
      vipObject("web", VIP, { outbound: { pools: ["web"] } }),
    );
    const server = destination(site.serversIpv6[0]!.address, SERVER_PORT);
    const unknown: string[] = [];
    site.tap((packet, { kind }) => {
      if (kind !== "local") return;
      const { source, flags, flow } = read(packet);
      expect(source, "nothing leaves untranslated").toBe(VIP);
      if (flags !== "S") return;
      const range = Number(/\]:(\d+) >/.exec(flow)?.[1]) >> 3;
      for (const mux of site.muxes) {
        const knows = [...mux.dataplane.tables.items()].some((item) => item.kind === "snat" && item.range === range);
        if (!knows) unknown.push(`${flow}: ${mux.status().name}`);
      }
    });
    const calls = [1, 2, 3].flatMap((host) =>
      Array.from({ length: 40 }, () => new Call(site, site.machine(host), server)),
    );
    await site.world.runUntil(() => calls.every(({ end }) => end === "closed"), 20_000, "all calls");
    const saw = calls.map(({ text }) => /saw=\[(\S+)\]:(\d+)/.exec(text)?.slice(1) ?? []);
    expect(new Set(saw.map(([vip]) => vip))).toEqual(new Set([VIP]));
    expect(new Set(saw.map(([, port]) => port)).size, "a port for each").toBe(120);
    expect(unknown).toEqual([]);
    const port = Number(saw[0]![1]);
    const who = await site.managers.call(1, SNAT_WHO, { vip: VIP, port, protocol: 6 });
    expect(JSON.stringify(who)).toContain('"fd00:1::1"');
    await site.stop();
  });

  it("hear from a router on the way that a packet of theirs was too big", async () => {
    const site = await WholeSite.start(
      { name: "ICMPv6", hosts: HOSTS.slice(0, 1) },
      web(DIPS.slice(0, 1)),
      vipObject("web", VIP, {
        rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)],
        outbound: { pools: ["web"] },
      }),
    );
    const heard: string[] = [];
    site.machine(1).onIcmp = (packet) => {
      const { source, destination: to, body } = read(packet);
      const quoted = body.subarray(8);
      const inner = body[0] === 2 ? ` about ${innerFlow(quoted)}` : "";
      heard.push(`${source} > ${to} ${body[0]}/${body[1]}${inner}`);
    };
    const client = site.clientsIpv6[0]!.address;
    const answers: Uint8Array[] = [];
    site.tap((packet, { kind }) => {
      if (kind === "local" && answers.length < 1) answers.push(packet.slice());
    });
    const call = new Call(site, site.clientsIpv6[0]!, destination(VIP, 80));
    await site.advance(200);
    const port = Number(/\]:(\d+)$/.exec(read(answers[0]!).flow)?.[1]);
    // A router between VIP and client that has a smaller link.
    const about = `tcp [${VIP}]:80 > [${client}]:${port} A`;
    await site.inject(packetOf(`icmp 2001:db8:99::1 > ${VIP} 2/0 mtu=1300 ( ${about} )`));
    await site.advance(200);
    expect(call.end).toBe("closed");
    expect(heard).toEqual([`2001:db8:99::1 > fd00:1::1 2/0 about [fd00:1::1]:${BACKEND_PORT} > [${client}]:${port}`]);
    await site.stop();
  });

  it("reach another service by its VIP, and after the handshake from host to host", async () => {
    const site = await WholeSite.start(
      { name: "IPv6 FastPath", hosts: HOSTS },
      poolObject("callers", [DIPS[1]!]),
      vipObject("caller", CALLER_VIP, { outbound: { pools: ["callers"] } }),
      poolObject("servers", [DIPS[2]!]),
      vipObject("server", VIP, { rules: [ruleObject(`tcp/80 -> servers:${BULK_PORT}`, { fastpath: true })] }),
    );
    const before = site.muxTraffic().bytes;
    const transfer = new BulkTransfer(
      { source: site.machine(2), destination: destination(VIP, 80), bytes: 5_000_000 },
      createRandom(site.world.seed),
      () => site.nowMs,
    );
    await site.world.runUntil(() => transfer.result !== null || transfer.failure !== null, 60_000, "the upload");
    expect(transfer.failure).toBeNull();
    expect(transfer.result?.isWhole).toBe(true);
    expect((site.muxTraffic().bytes - before) / 5_000_000, "by MUXes").toBeLessThan(0.02);
    const sent = site.agents.map((agent) => agent.dataplane.fastpath().sent);
    expect(sent[1]! * 1_400, "data from host to host").toBeGreaterThan(4_900_000);
    await site.stop();
  });
});

/** Of a quoted packet, which may be cut. */
function innerFlow(quoted: Uint8Array): string {
  const view = new DataView(quoted.buffer, quoted.byteOffset, quoted.length);
  const groups = (at: number): string => {
    const hex = Array.from({ length: 8 }, (_, group) => view.getUint16(at + group * 2).toString(16)).join(":");
    return address(hex);
  };
  return `[${groups(8)}]:${view.getUint16(40)} > [${groups(24)}]:${view.getUint16(42)}`;
}
