/**
 * A VIP whose ports have run out, in a whole site on virtual time. One machine has opened many connections in a moment and owns many
 * more ports than it still uses; machines on the move own most of the rest, and nobody can be asked for theirs. A new machine asks: it is
 * told to wait, the first one is asked for a number of ranges, gives back idle ones and breaks nothing; they rest for 120 s, and the new
 * machine's connections go out. The leader dies in the middle.
 */
import { expect, it } from "vitest";
import { SERVER_PORT } from "../../fabric/site.js";
import { OPERATOR_GET, SNAT_ALLOCATE, SNAT_LIST, SNAT_REGISTER, SNAT_USAGE } from "../../manager/api/methods.js";
import { AnantaError } from "../../core/errors.js";
import { managerMetrics } from "../../manager/metrics.js";
import { Call } from "./call.js";
import { destination, poolObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";
const BUSY = "10.0.1.1";
const NEW = "10.0.2.1";
/** Machines of a third party's host, each with 512 ranges in the end or a few more. */
const MOVERS = Array.from({ length: 14 }, (_, at) => `10.0.9.${at + 1}`);
const bootOf = (start: number): string => `${start}`.padStart(32, "0");

it(
  "ports that a machine owns above its share go to one that lacks its own, and no connection breaks",
  { timeout: 240_000 },
  async () => {
    const site = await WholeSite.start(
      { name: "scarcity", hosts: [[BUSY], [NEW]], muxes: 2 },
      poolObject("web", [BUSY, ...MOVERS]),
      vipObject("web", VIP, { outbound: { pools: ["web"], maxPorts: 64_512 } }),
    );
    const { managers } = site;
    const leader = (): number => managers.leader() ?? 0;
    const usage = async () => {
      const { shares } = await managers.call(leader(), SNAT_USAGE, { vip: VIP });
      return new Map(
        (shares ?? []).flatMap((share) => (share.protocol === 6 ? [[share.dip ?? "", share] as const] : [])),
      );
    };
    const freeRanges = (): number =>
      managers
        .manager(leader())
        .state.snatUsage()
        .find(({ protocol }) => protocol === 6)?.free ?? 0;
    const contest = () => managers.manager(leader()).state.snatContests()[0];
    const metric = (name: string): number =>
      managerMetrics(managers.manager(leader()))
        .find((one) => one.name === name)!
        .read()
        .reduce((sum, { value }) => sum + value, 0);
    const condition = async (): Promise<string | null> => {
      const { object } = await managers.call(leader(), OPERATOR_GET, {
        ref: { kind: "Vip", tenant: "default", name: "web" },
      });
      const found = (object?.status?.conditions ?? []).find(({ type }) => type === "SnatPortsShared");
      return found === undefined ? null : `${found.reason ?? ""}: ${found.message ?? ""}`;
    };

    // The third party takes what is left, as others of whom nobody knows more.
    let sequence = 0;
    const origin = () => ({ session: bootOf(77), sequence: ++sequence });
    const movers = MOVERS.map((address) => ({ address, locator: address }));
    const { incarnation } = await managers.call(leader(), SNAT_REGISTER, {
      origin: origin(),
      host: "movers",
      bootId: bootOf(1),
      dips: movers,
    });
    const take = async (dip: string, ports: number): Promise<boolean> => {
      const ask = { origin: origin(), host: "movers", incarnation: incarnation ?? 0, dip, protocol: 6, ports };
      try {
        await managers.call(leader(), SNAT_ALLOCATE, ask);
        return true;
      } catch (caught) {
        expect(AnantaError.from(caught).code).toBe("SNAT_PORTS_EXHAUSTED");
        return false;
      }
    };
    for (const dip of MOVERS) await take(dip, 4_096);

    const talks = site.flows({
      flows: 400,
      opensPerSecond: 2_000,
      requestIntervalMs: 30_000,
      direction: "outbound",
      sources: [site.machine(1)],
      destinations: [destination(site.servers[0]!.address, SERVER_PORT)],
    });
    await site.untilOpen(talks, 400);
    const taking = new Set(MOVERS);
    while (freeRanges() > 0 && taking.size > 0)
      for (const dip of taking) if (!(await take(dip, 64))) taking.delete(dip);
    expect(freeRanges(), "nothing is left").toBe(0);
    // They move: their former host knows them no more, the next one does not yet.
    const { blocks } = await managers.call(leader(), SNAT_LIST, { vip: VIP });
    const heldRanges = (blocks ?? []).flatMap(({ block, dip }) =>
      block !== undefined && MOVERS.includes(dip ?? "") ? [{ block, dip: dip ?? "", tenant: "default" }] : [],
    );
    await managers.call(leader(), SNAT_REGISTER, {
      origin: { session: bootOf(78), sequence: 1 },
      host: "movers",
      bootId: bootOf(2),
      dips: [],
      heldRanges,
    });
    const before = (await usage()).get(BUSY)!.owned ?? 0;
    expect(before, "many more than 400 connections need").toBeGreaterThan(3_000);

    // A new machine: its reserve finds nothing.
    await site.apply(poolObject("web", [BUSY, ...MOVERS, NEW]));
    await site.world.runUntil(() => contest() !== undefined, 5_000, "the new machine waits");
    expect(contest()!.waiting.map(({ dip }) => dip.address)).toEqual([NEW]);
    expect(
      contest()!.asked.map(({ dip }) => dip.address),
      "who can give",
    ).toEqual([BUSY]);
    const asked = await usage();
    expect(asked.get(NEW)).toMatchObject({ owned: 0, waiting: contest()!.waiting[0]!.ranges * 8 });
    expect(asked.get(BUSY)!.recalled).toBe(contest()!.asked[0]!.ranges * 8);
    expect(await condition()).toMatch(/^Recalling: /);
    expect(metric("ananta_snat_recalled_ranges")).toBe(contest()!.asked[0]!.ranges);
    expect(metric("ananta_snat_waiting_ranges")).toBe(contest()!.waiting[0]!.ranges);
    const early = new Call(site, site.machine(2), destination(site.servers[0]!.address, SERVER_PORT));

    const former = leader();
    managers.kill(former);
    await site.world.runUntil(() => managers.leader() !== null, 5_000, "another leader");
    await site.world.runUntil(() => (contest()?.asked.length ?? 0) === 0, 10_000, "the ranges are given back");
    expect(early.end, "no connection waits for longer than 3 s").not.toBe("closed");
    await site.advance(5_000);
    const rest = managers
      .manager(leader())
      .state.snatUsage()
      .find(({ protocol }) => protocol === 6)!;
    expect(rest.quarantined, "what came back rests").toBeGreaterThanOrEqual(4);
    expect((await usage()).get(NEW)!.owned).toBe(0);
    expect(await condition()).toMatch(/^Resting: /);
    expect(talks.statistics()).toMatchObject({ open: 400, brokenCount: 0 });

    const sinceMs = site.nowMs;
    await managers.restart(former);
    for (let second = 0; second < 150 && contest() !== undefined; second++) await site.advance(1_000);
    expect(site.nowMs - sinceMs, "but not before they have rested").toBeGreaterThan(100_000);
    expect(contest(), "nobody waits any more").toBeUndefined();
    const late = new Call(site, site.machine(2), destination(site.servers[0]!.address, SERVER_PORT));
    await site.world.runUntil(() => late.end === "closed", 10_000, "its connection");
    expect(late.text).toContain(`saw=${VIP}:`);
    expect((await usage()).get(NEW)!.owned).toBeGreaterThanOrEqual(32);
    expect(talks.statistics()).toMatchObject({ open: 400, brokenCount: 0 });
    await site.stop();
  },
);
