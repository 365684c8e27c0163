/**
 * The whole path in one process: client, MUX, agent, VM and back, and SNAT out and back. A router is imitated: what an agent
 * sends to the wire goes to the client, what is for the VIP goes to the MUX, what a MUX sends goes to the agent.
 *
 *     client --> MUX --IP-in-IP--> agent --> VM           inbound, and the return of SNAT
 *     client <------ direct ------ agent <-- VM           replies, and SNAT out
 */
import { describe, expect, it } from "vitest";
import type { IpAddress } from "../../core/brands.js";
import { MuxBench } from "../mux/dataplane/mux-kit.js";
import * as muxKit from "../mux/dataplane/mux-kit.js";
import { AgentBench } from "../agent/dataplane/agent-kit.js";
import * as hostKit from "../agent/dataplane/agent-kit.js";
import { packetOf, toHex } from "../packet/fixtures/notation.js";
import { read, readEncapsulated, tcp, udp } from "../packet/packet-kit.js";

const { VIP } = muxKit;
const RANGE = 2_000;

/** Two MUXes with the same items; DIP 1 on one host. */
function site(): { readonly muxes: readonly MuxBench[]; readonly agent: AgentBench } {
  const items = [
    muxKit.siteItem,
    muxKit.vipItem(1, VIP),
    muxKit.ruleItem(1, 80),
    muxKit.ruleItem(1, 53, 17),
    muxKit.poolItem(...muxKit.equalMembers(1)),
    muxKit.dipItem(1),
    muxKit.snatItem(1, RANGE, 1),
    muxKit.snatItem(1, RANGE, 1, 17),
  ];
  const muxes = ["192.0.2.1", "192.0.2.2"].map((address) => new MuxBench(items, { address: address as IpAddress }));
  const agent = new AgentBench([
    ...hostKit.HOST,
    hostKit.muxItem(2, "192.0.2.2"),
    hostKit.rangeItem(RANGE),
    hostKit.rangeItem(RANGE, 1, 17),
  ]);
  return { muxes, agent };
}

