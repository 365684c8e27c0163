/** An operator ends the open flows of one machine: exactly those, at both ends, on whichever MUX they are. */
import { expect, it } from "vitest";
import { OPERATOR_RESET_FLOWS } from "../../manager/api/methods.js";
import { BACKEND_PORT } from "../../fabric/site.js";
import { destination, MUXES, poolObject, ruleObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";

it("all flows of a DIP are reset, and no other; new ones reach it again", async () => {
  const hosts = [
    ["10.0.1.1", "10.0.1.2"],
    ["10.0.2.1", "10.0.2.2"],
  ];
  const site = await WholeSite.start(
    { name: "flow reset", hosts },
    poolObject("web", hosts.flat()),
    vipObject("web", VIP, { rules: [ruleObject(`tcp/80 -> web:${BACKEND_PORT}`)] }),
  );
  const toWeb = { destinations: [destination(VIP, 80)] };
  // Each connection is answered a few times, so the numbers that a reset needs are known.
  const open = site.flows({ flows: 400, requestIntervalMs: 500, ...toWeb });
  await site.untilOpen(open, 400);
  await site.advance(2_000);
  const machine = site.machine(1, 1);
  const chosen = machine.connectionCount;
  expect(chosen).toBeGreaterThan(60);
  const others = [site.machine(1, 2), site.machine(2, 1), site.machine(2, 2)];
  const before = others.map((other) => other.connectionCount);

  const asked = await site.managers.call(2, OPERATOR_RESET_FLOWS, { dip: "10.0.1.1" });
  expect(asked.hosts).toMatchObject([{ name: "host-1", flows: chosen, answered: true }]);
  expect(asked.muxes).toHaveLength(MUXES);
  expect(asked.muxes?.every(({ answered }) => answered === true)).toBe(true);
  expect(asked.muxes?.reduce((sum, { flows }) => sum + (flows ?? 0), 0)).toBe(chosen);

  await site.advance(200); // less than a client waits before it asks again
  const { brokenCount, broken } = open.statistics();
  expect(brokenCount).toBe(chosen);
  expect(new Set(broken.map(({ because }) => because))).toEqual(new Set(["reset"]));
  expect(machine.connectionCount, "the machine was reset, too").toBe(0);
  await site.advance(3_000);
  expect(others.map((other) => other.connectionCount)).toEqual(before);
  expect(open.statistics()).toMatchObject({ open: 400 - chosen, brokenCount: chosen });

  const again = site.flows({ flows: 100, ...toWeb });
  await site.untilOpen(again, 100);
  expect(machine.connectionCount).toBeGreaterThan(10);
  const nothing = await site.managers.refusal(1, OPERATOR_RESET_FLOWS, { dip: "10.0.9.9" });
  expect(nothing.code).toBe("NOT_FOUND");
  const everything = await site.managers.refusal(1, OPERATOR_RESET_FLOWS, {});
  expect(everything.code).toBe("INVALID_ARGUMENT");

  await site.apply(poolObject("web", [...hosts.flat(), "10.0.9.9"]));
  const homeless = await site.managers.call(3, OPERATOR_RESET_FLOWS, { dip: "10.0.9.9" });
  expect(homeless.hosts, "no host runs this DIP, so none is waited for").toEqual([]);
  expect(homeless.muxes).toHaveLength(MUXES);
  await site.stop();
});
