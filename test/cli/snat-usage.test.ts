/** `ananta snat usage`: what is owned, and what hosts say of it. */
import { expect, it } from "vitest";
import { siteWithWeb } from "./site-with-web.js";

const share = (dip: string, more: object) => ({
  ...{ vip: "203.0.113.10", protocol: 6, tenant: "default", dip, host: `host-of-${dip.slice(-1)}` },
  ...{ owned: 64, guaranteed: 0, limit: 1_024, recalled: 0, waiting: 0, useAgeMs: 0 },
  ...more,
});

async function site(...shares: readonly object[]) {
  const made = await siteWithWeb("snat usage");
  made.shares = shares as typeof made.shares;
  return made;
}

it("shows what is in use, on hold and free, and how old that is", async () => {
  const { out } = await (await site(share("10.1.0.4", { inUse: 40, onHold: 8, useAgeMs: 4_200 }))).run("snat usage");
  const [header = "", row = ""] = out.split("\n");
  expect(header).toMatch(/HOST +OWNED +IN USE +ON HOLD +FREE +SEEN +GUARANTEED +LIMIT +RECALLED +WAITING/);
  expect(row).toMatch(/tcp +default +10\.1\.0\.4 +host-of-4 +64 +40 +8 +16 +4s ago +0 +1024 +0 +0/);
});

it("shows - where the host does not say, and sums as what it is at least", async () => {
  const made = await site(
    share("10.1.0.4", { inUse: 40, onHold: 8, useAgeMs: 4_200 }),
    share("10.1.0.5", {}),
    share("10.1.0.6", { owned: 0 }),
  );
  const rows = (await made.run("snat usage")).out.split("\n").map((line) => line.trim().split(/ {2,}/).slice(4, 10));
  expect(rows[2]).toEqual(["host-of-5", "64", "-", "-", "-", "-"]);
  expect(rows[3]!.slice(0, 5), "who owns none has none in use").toEqual(["host-of-6", "0", "0", "0", "0"]);
  expect((await made.run("snat usage --by vip")).out).toMatch(/tcp +3 +128 +>=40 +>=8 +>=16 +4s ago/);
  const [first, second] = (JSON.parse((await made.run("snat usage -o json")).out) as { items: object[] }).items;
  expect(first).toMatchObject({ owned: 64, inUse: 40, onHold: 8, free: 16, useAgeMs: 4_200, unreported: 0 });
  expect(second).toMatchObject({ owned: 64, inUse: null, onHold: null, free: null, unreported: 64 });
});
