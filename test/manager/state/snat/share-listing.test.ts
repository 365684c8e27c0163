/** Shares of SNAT ports, some VIPs at a time, beside what a walk over all DIPs finds. */
import { describe, expect, test } from "vitest";
import type { SnatShare, SnatSpace } from "../../../../manager/state/state-machine.js";
import { ip, pool, Site, vip } from "../fixture.js";

/** More (VIP, protocol) than one page looks at. */
const VIPS = 40;
const dipsOf = (at: number): readonly string[] => [`10.0.${at}.1`, `10.0.${at}.2`];
const addressOf = (at: number): string => `198.51.100.${at + 1}`;
const ALL = { vip: null, dip: null, tenant: null };

function site(): Site {
  const all = new Site();
  all.bootstrap();
  all.join("mux-1", "192.0.2.1");
  const numbers = Array.from({ length: VIPS }, (_, at) => at);
  all.configure(
    ...numbers.map((at) => pool(`pool-${at}`, dipsOf(at))),
    ...numbers.map((at) => vip(`vip-${at}`, addressOf(at), { outbound: [`pool-${at}`], maxPorts: 64 })),
    vip("both", "203.0.113.1", { outbound: ["pool-0", "pool-1"], maxPorts: 128 }),
  );
  all.register("host-1", numbers.flatMap(dipsOf));
  return all;
}

/** All pages, one after the other. */
function pagesOf(from: Site, filter: Parameters<Site["machine"]["snatShares"]>[0]): (readonly SnatShare[])[] {
  const pages: (readonly SnatShare[])[] = [];
  for (let after: SnatSpace | null = null; ;) {
    const { shares, end } = from.machine.snatShares(filter, after);
    pages.push(shares);
    if (end === null) return pages;
    after = end;
  }
}

const text = ({ vip: address, protocol, dip, owned, limit }: SnatShare): string =>
  `${address}/${protocol} ${dip.address} ${owned} of ${limit}`;

/** What every DIP may own, and does, without order. */
function naive(from: Site): readonly string[] {
  const { dips, outbound, snat } = from.machine.inspect();
  const lines = new Set<string>();
  for (const dip of dips.all())
    for (const { address, maxRanges } of outbound.vipsFor(dip))
      for (const protocol of [6, 17] as const) {
        const owned = snat.space(address, protocol)?.ownedBy(dip.dipId) ?? 0;
        lines.add(`${address}/${protocol} ${dip.address} ${owned} of ${maxRanges}`);
      }
  return [...lines].sort();
}

describe("shares of SNAT ports", () => {
  test("come in pages of whole (VIP, protocol), and all pages together name every DIP once", () => {
    const from = site();
    for (const at of [0, 3, 39]) from.allocate(dipsOf(at)[1] ?? "", 16);
    const pages = pagesOf(from, ALL);
    expect(pages.length).toBe(2);
    const lines = pages.flat().map(text);
    expect([...lines].sort()).toEqual(naive(from));
    const spaces = pages.map((page) => new Set(page.map(({ vip: address, protocol }) => `${address}/${protocol}`)));
    expect([...(spaces[0] ?? [])].filter((space) => spaces[1]?.has(space))).toEqual([]);
    const first = pages.flat().filter(({ vip: address, protocol }) => address === ip(addressOf(3)) && protocol === 6);
    expect(first.map(({ dip }) => dip.address)).toEqual([...dipsOf(3)].reverse()); // most owned first
  });

  test("of one VIP, one DIP or one tenant alone", () => {
    const from = site();
    const ofVip = pagesOf(from, { ...ALL, vip: ip("203.0.113.1") }).flat();
    expect(ofVip.map(({ dip }) => dip.address)).toEqual([...dipsOf(0), ...dipsOf(1), ...dipsOf(0), ...dipsOf(1)]);
    const ofDip = pagesOf(from, { ...ALL, dip: ip(dipsOf(0)[0] ?? "") }).flat();
    expect(ofDip.map(({ vip: address, protocol }) => `${address}/${protocol}`)).toEqual([
      "198.51.100.1/6",
      "198.51.100.1/17",
      "203.0.113.1/6",
      "203.0.113.1/17",
    ]);
    expect(pagesOf(from, { ...ALL, tenant: "nobody" }).flat()).toEqual([]);
    expect(pagesOf(from, { ...ALL, vip: ip("203.0.113.99") })).toEqual([[]]);
  });

  test("of a DIP that left the pool: what it still owns, and that it may get none any more", () => {
    const from = site();
    const [leaving = "", staying = ""] = dipsOf(5);
    from.allocate(leaving, 16);
    from.configure(pool("pool-5", [staying]));
    const rows = pagesOf(from, { ...ALL, vip: ip(addressOf(5)) }).flat();
    expect(rows.filter(({ protocol }) => protocol === 6).map(text)).toEqual([
      `${addressOf(5)}/6 ${leaving} 2 of 0`,
      `${addressOf(5)}/6 ${staying} 0 of 8`,
    ]);
  });
});
