import { describe, expect, it } from "vitest";
import type { FiveTuple } from "../../../packet/five-tuple.js";
import type { IpAddress, VipId } from "../../../core/brands.js";
import { readEncapsulated, read, tcp, udp } from "../../packet/packet-kit.js";
import {
  dip,
  dipItem,
  equalMembers,
  MUX_ADDRESS,
  MuxBench,
  poolItem,
  remove,
  SITE,
  snatItem,
  upsert,
  VIP,
  vipItem,
} from "./mux-kit.js";

const CLIENT = "198.51.100.7";
const from = (port: number): string => `${CLIENT}:${port}`;
const tuple = (port: number, toPort = 80): FiveTuple => ({
  protocol: 6,
  source: CLIENT as IpAddress,
  sourcePort: port,
  destination: VIP as IpAddress,
  destinationPort: toPort,
});

/** Locator that the MUX sends the packet to; "" when dropped. */
const locatorFor = (bench: MuxBench, packet: Uint8Array): string => {
  const [sent] = bench.send(packet);
  return sent === undefined ? "" : readEncapsulated(sent).outer.destination;
};

describe("a packet to a VIP", () => {
  it("leaves encapsulated to the DIP's locator, the inner packet untouched", () => {
    const packet = tcp(from(40_000), `${VIP}:80`, "S", { mss: 1460, ttl: 57 });
    const [sent] = new MuxBench().send(packet);
    const { outer, inner } = readEncapsulated(sent!);
    expect(outer.source).toBe(MUX_ADDRESS);
    expect(outer.destination).toMatch(/^10\.0\.0\.[1-4]$/);
    expect(inner.bytes).toEqual(packet);
  });

  it("goes where every other MUX would send it", () => {
    const [one, two] = [new MuxBench(), new MuxBench([...SITE].reverse(), { address: "192.0.2.2" as IpAddress })];
    const locators = new Set<string>();
    for (let port = 1_000; port < 1_010; port++) {
      const locator = locatorFor(one, tcp(from(port), `${VIP}:80`, "S"));
      expect(locatorFor(two, tcp(from(port), `${VIP}:80`, "S"))).toBe(locator);
      locators.add(locator);
    }
    expect(locators.size).toBeGreaterThan(1);
  });

  it("carries the flow hash in the low bits of the outer source where the prefix has room", () => {
    const bench = new MuxBench(SITE, { address: "192.0.2.0" as IpAddress, prefixBits: 24 });
    const sources = new Set<string>();
    for (let port = 1_000; port < 1_010; port++) {
      const [sent] = bench.send(tcp(from(port), `${VIP}:80`, "S"));
      const { source } = readEncapsulated(sent!).outer;
      expect(source).toMatch(/^192\.0\.2\./);
      sources.add(source);
    }
    expect(sources.size).toBeGreaterThan(5);
  });

  it("of a SNAT range goes to the range's owner, without a flow entry", () => {
    const bench = new MuxBench();
    for (const flags of ["SA", "A"]) {
      expect(locatorFor(bench, tcp("192.0.2.99:443", `${VIP}:10327`, flags))).toBe("10.0.0.3");
    }
    expect(bench.mux.telemetry.gauges().flows).toBe(0);
    bench.change(upsert(snatItem(1, 1_290, 2)));
    expect(locatorFor(bench, tcp("192.0.2.99:443", `${VIP}:10327`, "A"))).toBe("10.0.0.2");
  });
});

