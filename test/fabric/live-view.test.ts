import { describe, expect, it } from "vitest";
import type { IpAddress } from "../../core/brands.js";
import type { OwnedPorts, ReplicaView } from "../../fabric/control/manager-api.js";
import type { FlowStatistics } from "../../fabric/flow-generator.js";
import { renderView, Screen, summaryLine, type ViewModel } from "../../fabric/live-view.js";

const replica = (nodeId: number, role: string): ReplicaView => ({
  nodeId,
  clusterId: "c",
  role,
  term: 3,
  leader: 2,
  commitIndex: 120,
  appliedIndex: 120 - nodeId,
  muxSafeIndex: 118,
  pid: 1_000 + nodeId,
  digest: "",
  notVoting: "",
  muxes: [
    {
      name: "mux-1",
      state: "live",
      index: 118,
      packets: 12_345,
      flows: 40,
      vipsAnnounced: 1,
      drops: new Map([["no_vip", 2]]),
    },
  ],
  hosts: [{ name: "host-1", dips: ["10.1.1.1"], connectedHere: nodeId === 1 }],
});

const owned = (dip: string, count: number): OwnedPorts => ({
  vip: "203.0.113.10",
  protocol: "tcp",
  range: 128,
  count,
  tenant: "default",
  dip,
  host: "host-1",
  state: "owned",
});

const flows = (): FlowStatistics => ({
  opened: 90,
  answeredOnce: 90,
  open: 40,
  openedIpv6: 0,
  completedIpv6: 0,
  completed: 50,
  requests: 500,
  answers: 499,
  brokenCount: 0,
  broken: [],
  longestStallMs: 12,
  spread: new Map(),
});

const view: ViewModel = {
  elapsedMs: 61_000,
  status: {
    replicas: [replica(1, "follower"), replica(2, "leader"), null],
    vips: [
      {
        name: "demo",
        tenant: "default",
        address: "203.0.113.10",
        phase: "Ready",
        rules: ["tcp 80 -> demo-pool:8080", "udp 53 -> demo-pool:5353"],
        ownedRanges: 4,
        freeRanges: 8_050,
        quarantinedRanges: 1,
      },
    ],
    snat: [owned("10.1.1.1", 4), owned("10.1.1.2", 2)],
    dataPaths: new Map([
      ["mux-1", { counts: new Map([["relayed to peers", 6]]), drops: new Map([["no_rule", 4]]) }],
      ["host-1", { counts: new Map([["ended: idle", 5]]), drops: new Map() }],
    ]),
  },
  children: [
    { name: "manager-1", role: "manager", pid: 1_001 },
    { name: "manager-2", role: "manager", pid: 1_002 },
    { name: "manager-3", role: "manager", pid: null },
    { name: "mux-1", role: "mux", pid: 2_001 },
    { name: "host-1", role: "agent", pid: 3_001 },
  ],
  routes: [
    {
      mux: "mux-1",
      address: "10.255.0.1",
      wire: "127.0.0.1:7431",
      vips: ["203.0.113.10" as IpAddress],
      heardMsAgo: 80,
      packets: 12_000,
    },
  ],
  routerDrops: new Map([["no_route", 1]]),
  inbound: flows(),
  outbound: flows(),
  badPackets: 0,
  retransmissions: 3,
  events: Array.from({ length: 20 }, (_, n) => ({ atMs: n * 1_000, text: `event ${n}` })),
  dataFolder: ".ananta",
  endpoints: [],
};

const visible = (line: string): string => line.replace(/\u001b\[[0-9;]*m/g, "");

describe("live view", () => {
  it("fits any window: never more lines nor visible characters than there are", () => {
    for (const columns of [20, 80, 132]) {
      for (const rows of [5, 24, 60]) {
        for (const colour of [false, true]) {
          const lines = renderView(view, { columns, rows, colour });
          expect(lines.length).toBeLessThanOrEqual(rows);
          expect(Math.max(...lines.map((line) => visible(line).length))).toBeLessThanOrEqual(columns);
        }
      }
    }
  });

  it("shows replicas with pid, role, term and commit index, and says which one is down", () => {
    const text = renderView(view, { columns: 100, rows: 60, colour: false });
    expect(text.find((line) => line.includes("manager-2"))).toMatch(/1002 +leader +3 +120 +118 +2/);
    expect(text.find((line) => line.includes("manager-3"))).toMatch(/- +down/);
    expect(text).toContain("  mux-1       relayed to peers 6; dropped: no_rule 4");
    expect(text).toContain("  host-1      ended: idle 5");
    expect(text.find((line) => line.includes("mux-1"))).toMatch(/live +12,345 +40 +2 +1 VIP, 80 ms ago/);
    expect(text.find((line) => line.includes("host-1"))).toMatch(/connected +10\.1\.1\.1 32 +10\.1\.1\.2 16/);
    expect(text.find((line) => line.includes("203.0.113.10 ") && line.includes("Ready"))).toContain(
      "tcp 80 -> demo-pool:8080",
    );
    expect(text.join("\n")).toContain("npx ananta flow explain tcp 198.51.100.10:40000 203.0.113.10:80");
    expect(text.join("\n")).toContain("event 19");
  });

  it("keeps sections, traffic and commands in a window of 80 by 24", () => {
    const text = renderView(view, { columns: 80, rows: 24, colour: false }).join("\n");
    for (const part of ["MANAGER", "MUX", "HOST", "VIP", "TRAFFIC", "npx ananta snat list"])
      expect(text).toContain(part);
  });

  it("says where the Managers are when the command line would not find them", () => {
    const moved = { ...view, endpoints: [1, 2, 3, 4, 5].map((n) => `127.0.0.1:5200${n}`) };
    const line = "export ANANTA_ENDPOINTS=127.0.0.1:52001,127.0.0.1:52002,127.0.0.1:52003";
    for (const rows of [24, 60]) {
      expect(renderView(moved, { columns: 80, rows, colour: false }).join("\n")).toContain(line);
      expect(renderView(view, { columns: 80, rows, colour: false }).join("\n")).not.toContain("ANANTA_ENDPOINTS");
    }
  });

  it("uses colour codes only where asked", () => {
    expect(renderView(view, { columns: 80, rows: 40, colour: false }).join("")).not.toContain("\u001b");
    expect(renderView(view, { columns: 80, rows: 40, colour: true }).join("")).toContain("\u001b[1m");
  });

  it("tells in one plain line how the site is, for logs", () => {
    expect(summaryLine(view)).toContain("managers 2/3 | leader 2 (pid 1002), term 3, commit 120");
  });

  it("gives the terminal back as it was", () => {
    let written = "";
    const screen = new Screen({ write: (text) => (written += text) });
    screen.draw(["a", "b"]);
    screen.draw(["c"]);
    screen.close();
    screen.close();
    expect(written).toBe(
      "\u001b[?1049h\u001b[?25l\u001b[Ha\u001b[K\r\nb\u001b[K\u001b[J\u001b[Hc\u001b[K\u001b[J\u001b[?25h\u001b[?1049l",
    );
  });
});
