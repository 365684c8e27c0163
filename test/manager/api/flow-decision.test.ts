/** What `flow explain` says is what a MUX does: the decision of the Managers beside the real pipeline, from the same state. */
import { describe, expect, test } from "vitest";
import type { DipId, IpAddress, LogIndex, Port } from "../../../core/brands.js";
import { decideFlow, type FlowTuple } from "../../../manager/api/flows/flow-decision.js";
import { createMuxDataplane } from "../../../mux/dataplane/mux-dataplane.js";
import { ip, pool, type Site, smallSite, vip } from "../state/fixture.js";
import { ruleSpec } from "../state/specs.js";

const flow = (destination: string, destinationPort: number, given: Partial<FlowTuple> = {}): FlowTuple => ({
  protocol: 6,
  source: ip(destination.includes(":") ? "2001:db8:9::9" : "203.0.113.9"),
  sourcePort: 40_000,
  destination: ip(destination),
  destinationPort,
  ...given,
});

/** DIP that a MUX with this site's view picks for a SYN; null: it drops it. */
function muxOf(site: Site): (tuple: FlowTuple) => DipId | null {
  const mux = createMuxDataplane({ address: "192.0.2.1" as IpAddress, addressIpv6: "2001:db8:fab::1" as IpAddress });
  mux.tables.apply({ kind: "snapshot", items: [...site.machine.muxItems()] }, 1 as LogIndex);
  return (tuple) => mux.explain(tuple, { nowMs: 0, syn: true }).dipId;
}

function site(): Site {
  const made = smallSite();
  made.joinWithIpv6("mux-1", "192.0.2.1", "2001:db8:fab::1");
  made.register("host-2", ["10.0.0.3", "10.0.0.4", "2001:db8::a", "2001:db8::b"]);
  const common = { pool: "spare", backendPort: 0 as Port };
  made.configure(
    pool("spare", ["10.0.0.3", "10.0.0.4*50"]),
    pool("down", ["10.0.0.3*0", "10.0.0.9"]),
    pool("six", ["2001:db8::a", "2001:db8::b"]),
    vip("mixed", "198.51.100.2", {
      spec: {
        rules: [
          ruleSpec({
            name: "http",
            protocol: "tcp_udp",
            port: 80 as Port,
            pool: "spare",
            backendPort: 8080 as Port,
            distribution: "clientIp",
          }),
          ruleSpec({ name: "rest", protocol: "all", port: 0 as Port, ...common }),
        ],
        inboundNat: [{ name: "ssh", protocol: "tcp", ports: "50000-50019", pool: "spare", backendPort: 22 as Port }],
      },
    }),
    vip("idle", "198.51.100.3", { rules: ["tcp/80 -> down"] }),
    vip("six", "2001:db8:1::1", { rules: ["udp/53 -> six"] }),
  );
  return made;
}

const said = (made: Site, tuple: FlowTuple): readonly string[] =>
  decideFlow(made.machine, tuple).steps.map(({ what, found }) => `${what}: ${found}`);

describe("the decision", () => {
  test("is that of a MUX, for a thousand flows of every kind", () => {
    const made = site();
    const [first = ""] = made.allocate("10.0.0.1", 8);
    const snatPort = Number(/:(\d+)-/.exec(first)?.[1]);
    const to = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.9", "2001:db8:1::1"];
    const ports = [80, 53, 50_000, 50_001, 50_019, 9_999, snatPort, snatPort + 7, snatPort + 8];
    const byMux = muxOf(made);
    let met = 0;
    for (let at = 0; at < 1_000; at++) {
      const tuple = flow(to[at % to.length] ?? "", ports[(at >> 3) % ports.length] ?? 0, {
        protocol: at % 3 === 0 ? 17 : 6,
        sourcePort: 1_024 + at,
      });
      const { dipId } = decideFlow(made.machine, tuple);
      expect(dipId, JSON.stringify(tuple)).toBe(byMux(tuple));
      if (dipId !== null) met++;
    }
    expect(met).toBeGreaterThan(200);
  });

  test("is told in names, with one notation of the hash", () => {
    const lines = said(site(), flow("198.51.100.1", 80));
    expect(lines.slice(0, 4)).toEqual([
      "vip: 198.51.100.1 is Vip default/web, announced by every live MUX",
      "router: spreads flows over 1 live MUXes by its own hash (ECMP): mux-1",
      'rule: "tcp-80" takes tcp port 80, pool web',
      "pool: default/web: 2 of 2 members take new flows",
    ]);
    expect(lines[4]).toMatch(/^hash: 0x[0-9a-f]{8} of the five-tuple -> slot \d+ of 2039, on every MUX$/);
    expect(lines[5]).toMatch(/^dip: 10\.0\.0\.[12] owns the slot$/);
    expect(lines.join(" ")).not.toContain(" id ");
  });

  test("names inbound NAT, the owner of a SNAT range, the all-port rule, and what nobody takes", () => {
    const made = site();
    expect(said(made, flow("198.51.100.2", 50_001))).toContain(
      'inbound-nat: "ssh": tcp port 50001 belongs to 10.0.0.4',
    );
    const [first = ""] = made.allocate("10.0.0.1", 8);
    const port = Number(/:(\d+)-/.exec(first)?.[1]);
    expect(said(made, flow("198.51.100.1", port + 3))).toContain(
      `snat-range: ports ${port}-${port + 7} belong to 10.0.0.1: an answer to a flow that it opened`,
    );
    expect(said(made, flow("198.51.100.2", 7))).toContain('rule: "rest" takes every other port, pool spare');
    expect(said(made, flow("198.51.100.1", 7)).at(-1)).toBe(
      "drop: nothing of the VIP takes tcp port 7: the packet is dropped",
    );
  });

  test("says why nobody serves, and that a withdrawn VIP is", () => {
    const made = site();
    expect(said(made, flow("198.51.100.3", 80))).toEqual([
      "vip: 198.51.100.3 is Vip default/idle, announced by every live MUX",
      "router: spreads flows over 1 live MUXes by its own hash (ECMP): mux-1",
      'rule: "tcp-80" takes tcp port 80, pool down',
      "pool: default/down: 0 of 2 members take new flows, 1 without a host",
      "dip: no member takes new flows: the packet is dropped",
    ]);
    made.ok("none", {
      kind: "withdraw-vip",
      tenant: "default",
      name: "idle",
      reason: "flood",
      forSeconds: 60,
      isOverload: false,
    });
    expect(said(made, flow("198.51.100.3", 80))[0]).toBe("vip: 198.51.100.3 is Vip default/idle, withdrawn: flood");
    expect(said(made, flow("198.51.100.9", 80))).toEqual([
      "vip: 198.51.100.9 is not a VIP: the packet is dropped, or reaches no MUX",
    ]);
  });
});
