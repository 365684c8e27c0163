/** FastPath from end to end: after the handshake no MUX sees the flow, and whatever goes wrong, it goes by the VIP again. */
import { describe, expect, it } from "vitest";
import type { HostId, IpAddress } from "../../core/brands.js";
import {
  FASTPATH_MESSAGE_BYTES,
  fastpathHostKey,
  type FastpathMessage,
  readFastpathMessage,
} from "../../dataplane/fastpath-message.js";
import { packetOf } from "../packet/fixtures/notation.js";
import {
  type Addresses,
  Connection,
  FastpathSite,
  IPV4,
  IPV6,
  MASTER,
  type Seen,
  SERVER_DIP,
} from "./fastpath-site.js";

const FAMILIES: readonly [string, Addresses][] = [
  ["IPv4 in IPv4", IPV4],
  ["IPv6 in IPv6", IPV6],
  ["IPv6 in IPv4", { ...IPV6, clientLocator: "10.0.0.3", serverLocator: "10.0.0.1" }],
  ["IPv4 in IPv6", { ...IPV4, clientLocator: "2001:db8:bb::3", serverLocator: "2001:db8:bb::1" }],
];
const CLIENT_KEY = fastpathHostKey(MASTER, 30);
const SERVER_KEY = fastpathHostKey(MASTER, 10);

/** The message for the host with this key in a packet, or null. */
const messageFor = (key: Uint8Array, { packet }: Seen): FastpathMessage | null =>
  readFastpathMessage(packet.slice(-FASTPATH_MESSAGE_BYTES), key);
const redirectedOf = (site: FastpathSite): number[] => [
  site.hosts.client.fastpath().redirected,
  site.hosts.server.fastpath().redirected,
];

describe.each(FAMILIES)("FastPath, %s", (_, addresses) => {
  it("takes a flow off the MUXes once its handshake is over, in both directions", () => {
    const site = new FastpathSite(addresses);
    const flow = new Connection(site).open();
    const handshake = site.throughMuxes();
    expect(handshake).toBe(3);
    site.wire = [];
    expect(flow.talk(500)).toBe(1_000);
    expect(site.throughMuxes(), "none of 1,000 packets passed a MUX").toBe(handshake);
    expect(site.wire).toHaveLength(1_000);
    expect(new Set(site.wire.map(({ from, to }) => `${from} > ${to}`))).toEqual(
      new Set([
        `${addresses.clientLocator} > ${addresses.serverLocator}`,
        `${addresses.serverLocator} > ${addresses.clientLocator}`,
      ]),
    );
    const none = { revoked: 0, fellBack: 0 };
    expect(site.hosts.client.fastpath()).toEqual({ ...none, redirected: 1, sent: 500, received: 500 });
    expect(site.hosts.server.fastpath()).toEqual({ ...none, redirected: 1, sent: 500, received: 500 });
    const { fastpath_early: early = 0, ...others } = { ...site.drops("client"), ...site.drops("server") };
    expect(others).toEqual({});
    expect(early, "whichever host was told first was ahead of the other").toBe(1);
  });

  it("is what an explanation of the flow says", () => {
    const site = new FastpathSite(addresses);
    const flow = new Connection(site).open();
    const tuple = {
      protocol: 6,
      source: addresses.server as IpAddress,
      sourcePort: 8_080,
      destination: addresses.clientVip as IpAddress,
      destinationPort: flow.vipPort,
    };
    const why = (nowMs: number): string => site.hosts.server.explain(tuple, { nowMs }).why;
    expect(why(site.nowMs)).toContain(`straight to the host of ${addresses.clientLocator} (FastPath)`);
    expect(why(site.nowMs + 30_000)).not.toContain("FastPath");
  });

  it("closes directly, too", () => {
    const site = new FastpathSite(addresses);
    const flow = new Connection(site).open();
    const before = site.throughMuxes();
    expect([flow.client("FA"), flow.server("FA"), flow.client("A seq=1 ack=1")]).toEqual([true, true, true]);
    expect(site.throughMuxes()).toBe(before);
  });
});