describe("the whole path", () => {
  it("carries a connection from a client to a VM and back, by whichever MUX", () => {
    const { muxes, agent } = site();
    const client = "198.51.100.7:40000";
    const steps = [
      { inbound: "S", reply: "SA" },
      { inbound: "A", reply: "A" },
      { inbound: "FA", reply: "FA" },
      { inbound: "A", reply: "A" },
    ];
    steps.forEach(({ inbound, reply }, i) => {
      const encapsulated = muxes[i % 2]!.send(tcp(client, `${VIP}:80`, inbound, inbound === "S" ? { mss: 1_460 } : {}));
      const { toVm } = agent.wire(...encapsulated);
      expect(toVm.map(read)).toMatchObject([{ flow: `${client} > 10.0.0.1:8080`, flags: inbound }]);
      const { toWire } = agent.vm(tcp("10.0.0.1:8080", client, reply));
      expect(toWire.map(read)).toMatchObject([{ flow: `${VIP}:80 > ${client}`, flags: reply }]);
    });
  });

  it("carries a connection of a VM out by SNAT and back by any MUX", () => {
    const { muxes, agent } = site();
    const remote = "192.0.2.200:443";
    const out = agent.vm(tcp("10.0.0.1:5000", remote, "S"));
    const { flow } = read(out.toWire[0]!);
    const vipPort = flow.split(" ")[0]!;
    expect(flow).toMatch(new RegExp(`^${VIP}:160\\d\\d > ${remote}$`));
    for (const mux of muxes) {
      const { toVm } = agent.wire(...mux.send(tcp(remote, vipPort, "SA")));
      expect(toVm.map(read)).toMatchObject([{ flow: `${remote} > 10.0.0.1:5000`, flags: "SA" }]);
    }
  });

  it("carries UDP both ways", () => {
    const { muxes, agent } = site();
    const inbound = agent.wire(...muxes[0]!.send(udp("198.51.100.7:40000", `${VIP}:53`)));
    expect(inbound.toVm.map(read)).toMatchObject([{ flow: "198.51.100.7:40000 > 10.0.0.1:53" }]);
    const question = agent.vm(udp("10.0.0.1:5000", "192.0.2.53:53"));
    const vipPort = read(question.toWire[0]!).flow.split(" ")[0]!;
    const answer = agent.wire(...muxes[1]!.send(udp("192.0.2.53:53", vipPort)));
    expect(answer.toVm.map(read)).toMatchObject([{ flow: "192.0.2.53:53 > 10.0.0.1:5000" }]);
  });

  it("keeps a client's datagrams, one a second, on one machine for ten minutes, by whichever MUX", () => {
    const items = [
      muxKit.siteItem,
      muxKit.vipItem(1, VIP),
      muxKit.ruleItem(1, 53, 17),
      muxKit.poolItem(...muxKit.equalMembers(1, 2, 3, 4)),
      ...[1, 2, 3, 4].map((dip) => muxKit.dipItem(dip)),
    ];
    const muxes = ["192.0.2.1", "192.0.2.2"].map((address) => new MuxBench(items, { address: address as IpAddress }));
    const dips = [1, 2, 3, 4].map((dip) => hostKit.dipItem(dip));
    const endpoints = [1, 2, 3, 4].map((dip) => hostKit.endpointItem(53, 53, dip, VIP, 17));
    const agent = new AgentBench([...dips, ...endpoints, hostKit.muxItem(), hostKit.muxItem(2, "192.0.2.2")]);
    const reached = new Set<string>();
    for (let second = 0; second < 600; second++) {
      const encapsulated = muxes[second % 2]!.send(udp("198.51.100.7:40000", `${VIP}:53`));
      const { destination } = readEncapsulated(encapsulated[0]!).outer;
      reached.add(destination);
      agent.wire(...encapsulated);
      const dip = Number(destination.split(".")[3]);
      const [answer] = agent.vmOf(dip, udp(`${destination}:53`, "198.51.100.7:40000")).toWire;
      expect(read(answer!).flow).toBe(`${VIP}:53 > 198.51.100.7:40000`);
      for (const bench of [...muxes, agent]) bench.elapse(1_000);
    }
    expect(reached.size).toBe(1);
  });

  /**
   * One link on the way to the host carries 1,300 bytes. The client tries with segments of 1,400, as its MSS allows: one is
   * lost to the router, which tells the MUX, and the next one is answered by the MUX with what fits.
   */
  it("over a link that is narrower than the fabric goes on with what fits, and every byte arrives", () => {
    const { muxes, agent } = site();
    const client = "198.51.100.7:40000";
    const LINK = 1_300;
    agent.wire(...muxes[0]!.send(tcp(client, `${VIP}:80`, "S", { mss: 1_460 })));
    let segment = 1_360;
    const counts = { router: 0, told: 0, arrived: 0 };
    for (let n = 0; n < 200; n++) {
      const mux = muxes[n % 2]!;
      // The client sends it again until it arrives, as long as it knows.
      for (let tries = 0; tries < 3; tries++) {
        const packet = tcp(client, `${VIP}:80`, "A", { payload: new Uint8Array(segment) });
        const [out] = mux.send(packet);
        const about = read(out!);
        if (about.protocol === 1) {
          expect(about.flow).toBe(`${VIP} > 198.51.100.7`);
          segment = new DataView(out!.buffer, out!.byteOffset).getUint16(26) - 40;
          counts.told++;
        } else if (out!.length > LINK) {
          const { source } = readEncapsulated(out!).outer;
          expect(mux.send(packetOf(`icmp 10.254.0.9 > ${source} 3/4 mtu=${LINK} ( raw ${toHex(out!)} )`))).toEqual([]);
          counts.router++;
        } else {
          counts.arrived += agent.wire(out!).toVm.length;
          break;
        }
      }
    }
    expect(counts).toEqual({ router: 1, told: 1, arrived: 200 });
    expect(segment).toBe(LINK - 20 - 40);
  });

  it("lets a VM reach its own VIP: as a flow from VIP to VIP, whose source is never the DIP", () => {
    const { muxes, agent } = site();
    const [out] = agent.vm(tcp("10.0.0.1:5000", `${VIP}:80`, "S")).toWire;
    const { toVm } = agent.wire(...muxes[0]!.send(out!));
    const arrived = read(toVm[0]!);
    expect(arrived.flow).toMatch(new RegExp(`^${VIP}:160\\d\\d > 10.0.0.1:8080$`));
    const [reply] = agent.vm(tcp("10.0.0.1:8080", `${arrived.source}:${arrived.flow.split(/[: ]/)[1]!}`, "SA")).toWire;
    expect(agent.wire(...muxes[0]!.send(reply!)).toVm.map(read)).toMatchObject([{ flow: `${VIP}:80 > 10.0.0.1:5000` }]);
  });
});
