/** FastPath at the hosts: messages that are not to be believed, and packets of hosts that are not let in. */
import { describe, expect, it } from "vitest";
import {
  FASTPATH_ADDRESS,
  FASTPATH_MESSAGE_BYTES,
  FASTPATH_PORT,
  fastpathHostKey,
  type FastpathMessage,
  readFastpathMessage,
  REVOKE,
  writeFastpathMessage,
} from "../../dataplane/fastpath-message.js";
import { formatIpv4 } from "../../core/address.js";
import type { Ipv4 } from "../../core/brands.js";
import { packetOf } from "../packet/fixtures/notation.js";
import { encapsulate, udp } from "../packet/packet-kit.js";
import { Connection, FastpathSite, IPV4, MASTER, type Seen } from "./fastpath-site.js";

const CLIENT_KEY = fastpathHostKey(MASTER, 30);
const SERVER_KEY = fastpathHostKey(MASTER, 10);
const MUX = "192.0.2.1";

/** The message for the host with this key in a packet, or null. */
const messageFor = (key: Uint8Array, { packet }: Seen): FastpathMessage | null =>
  readFastpathMessage(packet.slice(-FASTPATH_MESSAGE_BYTES), key);
const redirectedOf = (site: FastpathSite): number[] => [
  site.hosts.client.fastpath().redirected,
  site.hosts.server.fastpath().redirected,
];

describe("a message that is not to be believed", () => {
  /** A site with an open flow whose redirects were lost, and the client's. */
  function told(): { site: FastpathSite; message: FastpathMessage; flow: Connection; packet: Uint8Array } {
    const site = new FastpathSite();
    site.loses = (packet) => messageFor(CLIENT_KEY, packet) !== null || messageFor(SERVER_KEY, packet) !== null;
    const flow = new Connection(site).open();
    site.loses = () => false;
    const lost = site.wire.find((packet) => messageFor(CLIENT_KEY, packet) !== null)!;
    return { site, flow, message: messageFor(CLIENT_KEY, lost)!, packet: lost.packet };
  }
  const wrapped = (message: FastpathMessage, key: Uint8Array, source = MUX): Uint8Array => {
    const payload = new Uint8Array(FASTPATH_MESSAGE_BYTES);
    writeFastpathMessage(payload, 0, message, key);
    const to = `${formatIpv4((FASTPATH_ADDRESS >>> 0) as Ipv4)}:${FASTPATH_PORT}`;
    return encapsulate(udp(`${MUX}:${FASTPATH_PORT}`, to, payload), source, IPV4.clientLocator);
  };
  const dropsOfClient = (site: FastpathSite): Record<string, number> => site.drops("client");

  it("was taken before", () => {
    const { site, packet } = told();
    site.inject(packet);
    expect(dropsOfClient(site)).toEqual({});
    site.inject(packet);
    expect(dropsOfClient(site)).toEqual({ fastpath_replayed: 1 });
    expect(redirectedOf(site)).toEqual([1, 0]);
  });

  it.each([
    ["signed by the key of another host", (message) => wrapped(message, SERVER_KEY), "fastpath_forged"],
    ["not signed", (message) => wrapped(message, new Uint8Array(16)), "fastpath_forged"],
    ["from no MUX", (message) => wrapped(message, CLIENT_KEY, "10.0.0.1"), "unknown_encapsulator"],
    ["of a MUX that is not known", (message) => wrapped({ ...message, muxId: 99 }, CLIENT_KEY), "fastpath_stale"],
    ["about another machine", (message) => wrapped({ ...message, dipId: 77 }, CLIENT_KEY), "fastpath_stale"],
    [
      "about a flow that is not here",
      (message) => wrapped({ ...message, sourcePort: message.sourcePort + 1 }, CLIENT_KEY),
      "fastpath_stale",
    ],
    ["about the other end", (message) => wrapped({ ...message, end: 1 }, CLIENT_KEY), "fastpath_stale"],
    ["about a datagram flow", (message) => wrapped({ ...message, protocol: 17 }, CLIENT_KEY), "fastpath_stale"],
    ["a revocation of nothing", (message) => wrapped({ ...message, kind: REVOKE }, CLIENT_KEY), "fastpath_stale"],
    [
      "with a peer that an outer IPv4 header cannot name",
      (message) => wrapped({ ...message, peerLocator: [0x2001_0db8, 0, 0, 1] }, CLIENT_KEY),
      "fastpath_unreachable",
    ],
  ] as readonly [string, (message: FastpathMessage) => Uint8Array, string][])("%s", (_, of, reason) => {
    const { site, message, flow } = told();
    site.inject(of(message));
    expect(dropsOfClient(site)).toEqual({ [reason]: 1 });
    expect(flow.talk(2), "the flow goes on by the VIP").toBe(4);
    expect(redirectedOf(site)).toEqual([0, 0]);
  });

  it("of the MUX's earlier start, or older than what is known", () => {
    const { site, message } = told();
    site.inject(wrapped({ ...message, sequence: 10, incarnation: 7, index: 50 }, CLIENT_KEY));
    expect(redirectedOf(site)).toEqual([1, 0]);
    site.inject(wrapped({ ...message, sequence: 11, incarnation: 6, index: 50 }, CLIENT_KEY));
    expect(dropsOfClient(site)).toEqual({ fastpath_stale: 1 });
    // Of another MUX, which is behind.
    site.inject(wrapped({ ...message, muxId: 5, sequence: 1, index: 49 }, CLIENT_KEY));
    expect(dropsOfClient(site)).toEqual({ fastpath_stale: 2 });
    site.inject(wrapped({ ...message, muxId: 5, sequence: 2, index: 49, kind: REVOKE }, CLIENT_KEY));
    expect(dropsOfClient(site)).toEqual({ fastpath_stale: 3 });
    expect(redirectedOf(site)).toEqual([1, 0]);
  });

  it("of a host without a key: none is believed", () => {
    const { site, packet } = told();
    const { fastpathKey: _, ...withoutKey } = site.hostDip("client");
    site.changeHost("client", withoutKey);
    site.inject(packet);
    expect(dropsOfClient(site)).toEqual({ fastpath_forged: 1 });
  });

  it("is never for longer than a minute, whatever it says", () => {
    const { site, message, flow } = told();
    site.inject(wrapped({ ...message, lifetimeMs: 4_000_000_000 }, CLIENT_KEY));
    const ready = site.wire.filter(({ from }) => from === IPV4.clientLocator).length;
    expect(ready, "it says that it is ready").toBe(1);
    site.elapse(60_000);
    const before = site.throughMuxes();
    expect(flow.client("A")).toBe(true);
    expect(site.throughMuxes()).toBe(before + 1);
  });
});

