/** Listings in pages: nothing is left out or told twice, and no page outgrows a message. */
import { describe, expect, test } from "vitest";
import type { AnantaError } from "../../../core/errors.js";
import { objectPage } from "../../../manager/api/objects/pages.js";
import { wireObject } from "../../../manager/api/objects/status.js";
import { SnatService } from "../../../manager/api/snat-service.js";
import type { SnatSpace } from "../../../manager/state/state-machine.js";
import { ananta } from "../../../proto/gen/wire.js";
import { CALL, edge } from "../edge.js";
import { ip, pool, Site, smallSite, vip } from "../state/fixture.js";

/** VIPs 198.51.100.2 and on, each with one port range of each protocol. */
function manyVips(site: Site, vips: number): void {
  const dips = Array.from({ length: vips }, (_, n) => `10.1.${n >> 8}.${n & 255}`);
  site.register("host-1", dips);
  site.configure(
    ...dips.flatMap((dip, n) => [
      pool(`v${n}`, [dip]),
      vip(`v${n}`, `198.51.${101 + (n >> 8)}.${n & 255}`, { outbound: [`v${n}`] }),
    ]),
  );
  site.applyAll(dips.flatMap((dip) => [site.allocation(dip, 8, 6), site.allocation(dip, 8, 17)]));
}

function pages(site: Site): readonly (readonly string[])[] {
  const all: string[][] = [];
  for (let after: SnatSpace | null = null; ;) {
    const { blocks, end } = site.machine.snatPage({}, after);
    all.push(blocks.map(({ vip: address, protocol, range }) => `${address}/${protocol}/${range}`));
    if (end === null) return all;
    after = end;
  }
}

describe("the listing of SNAT ports", () => {
  test("is one page for a small site", () => {
    const site = smallSite();
    site.allocate("10.0.0.1", 8);
    expect(pages(site)).toEqual([["198.51.100.1/6/128"]]);
  });

  test("goes on behind the last (VIP, protocol), and all pages together are the whole", () => {
    const site = new Site();
    site.bootstrap();
    site.join("mux-1", "192.0.2.1");
    manyVips(site, 300);
    const all = pages(site);
    expect(all.map((page) => page.length)).toEqual([256, 256, 88]);
    expect(all.flat()).toEqual(
      site.machine.snatBlocks({}).map(({ vip: address, protocol, range }) => `${address}/${protocol}/${range}`),
    );
  });

  test("begins behind a place where nothing need be", () => {
    const site = new Site();
    site.bootstrap();
    site.join("mux-1", "192.0.2.1");
    manyVips(site, 200);
    const { end } = site.machine.snatPage({}, null);
    expect(end).toEqual({ vip: "198.51.101.127", protocol: 17 });
    expect(site.machine.snatPage({}, { vip: ip("198.51.101.128"), protocol: 6 }).blocks[0]).toMatchObject({
      vip: "198.51.101.128",
      protocol: 17,
    });
    const behindAll = site.machine.snatPage({}, { vip: ip("198.51.101.255"), protocol: 6 });
    expect(behindAll).toEqual({ blocks: [], end: null });
  });

  test("refuses a page that no answer gave", async () => {
    const { replica } = edge();
    const snat = new SnatService(replica);
    for (const page of ["x", "198.51.100.1", "198.51.100.1/5", "198.51.100.300/6"])
      await expect(snat.list({ stale: true, page }, CALL)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: `page: "${page}" is none; use next_page of the answer before`,
      } satisfies Partial<AnantaError>);
  });
});

/** As the listing has it. */
const PAGE_BYTES = 1 << 16;

describe("the listing of objects", () => {
  test("fills pages of 64 KiB, each well within a message, in order of (tenant, name)", () => {
    const site = new Site();
    site.bootstrap();
    const members = Array.from({ length: 600 }, (_, n) => `10.2.${n >> 8}.${n & 255}`);
    const names = Array.from({ length: 60 }, (_, n) => `pool-${String(n).padStart(2, "0")}`);
    site.configure(...names.map((name) => pool(name, members, { maxMembers: 600 })));
    const found: string[] = [];
    const sizes: number[] = [];
    let largest = 0;
    let page = "";
    do {
      const stored = site.machine.objects("BackendPool", null);
      const { objects, nextPage } = objectPage(stored, page, (object) => wireObject(object, site.machine, site.index));
      found.push(...objects.map(({ metadata }) => metadata?.name ?? ""));
      sizes.push(ananta.v1.ListResponse.encode({ objects: [...objects] }).finish().length);
      largest = Math.max(largest, ...objects.map((object) => ananta.v1.Object.encode(object).finish().length));
      page = nextPage;
    } while (page !== "");
    expect(found).toEqual(names);
    expect(sizes.length).toBeGreaterThan(1);
    const framing = 8 * names.length;
    expect(Math.max(...sizes)).toBeLessThan(PAGE_BYTES + largest + framing);
    for (const size of sizes.slice(0, -1)) expect(size).toBeGreaterThanOrEqual(PAGE_BYTES);
  });

  test("refuses a page that no answer gave", () => {
    expect(() => objectPage([], "x", () => ({}))).toThrow('page: "x" is none; use next_page of the answer before');
  });
});
