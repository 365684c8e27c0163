/**
 * Connections that machines open to the outside, by a VIP's ports: no packet leaves with a port that a MUX does not know yet, and
 * what comes back comes by a MUX. A whole site; the router sees every packet.
 */
import { expect, it } from "vitest";
import { SERVER_PORT } from "../../fabric/site.js";
import { read, readEncapsulated } from "../packet/packet-kit.js";
import { Call } from "./call.js";
import { destination, poolObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";

it("ports are on every MUX before the first packet that leaves by them; answers come back by MUXes", async () => {
  const site = await WholeSite.start(
    { name: "ports before packets", hosts: [["10.0.1.1"], ["10.0.2.1"]] },
    poolObject("web", ["10.0.1.1", "10.0.2.1"]),
    vipObject("web", VIP, { outbound: { pools: ["web"] } }),
  );
  const server = site.servers[0]!;
  const serverText = server.address;
  const owner = new Map<number, string>();
  const rangesOfMuxes = (): readonly ReadonlySet<number>[] =>
    site.muxes.map(
      (mux) =>
        new Set(
          [...mux.dataplane.tables.items()].flatMap((item) =>
            item.kind === "snat" && item.protocol === 6 ? [item.range] : [],
          ),
        ),
    );
  const inForceAtStart = rangesOfMuxes()[0]!.size;
  const unknown: string[] = [];
  const count = { syns: 0, answersByMux: 0, answersToHosts: 0 };
  site.tap((packet, { kind }) => {
    if (kind === "local") {
      const { source, flags, flow } = read(packet);
      expect(source, "nothing leaves untranslated").toBe(VIP);
      if (flags !== "S") return;
      count.syns++;
      const range = Number(/:(\d+) >/.exec(flow)?.[1]) >> 3;
      if (owner.has(range)) return;
      owner.set(range, flow);
      for (const [n, ranges] of rangesOfMuxes().entries())
        if (!ranges.has(range)) unknown.push(`${flow}: mux-${n + 1}`);
    } else if (kind === "mux") {
      if (read(packet).flags === "SA") count.answersByMux++;
    } else if (readEncapsulated(packet).inner.flags === "SA") count.answersToHosts++;
  });

  // To one destination, every connection needs a port of its own: far beyond the reserve.
  const calls = [1, 2].flatMap((host) =>
    Array.from({ length: 300 }, () => new Call(site, site.machine(host), destination(serverText, SERVER_PORT))),
  );
  await site.world.runUntil(() => calls.every(({ end }) => end === "closed"), 20_000, "all calls");

  expect(new Set(calls.map(({ text }) => /saw=(\S+)/.exec(text)?.[1])).size, "a port for each").toBe(600);
  expect(calls.filter(({ text }) => text.includes(`saw=${VIP}:`))).toHaveLength(600);
  expect(unknown).toEqual([]);
  expect(owner.size, "ranges were granted while packets waited").toBeGreaterThan(inForceAtStart);
  expect(count).toEqual({ syns: 600, answersByMux: 600, answersToHosts: 600 });
  await site.stop();
});
