/**
 * MUXes that the Managers no longer reach, while clients and the other MUXes still do. To such a MUX it looks as if the Managers were
 * gone; its peers tell it that they are not.
 */
import { afterEach, describe, expect, it } from "vitest";
import type { Port } from "../../core/brands.js";
import { STALE_MS, WORD_MS } from "../../mux/peers/staleness.js";
import { address, MUXES, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const OTHER = "203.0.113.11";
const DIPS = ["10.0.1.1", "10.0.2.1"];
/** A MUX is declared lost: until then its silence holds up what all MUXes must have. */
const LOST_MS = 3_500;

const vip = (name: string, at: string) => ({
  metadata: { name },
  vip: { address: at, rules: [{ name: "http", protocol: 6, port: 80, pool: "web", backendPort: 8_080 }] },
});
const OBJECTS = [
  { metadata: { name: "web" }, backendPool: { members: DIPS.map((dip) => ({ dip })) } },
  vip("web", VIP),
];

let site: WholeSite | null = null;

async function start(name: string): Promise<WholeSite> {
  site = await WholeSite.start({ name, hosts: DIPS.map((dip) => [dip]) }, ...OBJECTS);
  return site;
}

function cutOff({ world, managers }: WholeSite, mux: number): void {
  for (const { nodeId } of managers.replicas) world.cut(`mux-${mux}`, `manager-${nodeId}`);
}

const membership = ({ muxes }: WholeSite): readonly string[] => muxes.map((mux) => mux.status().membership);
const stale = (of: WholeSite): number => membership(of).filter((kind) => kind === "stale").length;

afterEach(async () => {
  await site?.stop();
  site = null;
});

describe("a MUX that is cut off from all Managers", () => {
  it("goes on as long as nothing changes, withdraws when its peers have left it behind, and comes back", async () => {
    const here = await start("stale MUX");
    const flows = here.flows({ flows: 100, destinations: [{ address: address(VIP), port: 80 as Port }] });
    await here.untilOpen(flows, 100);
    cutOff(here, 8);
    const cutAtMs = here.nowMs;
    await here.apply(vip("other", OTHER)); // in force once the MUX is lost
    expect(here.nowMs - cutAtMs).toBeGreaterThan(LOST_MS - 500);
    await here.world.runUntil(() => stale(here) === 1, STALE_MS + 2_000, "the MUX is stale");
    expect(here.muxes[7]!.status()).toMatchObject({ membership: "stale", lease: "over", announced: [] });
    await here.advance(500);
    expect([here.nextHops(VIP), here.nextHops(OTHER)]).toEqual([MUXES - 1, MUXES - 1]);
    await here.advance(10_000);
    expect(stale(here)).toBe(1);
    here.world.heal();
    await here.world.runUntil(() => here.nextHops(OTHER) === MUXES, 15_000, "the MUX is back");
    expect(membership(here).every((kind) => kind === "announcing")).toBe(true);
    expect(flows.statistics()).toMatchObject({ open: 100, brokenCount: 0 });
    here.remove(flows);
  });

  it("stays when more than half of the pool is in the same place: the pool is never taken below half", async () => {
    const here = await start("stale half");
    for (const mux of [4, 5, 6, 7, 8]) cutOff(here, mux);
    await here.apply(vip("other", OTHER));
    await here.advance(STALE_MS + WORD_MS + 5_000);
    expect([stale(here), here.nextHops(VIP)]).toEqual([0, MUXES]);
    // One of them comes back: now half of the pool is ahead of the four others.
    for (const { nodeId } of here.managers.replicas) here.world.mend("mux-4", `manager-${nodeId}`);
    await here.world.runUntil(() => stale(here) === 4, 20_000, "the others are stale");
    await here.advance(1_000);
    expect(here.nextHops(VIP)).toBe(4);
    here.world.heal();
    await here.world.runUntil(() => here.nextHops(OTHER) === MUXES, 15_000, "all are back");
  });
});

it("without any Manager all MUXes go on: nobody is ahead of anybody", async () => {
  const here = await start("no managers, no stale MUX");
  const flows = here.flows({ flows: 50, destinations: [{ address: address(VIP), port: 80 as Port }] });
  await here.untilOpen(flows, 50);
  for (const { nodeId } of here.managers.replicas) here.managers.kill(nodeId);
  await here.advance(30_000);
  expect([stale(here), here.nextHops(VIP)]).toEqual([0, MUXES]);
  expect(here.muxes.every((mux) => mux.status().peers.heard === MUXES - 1)).toBe(true);
  expect(flows.statistics()).toMatchObject({ open: 50, brokenCount: 0 });
  here.remove(flows);
  for (const { nodeId } of here.managers.replicas) await here.managers.restart(nodeId);
  await here.world.runUntil(() => here.managers.leader() !== null, 10_000, "a leader");
  await here.advance(5_000);
  expect([stale(here), here.nextHops(VIP)]).toEqual([0, MUXES]);
});