describe("FastPath when something is lost", () => {
  it.each([
    ["client's", CLIENT_KEY],
    ["server's", SERVER_KEY],
  ])("leaves the flow on the MUXes when the %s redirect is lost, and takes it off when it comes again", (_, key) => {
    const site = new FastpathSite();
    site.loses = (packet) => messageFor(key, packet) !== null;
    const flow = new Connection(site).open();
    const before = site.throughMuxes();
    expect(flow.talk(5), "nothing is lost").toBe(10);
    expect(site.throughMuxes() - before).toBe(10);
    site.loses = () => false;
    site.elapse(1_000);
    expect(flow.talk(1), "one segment more tells the MUX").toBe(2);
    const after = site.throughMuxes();
    expect(flow.talk(5)).toBe(10);
    expect(site.throughMuxes()).toBe(after);
  });

  it("goes on by the MUXes when hosts cannot reach each other", () => {
    const site = new FastpathSite();
    site.loses = ({ from, to }) => from.startsWith("10.") && to.startsWith("10.");
    const flow = new Connection(site).open();
    for (let second = 0; second < 5; second++) {
      expect(flow.talk(2)).toBe(4);
      site.elapse(1_000);
    }
    expect(site.hosts.client.fastpath()).toMatchObject({ sent: 0, received: 0, fellBack: 0 });
  });

  it("falls back within a second when the way between the hosts breaks, and tries it again half a minute later", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(5)).toBe(10);
    site.loses = ({ from, to }) => from.startsWith("10.") && to.startsWith("10.");
    expect(flow.client("PA seq=500 data=100"), "lost").toBe(false);
    site.elapse(999);
    expect(flow.client("PA seq=500 data=100"), "and its retransmission").toBe(false);
    site.elapse(1);
    expect(flow.client("PA seq=500 data=100"), "by the VIP").toBe(true);
    expect(site.hosts.client.fastpath().fellBack).toBe(1);
    // The server's host notices by itself once it sends data.
    expect(flow.server("PA data=10 ack=600")).toBe(false);
    site.elapse(1_000);
    expect(flow.server("PA data=10 ack=600")).toBe(true);
    site.loses = () => false;
    const { sent } = site.hosts.client.fastpath();
    for (let second = 0; second < 28; second++) {
      expect(flow.talk(1), `second ${second}`).toBe(2);
      expect(site.hosts.client.fastpath().sent, `second ${second}`).toBe(sent);
      site.elapse(1_000);
    }
    for (let second = 0; second < 4; second++) {
      expect(flow.talk(1)).toBe(2);
      site.elapse(1_000);
    }
    const before = site.throughMuxes();
    expect(flow.talk(3)).toBe(6);
    expect(site.throughMuxes()).toBe(before);
    expect(site.hosts.client.fastpath().sent).toBeGreaterThan(sent);
  });

  it("rests even when the peer still gets through", () => {
    const site = new FastpathSite();
    site.nowMs = 1_000_000;
    const flow = new Connection(site).open();
    expect(flow.talk(5)).toBe(10);
    site.loses = ({ from }) => from === IPV4.clientLocator;
    expect(flow.client("PA seq=500 data=100")).toBe(false);
    site.elapse(1_000);
    expect(flow.client("PA seq=500 data=100")).toBe(true);
    expect(flow.server("A ack=600"), "straight from the peer").toBe(true);
    expect(site.wire.at(-1)).toMatchObject({ from: IPV4.serverLocator, to: IPV4.clientLocator });
    site.loses = () => false;
    const { sent } = site.hosts.client.fastpath();
    for (let second = 0; second < 20; second++) {
      site.elapse(1_000);
      expect(flow.talk(1)).toBe(2);
      expect(site.hosts.client.fastpath().sent).toBe(sent);
    }
  });

  it.each(["client", "server"] as const)("falls back when the %s's agent starts again", (name) => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(5)).toBe(10);
    site.restart(name);
    if (name === "client") {
      // Its flow is gone with its table, and a client in mid-stream is reset; the server's host is told nothing.
      expect(flow.server("PA data=10"), "the client's host does not know the flow").toBe(false);
      expect(site.drops("client")).toEqual({ unknown_encapsulator: 1 });
      return;
    }
    expect(flow.client("PA seq=500 data=100"), "refused: no MUX told the new agent").toBe(false);
    expect(site.drops("server")).toEqual({ unknown_encapsulator: 1 });
    expect(flow.server("A ack=500"), "its flow is built anew, by the VIP").toBe(true);
    site.elapse(1_000);
    expect(flow.client("PA seq=500 data=100")).toBe(true);
    expect(flow.server("A ack=600")).toBe(true);
  });

  it("falls back from a download, too, whose client only acknowledges, when the server's agent starts again", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(5)).toBe(10);
    site.restart("server");
    expect(flow.server("PA seq=0 data=100 ack=500"), "by the VIP: the new agent was told nothing").toBe(true);
    expect(flow.client("A seq=500 ack=100"), "straight to the host that refuses it").toBe(false);
    expect(site.drops("server")).toEqual({ unknown_encapsulator: 1 });
    site.elapse(1_000);
    expect(flow.server("PA seq=0 data=100 ack=500"), "its retransmission").toBe(true);
    expect(flow.client("A seq=500 ack=100"), "by the VIP").toBe(true);
    expect(site.hosts.client.fastpath().fellBack).toBe(1);
  });

  it("leaves an idle flow's first data to the redirect that still lives: acknowledgements are not waited for", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.client("PA seq=0 data=100")).toBe(true);
    expect(flow.server("A ack=100")).toBe(true);
    site.elapse(5_000);
    const before = site.throughMuxes();
    expect(flow.server("PA data=10 ack=100")).toBe(true);
    expect(flow.client("A seq=100 ack=10")).toBe(true);
    expect(site.throughMuxes()).toBe(before);
  });
});