describe("packets from host to host", () => {
  const packet = (text: string, from: string): Uint8Array =>
    packetOf(`ipip ${from} > ${IPV4.serverLocator} ( ${text} )`);

  it.each([
    ["of the flow, from a host that is not its peer", "10.0.0.9", (port) => `${port} > 203.0.113.10:80 A`],
    ["of another flow", "10.0.0.3", () => "203.0.113.20:9999 > 203.0.113.10:80 A"],
    ["that open a connection", "10.0.0.3", (port) => `${port} > 203.0.113.10:80 S`],
    ["to another port", "10.0.0.3", (port) => `${port} > 203.0.113.10:81 A`],
  ] as readonly [string, string, (port: string) => string][])("are refused: %s", (_, from, of) => {
    const site = new FastpathSite();
    const flow = new Connection(site).open();
    const arrived = site.inbox.server.length;
    const early = site.drops("server");
    site.inject(packet(`tcp ${of(`203.0.113.20:${flow.vipPort}`)}`, from));
    expect(site.drops("server")).toEqual({ ...early, unknown_encapsulator: 1 });
    expect(site.inbox.server).toHaveLength(arrived);
  });

  it("are refused before a redirect, and soon after its end", () => {
    const site = new FastpathSite();
    site.loses = (seen) => messageFor(SERVER_KEY, seen) !== null;
    const flow = new Connection(site).open();
    const direct = packet(`tcp 203.0.113.20:${flow.vipPort} > 203.0.113.10:80 A`, "10.0.0.3");
    site.inject(direct);
    expect(site.drops("server")["unknown_encapsulator"]).toBe(1);
    site.loses = () => false;
    site.elapse(1_000);
    expect(flow.talk(1)).toBe(2);
    const arrived = site.inbox.server.length;
    site.elapse(34_999);
    site.inject(direct);
    expect(site.inbox.server, "it was under way").toHaveLength(arrived + 1);
    site.elapse(1);
    site.inject(direct);
    expect(site.inbox.server).toHaveLength(arrived + 1);
  });

  it("never come from a machine: it cannot speak to hosts", () => {
    const site = new FastpathSite();
    const to = `${formatIpv4((FASTPATH_ADDRESS >>> 0) as Ipv4)}:${FASTPATH_PORT}`;
    site.vm("client", udp(`${IPV4.client}:${FASTPATH_PORT}`, to));
    site.vm(
      "client",
      packetOf(`ipip ${IPV4.client} > ${IPV4.serverLocator} ( tcp 203.0.113.20:1 > 203.0.113.10:80 A )`),
    );
    expect(site.drops("client")).toEqual({ reserved_address: 1, forbidden_protocol: 1 });
    expect(site.wire).toEqual([]);
  });
});
