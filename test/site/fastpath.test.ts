/**
 * FastPath in a whole site with eight MUXes: services reach each other by their VIPs, and after the handshake the bytes go from host
 * to host. A switch of the rule moves the work back to the MUXes, and what is open goes on all the while, also when the
 * pool has changed and MUXes have died since the connection began.
 */
import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { BulkTransfer } from "../../fabric/bulk-transfer.js";
import type { ApiObject } from "../../fabric/control/manager-api.js";
import { BACKEND_PORT, BULK_PORT } from "../../fabric/site.js";
import { destination, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const CALLER_VIP = "203.0.113.20";
const SERVER_VIP = "203.0.113.10";
const BYTES = 10_000_000;
/** What the agents clamp it to. */
const MSS = 1_440;

const callers = (dips: readonly string[]): readonly ApiObject[] => [
  poolObject("callers", dips),
  vipObject("caller", CALLER_VIP, { outbound: { pools: ["callers"] } }),
];
const server = (target: string, fastpath: boolean): ApiObject =>
  vipObject("server", SERVER_VIP, { rules: [ruleObject(`tcp/80 -> servers:${target}`, { fastpath })] });

/** Segments that hosts sent straight to one another, by host. */
const sentDirectly = (site: WholeSite): readonly number[] =>
  site.agents.map((agent) => agent.dataplane.fastpath().sent);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

describe("services that reach each other by their VIPs", () => {
  it(
    "send less than a byte in a hundred by MUXes, and all of them once FastPath is off",
    { timeout: 300_000 },
    async () => {
      const site = await WholeSite.start(
        { name: "fastpath", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
        ...callers(["10.0.1.1"]),
        poolObject("servers", ["10.0.2.1"]),
        server(String(BULK_PORT), true),
      );
      /** Bytes that MUXes got while so many were uploaded. */
      const upload = async (): Promise<number> => {
        const before = site.muxTraffic().bytes;
        const transfer = new BulkTransfer(
          { source: site.machine(1), destination: destination(SERVER_VIP, 80), bytes: BYTES },
          createRandom(site.world.seed),
          () => site.nowMs,
        );
        await site.world.runUntil(() => transfer.result !== null || transfer.failure !== null, 60_000, "the upload");
        expect(transfer.failure).toBeNull();
        expect(transfer.result).toMatchObject({ isWhole: true, bytes: BYTES });
        return site.muxTraffic().bytes - before;
      };

      const withFastpath = await upload();
      await site.advance(500); // both FINs
      const [fromCaller = 0, fromServer = 0] = sentDirectly(site);
      expect(withFastpath / BYTES, "of all bytes").toBeLessThan(0.01);
      expect(fromCaller * MSS, "data").toBeGreaterThan(BYTES * 0.99);
      expect(fromServer, "and acknowledgements").toBeGreaterThan(100);
      expect(site.agents.map((agent) => agent.dataplane.fastpath().fellBack)).toEqual([0, 0]);

      // The work moves from the hosts back to the MUXes, and their counters show it.
      await site.apply(server(String(BULK_PORT), false));
      expect(await upload()).toBeGreaterThan(BYTES);
      expect(sentDirectly(site)).toEqual([fromCaller, fromServer]);
      await site.stop();
    },
  );

  it("keep their connections when FastPath ends for them on a MUX that never saw them, in a pool that has changed", async () => {
    const hosts = [["10.0.1.1", "10.0.1.2"], ["10.0.2.1"], ["10.0.3.1"], ["10.0.4.1"], ["10.0.5.1"]];
    const servers = hosts.slice(1).flat();
    const site = await WholeSite.start(
      { name: "fastpath and second chance", hosts },
      ...callers(hosts[0]!),
      poolObject("servers", servers.slice(0, 2)),
      server(String(BACKEND_PORT), true),
    );
    const flows = site.flows({
      direction: "outbound",
      flows: 100,
      requestIntervalMs: 1_000,
      sources: [site.machine(1, 1), site.machine(1, 2)],
      destinations: [destination(SERVER_VIP, 80)],
    });
    await site.untilOpen(flows, 100);
    await site.advance(3_000);
    const direct = sum(sentDirectly(site));
    expect(direct, "they go from host to host").toBeGreaterThan(200);

    // Other members own most slots now, and half of the MUXes that had the flows are gone.
    await site.apply(poolObject("servers", servers.slice(1)));
    for (const mux of [1, 2, 3, 4]) site.killMux(mux);
    await site.advance(3_000);
    await site.apply(server(String(BACKEND_PORT), false));
    // What a MUX told that is dead now holds until it runs out.
    await site.advance(35_000);
    expect(flows.statistics()).toMatchObject({ open: 100, broken: [] });
    const passed = sum(site.agents.map((agent) => agent.dataplane.secondChance().passed));
    expect(passed, "segments went from owner to owner").toBeGreaterThan(0);
    const after = sum(sentDirectly(site));
    await site.advance(3_000);
    expect(sum(sentDirectly(site)), "FastPath is over").toBe(after);
    await site.stop();
  });
});