describe("the life of a redirect", () => {
  it("ends after 30 s; a few packets by the VIP renew it", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    let talked = 0;
    for (let tenth = 0; tenth < 3_000; tenth++) {
      expect(flow.talk(1)).toBe(2);
      talked += 2;
      site.elapse(100);
    }
    expect(redirectedOf(site)).toEqual([10, 10]);
    expect(site.throughMuxes() / talked, "of five minutes' packets").toBeLessThan(0.01);
    expect(site.hosts.client.fastpath().fellBack).toBe(0);
  });

  it("outlives the MUX that told it; then the flow goes by another one", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    site.dead.add(0);
    const before = site.throughMuxes();
    for (let second = 0; second < 29; second++) {
      expect(flow.talk(1)).toBe(2);
      site.elapse(1_000);
    }
    expect(site.throughMuxes(), "nobody misses the MUX").toBe(before);
    site.elapse(1_000);
    for (let second = 0; second < 5; second++) {
      expect(flow.talk(1)).toBe(2);
      site.elapse(1_000);
    }
    expect(site.throughMuxes()).toBe(before + 10);
  });

  it("is taken back when its rule keeps flows on MUXes from now on", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(2)).toBe(4);
    const before = site.throughMuxes();
    site.changeMuxes(site.rule({ fastpath: false }));
    site.elapse(10);
    expect(flow.talk(5)).toBe(10);
    expect(site.throughMuxes()).toBe(before + 10);
  });

  it("is taken back when the server's machine moves: the flow goes to the VIP at once", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(5)).toBe(10);
    site.changeMuxes({ ...site.dipItem(SERVER_DIP), hostId: 11 as HostId, locator: "10.0.7.1" as IpAddress });
    site.elapse(10);
    expect(site.hosts.client.fastpath().revoked).toBe(1);
    site.wire = [];
    site.vm("client", flow.fromClient("PA seq=500 data=100"));
    expect(site.wire[0]!.to).toBe(IPV4.serverVip);
    expect(site.wire.at(-1)!.to).toBe("10.0.7.1");
    expect(site.wire.filter(({ from, to }) => from === IPV4.clientLocator && to === IPV4.serverLocator)).toEqual([]);
  });

  it("ends with its connection: a new one from the same port goes by the MUX, wherever that sends it", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(2)).toBe(4);
    const before = site.throughMuxes();
    site.vm("client", flow.fromClient("S seq=9000"));
    expect(site.throughMuxes()).toBe(before + 1);
    site.vm("server", flow.fromServer("SA"));
    expect(site.throughMuxes()).toBe(before + 2);
  });

  it("ends with its flow: another one that has its place in the table goes by the VIP", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(1)).toBe(2);
    site.hosts.server.flows.reset({}, () => undefined);
    site.wire = [];
    const segment = packetOf(`tcp ${IPV4.server}:8080 > ${IPV4.clientVip}:9999 A`);
    site.vm("server", segment); // in mid-stream: an entry by the machine's rule
    site.vm("server", segment);
    expect(site.hosts.server.telemetry.gauges().flows).toBe(1);
    expect(site.wire.filter(({ from }) => from === IPV4.serverLocator)).toEqual([]);
    expect(site.wire.filter(({ from }) => from === IPV4.serverVip)).toHaveLength(2);
  });

  it("is for what fits with an outer header: the rest goes by the VIP, where MUXes answer", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    const before = site.throughMuxes();
    site.vm("client", flow.fromClient("A data=1460"));
    expect(site.inbox.client.at(-1)!.packet[9], "ICMP: fragmentation needed").toBe(1);
    expect(site.throughMuxes(), "the segment and the answer").toBe(before + 2);
    expect(flow.client("A data=1440")).toBe(true);
    expect(site.throughMuxes()).toBe(before + 2);
  });

  it("is not for flows of a rule that keeps them", () => {
    const site = new FastpathSite(IPV4, { fastpath: false });
    const flow = new Connection(site).open();
    expect(flow.talk(5)).toBe(10);
    expect(site.throughMuxes()).toBe(13);
    expect(site.drops("server")["fastpath_off"]).toBe(1);
  });

  it("goes on under a new master key once host and MUX have it; until then nothing is believed, and nothing lost", () => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    expect(flow.talk(2)).toBe(4);
    const other = MASTER.map((byte) => byte ^ 0x55);
    site.changeMuxes(site.muxItems(other)[0]!);
    site.elapse(30_000);
    expect(flow.talk(2), "by the VIP").toBe(4);
    expect(site.drops("client")["fastpath_forged"]).toBe(1);
    expect(site.drops("server")["fastpath_forged"]).toBe(1);
    site.changeHost("client", site.hostDip("client", other));
    site.changeHost("server", site.hostDip("server", other));
    site.elapse(1_000);
    expect(flow.talk(1)).toBe(2);
    const before = site.throughMuxes();
    expect(flow.talk(5)).toBe(10);
    expect(site.throughMuxes()).toBe(before);
  });
});
