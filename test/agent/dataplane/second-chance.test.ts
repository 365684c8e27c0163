// Second chance beyond single packets (those are packet fixtures): a restart, a flood, and what is counted.
import { describe, expect, it } from "vitest";
import type { DipId, IpAddress, LogIndex, PoolId, VipId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import type { HostItem } from "../../../dataplane/host-items.js";
import { PacketBatch } from "../../../dataplane/packet-batch.js";
import { createAgentDataplane } from "../../../agent/dataplane/agent-dataplane.js";
import { batchOf, encapsulate, packetsOf, read, SEED, tcp } from "../../packet/packet-kit.js";
import { AgentBench, DIP, endpointItem, HOST, MUX, SMALL_LAYOUT, VIP } from "./agent-kit.js";

const POOL = 1 as PoolId;
const FORMER = "10.0.0.9";
const owned = (revision: number, id: number, locator: string): readonly HostItem[] => {
  const dipId = id as DipId;
  return [
    { kind: "table", poolId: POOL, revision, maxMembers: 1, members: [{ dipId, weight: 1 }] },
    { kind: "owner", poolId: POOL, dipId, locator: locator as IpAddress },
  ];
};
/** DIP 1 has the slots that DIP 9 had. */
const ITEMS: readonly HostItem[] = [
  ...HOST,
  { kind: "site", hashKey: new Uint8Array(8) },
  { kind: "rule", poolId: POOL, vipId: 1 as VipId, vip: VIP as IpAddress, port: 80 },
  ...owned(1, 9, FORMER),
  ...owned(2, 1, DIP),
];
const segment = (port: number): Uint8Array => tcp(`198.51.100.7:${port}`, `${VIP}:80`, "A");

describe("a restarted host", () => {
  it("keeps its machine's flows, which it does not know, and passes on again when MUXes have forgotten silent ones", () => {
    const agent = createAgentDataplane({ random: createRandom(SEED), layout: SMALL_LAYOUT });
    const out = new PacketBatch();
    const arrive = (port: number, nowMs: number): readonly string[] => {
      out.clear();
      agent.processFromWire(batchOf(encapsulate(segment(port), MUX, DIP)), nowMs, out);
      return packetsOf(out).map((packet) => read(packet).destination);
    };
    agent.restarted();
    expect(agent.tables.apply({ kind: "snapshot", items: ITEMS }, 0 as LogIndex)).toBe("in-force"); // the rules of before
    expect(arrive(1_001, 5_000)).toEqual([DIP]); // before its first tick
    agent.tick(5_000, out);
    expect(agent.tables.apply({ kind: "snapshot", items: ITEMS }, 7 as LogIndex)).toBe("in-force"); // the Managers' view
    expect(arrive(1_002, 244_000)).toEqual([DIP]);
    expect(arrive(1_003, 246_000)).toEqual([FORMER]);
    expect(arrive(1_002, 246_000), "this one is known by now").toEqual([DIP]);
  });
});

describe("a host that starts for the first time", () => {
  it("passes on at once", () => {
    const bench = new AgentBench(ITEMS);
    expect(bench.fromMux(segment(1_001)).toWire).toHaveLength(1);
  });
});

describe("a host whose table has no room", () => {
  it("keeps the flows that it served without an entry: during a flood of SYNs, and until they have got one", () => {
    const bench = new AgentBench(ITEMS);
    const flood = Array.from({ length: SMALL_LAYOUT.flows / 2 }, (_, i) =>
      tcp(`192.0.2.77:${1_024 + i}`, `${VIP}:80`, "S"),
    );
    for (let i = 0; i < flood.length; i += 128) for (const syn of flood.slice(i, i + 128)) bench.fromMux(syn);
    expect(bench.fromMux(tcp("198.51.100.7:1001", `${VIP}:80`, "S")).toVm, "without an entry").toHaveLength(1);
    expect(bench.vm(tcp(`${DIP}:8080`, "198.51.100.7:1001", "SA")).toWire).toHaveLength(1);
    expect(bench.fromMux(segment(1_001)).toVm, "its handshake's end").toHaveLength(1);
    bench.elapse(31_000); // the flood's entries are over
    expect(bench.fromMux(segment(1_001)).toVm, "known from now on").toHaveLength(1);
    bench.vm(tcp(`${DIP}:8080`, "198.51.100.7:1001", "A"));
    expect(
      bench.wire(encapsulate(segment(1_002), FORMER, DIP)).toVm,
      "what an owner sends is on its way to others",
    ).toHaveLength(1);
    bench.elapse(240_000);
    expect(bench.fromMux(segment(1_003)).toWire.map((packet) => read(packet).destination)).toEqual([FORMER]);
    expect(bench.fromMux(segment(1_001)).toVm).toHaveLength(1);
  });
});

describe("segments without state", () => {
  it("are counted when they leave, come, and meet their flow", () => {
    const bench = new AgentBench(ITEMS);
    expect(bench.fromMux(segment(1_001)).toWire.map((packet) => read(packet).destination)).toEqual([FORMER]);
    bench.fromMux(tcp("198.51.100.7:1002", `${VIP}:80`, "S"));
    expect(bench.wire(encapsulate(segment(1_002), FORMER, DIP)).toVm).toHaveLength(1);
    expect(bench.wire(encapsulate(segment(1_003), FORMER, DIP)).toVm).toHaveLength(1); // nobody is left: the machine's to reset
    expect(bench.agent.secondChance()).toEqual({ passed: 1, received: 2, found: 1, ownersLeftOut: 0, forgotten: 0 });
    expect(bench.drops()).toEqual({});
  });

  it("are passed on 50,000 times a second and pool at most: a flood is not multiplied, and other pools do not pay for it", () => {
    const other = 2 as PoolId;
    const ofOther = ITEMS.flatMap((item): readonly HostItem[] =>
      item.kind === "rule"
        ? [{ ...item, poolId: other, port: 81 }]
        : "poolId" in item
          ? [{ ...item, poolId: other }]
          : [],
    );
    const bench = new AgentBench([...ITEMS, endpointItem(81, 8_081), ...ofOther]);
    const packets = Array.from({ length: 200 }, (_, i) => encapsulate(segment(1_000 + i), MUX, DIP));
    for (let i = 0; i < 300; i++) bench.wire(...packets);
    expect(bench.agent.secondChance().passed).toBe(50_000);
    expect(bench.drops()).toEqual({ second_chance_limit: 10_000 });
    expect(bench.fromMux(tcp("198.51.100.7:1001", `${VIP}:81`, "A")).toWire).toHaveLength(1);
    bench.elapse(100);
    for (let i = 0; i < 30; i++) bench.wire(...packets);
    expect(bench.agent.secondChance().passed).toBe(55_001);
  });
});

it("owners that are not asked, and tables that there was no room for, are counted", () => {
  const owners = Array.from({ length: 10 }, (_, n) => owned(10 + n, 20 + n, `10.0.9.${n + 1}`)).flat();
  const bench = new AgentBench([...ITEMS, ...owners]);
  bench.fromMux(segment(1_001));
  expect(bench.agent.secondChance()).toMatchObject({ ownersLeftOut: 1, forgotten: 0 });
  const small = new AgentBench([...ITEMS, ...owners], { layout: { ...SMALL_LAYOUT, owners: 4 } });
  expect(small.agent.secondChance().forgotten).toBe(8);
});
