import { describe, expect, it } from "vitest";
import { tcp } from "../../packet/packet-kit.js";
import { MEMBER_DRAINING, type MuxPoolItem, type MuxPoolMember } from "../../../dataplane/mux-items.js";
import {
  dip,
  dipItem,
  equalMembers,
  MuxBench,
  poolItem,
  remove,
  ruleItem,
  SITE,
  SMALL_LAYOUT,
  snatItem,
  upsert,
  VIP,
  vipItem,
} from "./mux-kit.js";

describe("applying a delta", () => {
  const packet = tcp("198.51.100.7:40000", "203.0.113.20:80", "S");
  const manyRanges = Array.from({ length: SMALL_LAYOUT.snatRanges + 1 }, (_, i) => upsert(snatItem(1, 2_000 + i, 1)));
  const rows = [
    { description: "a table has no room", when: manyRanges, then: "full" },
    { description: "an address is none", when: [upsert(vipItem(4, "nowhere"))], then: "unsupported" },
    {
      description: "a locator is IPv6, and we have no such source",
      when: [upsert(dipItem(4, "2001:db8::1"))],
      then: "unsupported",
    },
    { description: "a locator is no address", when: [upsert(dipItem(4, "nowhere"))], then: "unsupported" },
  ] as const;
  it.each(rows)("puts none of it in force when $description", ({ when, then }) => {
    const bench = new MuxBench();
    const digest = bench.mux.tables.digest();
    expect(bench.change(upsert(vipItem(2, "203.0.113.20")), upsert(ruleItem(2, 80)), ...when)).toBe(then);
    expect(bench.send(packet)).toEqual([]);
    expect(bench.drops()).toEqual({ no_vip: 1 });
    expect([bench.mux.tables.index(), bench.mux.tables.digest()]).toEqual([1, digest]);
  });

  it("makes room first: what goes in the delta counts no more", () => {
    const bench = new MuxBench([...SITE, ...Array.from({ length: 15 }, (_, i) => snatItem(1, 2_000 + i, 1))]);
    expect(bench.change(upsert(snatItem(1, 3_000, 1)))).toBe("full");
    expect(bench.change(upsert(snatItem(1, 3_000, 1)), remove("snat/1/6/2000"))).toBe("in-force");
  });

  it("takes a pool of few whom hundreds have left, and drain beside those that serve", () => {
    const left = Array.from({ length: 655 }, (_, at): MuxPoolMember => ({
      dipId: dip(10 + at),
      weight: 0,
      state: MEMBER_DRAINING,
      backup: true,
    }));
    const bench = new MuxBench(SITE, { layout: { ...SMALL_LAYOUT, members: 1_000 } });
    const pool = { ...(poolItem(...equalMembers(1), ...left) as MuxPoolItem), maxMembers: 1 };
    expect(bench.change(upsert(pool))).toBe("in-force");
    expect(bench.send(tcp("198.51.100.7:40000", `${VIP}:80`, "S"))).toHaveLength(1);
  });

  it("hands a VIP's address over to another VIP in one delta", () => {
    const bench = new MuxBench();
    expect(bench.change(remove("vip/1"), upsert(vipItem(7, VIP)), upsert(ruleItem(7, 80)))).toBe("in-force");
    expect(bench.send(tcp("198.51.100.7:40000", `${VIP}:80`, "S"))).toHaveLength(1);
    expect([...bench.mux.telemetry.counters().vips.keys()]).toEqual([7]);
  });

  it("ends in the same tables by changes as by a snapshot", () => {
    const [one, two] = [new MuxBench([]), new MuxBench(SITE)];
    for (const item of SITE) expect(one.change(upsert(item))).toBe("in-force");
    expect(one.mux.tables.digest()).toBe(two.mux.tables.digest());
    expect([...one.mux.tables.items()]).toHaveLength(SITE.length);
    expect(one.mux.tables.adopt()).toEqual({ index: 1 + SITE.length, digest: two.mux.tables.digest() });
  });

  it("removes everything again", () => {
    const bench = new MuxBench();
    bench.snapshot([]);
    expect(bench.mux.tables.digest()).toBe("0000000000000000");
    expect(bench.mux.telemetry.gauges().entries).toMatchObject({
      vips: 0,
      rules: 0,
      pools: 0,
      dips: 0,
      "snat-ranges": 0,
    });
    bench.snapshot(SITE);
    expect(bench.send(tcp("198.51.100.7:40000", `${VIP}:80`, "S"))).toHaveLength(1);
  });
});