describe("drops", () => {
  const rows: readonly {
    description: string;
    given: () => MuxBench;
    when: Uint8Array;
    then: Record<string, number>;
  }[] = [
    {
      description: "before the hash key is known",
      given: () => new MuxBench(SITE.slice(1)),
      when: tcp(from(1), `${VIP}:80`, "S"),
      then: { not_ready: 1 },
    },
    {
      description: "no such VIP",
      given: () => new MuxBench(),
      when: tcp(from(1), "203.0.113.99:80", "S"),
      then: { no_vip: 1 },
    },
    {
      description: "neither rule nor range",
      given: () => new MuxBench(),
      when: tcp(from(1), `${VIP}:81`, "S"),
      then: { no_rule: 1 },
    },
    {
      description: "the rule's port, other protocol",
      given: () => new MuxBench(),
      when: udp(from(1), `${VIP}:80`),
      then: { no_rule: 1 },
    },
    {
      description: "a pool without members",
      given: () => new MuxBench([...SITE, poolItem()]),
      when: tcp(from(1), `${VIP}:80`, "S"),
      then: { no_dip: 1 },
    },
    {
      description: "a DIP without locator",
      given: () => new MuxBench([...SITE, poolItem(...equalMembers(9))]),
      when: tcp(from(1), `${VIP}:80`, "S"),
      then: { no_dip: 1 },
    },
    {
      description: "TTL 0",
      given: () => new MuxBench(),
      when: tcp(from(1), `${VIP}:80`, "S", { ttl: 0 }),
      then: { ttl_expired: 1 },
    },
    { description: "rubbish", given: () => new MuxBench(), when: Uint8Array.of(1, 2, 3), then: { bad_ip_header: 1 } },
  ];
  it.each(rows)("$description", ({ given, when, then }) => {
    const bench = given();
    expect(bench.send(when)).toEqual([]);
    expect(bench.drops()).toEqual(then);
  });

  it("tell the sender of a packet that is too long and must not be fragmented, a limited number of times", () => {
    const bench = new MuxBench();
    const packet = tcp(from(1), `${VIP}:80`, "A", { payload: new Uint8Array(1_441) });
    const answers = bench.send(...Array.from({ length: 120 }, () => packet));
    expect(answers).toHaveLength(100);
    const answer = read(answers[0]!);
    expect(answer.flow).toBe(`${VIP} > ${CLIENT}`);
    expect([answer.body[0], answer.body[1], answer.body[6]! * 256 + answer.body[7]!]).toEqual([3, 4, 1_480]);
    expect(bench.drops()).toEqual({ too_big: 120 });
  });
});

describe("a packet that is too long and may be fragmented", () => {
  it("leaves in pieces that fit, each encapsulated, the way its flow goes", () => {
    const bench = new MuxBench();
    const payload = Uint8Array.from({ length: 1_441 }, (_, i) => i & 255);
    const packet = tcp(from(1), `${VIP}:80`, "S", { payload, dontFragment: false });
    const sent = bench.send(packet).map(readEncapsulated);
    expect(sent.map(({ outer }) => outer.bytes.length <= 1_500)).toEqual([true, true]);
    expect(new Set(sent.map(({ outer }) => outer.destination)).size).toBe(1);
    const body = new Uint8Array(packet.length - 20);
    for (const { inner } of sent) body.set(inner.body, (new DataView(inner.bytes.buffer).getUint16(6) & 0x1fff) * 8);
    expect(body).toEqual(packet.slice(20));
    expect(bench.drops()).toEqual({});
  });
});

describe("flows", () => {
  /** A client port whose flow moves to another DIP when DIPs 5..8 take the place of 1..4. */
  const port = 40_000;

  it("stay on their DIP when the pool changes, once they have talked", () => {
    const bench = new MuxBench();
    const locator = locatorFor(bench, tcp(from(port), `${VIP}:80`, "S"));
    expect(locatorFor(bench, tcp(from(port), `${VIP}:80`, "A"))).toBe(locator);
    const others = [5, 6, 7, 8];
    bench.change(upsert(poolItem(...equalMembers(...others))), ...others.map((dipId) => upsert(dipItem(dipId))));
    expect(locatorFor(bench, tcp(from(port), `${VIP}:80`, "A"))).toBe(locator);
    expect(locatorFor(bench, tcp(from(port + 1), `${VIP}:80`, "S"))).toMatch(/^10\.0\.0\.[5-8]$/);
  });

  it("start anew with a SYN: the map decides, whatever the table says", () => {
    const bench = new MuxBench();
    bench.send(tcp(from(port), `${VIP}:80`, "S"), tcp(from(port), `${VIP}:80`, "A"));
    bench.change(upsert(poolItem(...equalMembers(5))), upsert(dipItem(5)));
    expect(locatorFor(bench, tcp(from(port), `${VIP}:80`, "S"))).toBe("10.0.0.5");
    expect(locatorFor(bench, tcp(from(port), `${VIP}:80`, "A"))).toBe("10.0.0.5");
  });

  it("follow a DIP that moves to another host", () => {
    const bench = new MuxBench([...SITE, poolItem(...equalMembers(1))]);
    bench.send(tcp(from(port), `${VIP}:80`, "S"), tcp(from(port), `${VIP}:80`, "A"));
    bench.change(upsert(dipItem(1, "10.7.7.7")));
    expect(locatorFor(bench, tcp(from(port), `${VIP}:80`, "A"))).toBe("10.7.7.7");
  });

  it("go to another DIP when theirs is gone from the site", () => {
    const bench = new MuxBench([...SITE, poolItem(...equalMembers(1))]);
    bench.send(tcp(from(port), `${VIP}:80`, "S"), tcp(from(port), `${VIP}:80`, "A"));
    bench.change(upsert(poolItem(...equalMembers(2))), remove("dip/1"), upsert(dipItem(9)));
    expect(locatorFor(bench, tcp(from(port), `${VIP}:80`, "A"))).toBe("10.0.0.2");
  });

  it("are untrusted after one packet or many SYNs, trusted after a second packet", () => {
    const bench = new MuxBench();
    const state = (): string | undefined => bench.mux.explain(tuple(port), { nowMs: bench.nowMs }).flow?.state;
    bench.send(tcp(from(port), `${VIP}:80`, "S"), tcp(from(port), `${VIP}:80`, "S"));
    expect(state()).toBe("untrusted");
    bench.send(tcp(from(port), `${VIP}:80`, "A"));
    expect(state()).toBe("trusted");
    bench.elapse(100_000);
    expect(state()).toBe("trusted");
    bench.elapse(140_000);
    expect(state()).toBeUndefined();
  });

  // A SYN flood must not take the entries of flows that talk, nor stop new ones from being served.
  it("of a flood fill the untrusted quota only; beyond it packets go by the map", () => {
    const bench = new MuxBench();
    bench.send(tcp(from(port), `${VIP}:80`, "S"), tcp(from(port), `${VIP}:80`, "A"));
    for (let flood = 0; flood < 100; flood++) {
      expect(bench.send(tcp(from(10_000 + flood), `${VIP}:80`, "S"))).toHaveLength(1);
    }
    const { entries } = bench.mux.telemetry.gauges();
    expect(entries).toMatchObject({ "flows-trusted": 1, "flows-untrusted": 16, "flows-refused": 84 });
    bench.elapse(10_000);
    expect(bench.mux.telemetry.gauges().entries).toMatchObject({ "flows-trusted": 1, "flows-untrusted": 0 });
  });

  it("survive a snapshot, and are listed by cursor and reset by filter", () => {
    const bench = new MuxBench();
    for (let i = 0; i < 10; i++) bench.send(tcp(from(port + i), `${VIP}:80`, "S"));
    bench.snapshot([...SITE, vipItem(2, "203.0.113.11")]);
    const ports: number[] = [];
    let cursor: number | null = 0;
    while (cursor !== null) {
      bench.mux.flows.list(cursor, 3, bench.nowMs, (flows, next) => {
        ports.push(...flows.map((flow) => flow.tuple.sourcePort));
        cursor = next;
      });
    }
    expect(ports.sort()).toEqual(Array.from({ length: 10 }, (_, i) => port + i));
    let count = -1;
    bench.mux.flows.reset({ vipId: 2 as VipId }, (reset) => (count = reset));
    expect(count).toBe(0);
    bench.mux.flows.reset({ vipId: 1 as VipId }, (reset) => (count = reset));
    expect(count).toBe(10);
    bench.mux.flows.lookUp(tuple(port), bench.nowMs, (flow) => expect(flow).toBeNull());
  });
});

describe("explaining a flow", () => {
  it("says what the packet then meets", () => {
    const bench = new MuxBench();
    const before = bench.mux.explain(tuple(40_000), { nowMs: 0 });
    expect(before).toMatchObject({ vipId: 1, poolId: 5, flow: null, drop: null });
    expect(before.why).toMatch(/^the flow table does not have it: hash 0x[0-9a-f]{8}$/);
    expect(locatorFor(bench, tcp(from(40_000), `${VIP}:80`, "S"))).toBe(before.locator);
    expect(bench.mux.explain(tuple(40_000), { nowMs: bench.nowMs }).why).toBe("the flow table has it, untrusted");
    expect(bench.mux.explain(tuple(40_000), { nowMs: bench.nowMs, syn: true }).why).toMatch(/^a SYN goes to the map/);
    expect(bench.mux.explain(tuple(443, 10_321), { nowMs: 0 })).toMatchObject({
      snatRange: 1_290,
      dipId: dip(3),
      locator: "10.0.0.3",
    });
    expect(bench.mux.explain(tuple(443, 99), { nowMs: 0 })).toMatchObject({ drop: "no_rule", dipId: null });
  });
});

describe("counters", () => {
  it("say what every VIP and DIP got", () => {
    const bench = new MuxBench([...SITE, poolItem(...equalMembers(2))]);
    bench.send(tcp(from(1), `${VIP}:80`, "S"), tcp(from(1), `${VIP}:81`, "S"));
    const counters = bench.mux.telemetry.counters();
    expect(counters.received).toEqual({ packets: 2, bytes: 80 });
    expect(counters.sent).toEqual({ packets: 1, bytes: 60 });
    expect(counters.vips.get(1 as VipId)).toEqual({ packets: 2, bytes: 80 });
    expect(counters.dips.get(dip(2))).toEqual({ packets: 1, bytes: 40 });
  });
});
