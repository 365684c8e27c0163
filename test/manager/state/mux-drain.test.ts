/** An operator takes MUXes off the routers and puts them back. */
import { expect, test } from "vitest";
import type { LogIndex, MuxId } from "../../../core/brands.js";
import type { CommandValue } from "../../../manager/state/commands/results.js";
import { createStateMachine } from "../../../manager/state/index.js";
import { LARGE, Site } from "./fixture.js";

const draining = (name: string, more: { readonly reason?: string; readonly force?: boolean } = {}) =>
  ({ kind: "drain-mux", name, reason: "kernel", force: false, ...more }) as const;
const undraining = (name: string) => ({ kind: "undrain-mux", name }) as const;

function twoMuxes(): Site {
  const site = new Site();
  site.bootstrap();
  site.join("mux-1", "192.0.2.1");
  site.join("mux-2", "192.0.2.2");
  return site;
}

const drain = (site: Site, name: string, more = {}): CommandValue => site.ok("mux-drained", draining(name, more));
const isTold = (site: Site, muxId: number): unknown => (site.muxView.get(`mux/${muxId}`) as { drained?: true }).drained;

test("a drained MUX is told so, and stays a live member that hosts believe", () => {
  const site = twoMuxes();
  expect(drain(site, "mux-1")).toEqual({ kind: "mux-drained", changed: true, announcing: 1 });
  expect([isTold(site, 1), isTold(site, 2)]).toEqual([true, undefined]);
  expect(site.machine.muxes()[0]).toMatchObject({ state: "live", drain: { reason: "kernel" } });
  expect(site.ok("mux-undrained", undraining("mux-1"))).toEqual({
    kind: "mux-undrained",
    changed: true,
    announcing: 2,
  });
  expect(isTold(site, 1)).toBeUndefined();
  expect(site.machine.muxes()[0]?.drain).toBeUndefined();
});

test("draining again replaces the reason alone, undraining again does nothing", () => {
  const site = twoMuxes();
  drain(site, "mux-1");
  const sinceMs = site.machine.muxes()[0]?.drain?.sinceMs;
  expect(drain(site, "mux-1", { reason: "new memory" })).toMatchObject({ changed: false, announcing: 1 });
  expect(site.last?.muxChanges).toEqual([]);
  expect(site.machine.muxes()[0]?.drain).toEqual({ reason: "new memory", sinceMs });
  site.ok("mux-undrained", undraining("mux-1"));
  expect(site.ok("mux-undrained", undraining("mux-1"))).toMatchObject({ changed: false, announcing: 2 });
});

test("the last MUX that announces is drained only by force; one that does not announce may always be", () => {
  const site = twoMuxes();
  drain(site, "mux-1");
  expect(site.refused(draining("mux-2"))).toMatchObject({ code: "FAILED_PRECONDITION", facts: { mux: "mux-2" } });
  expect(drain(site, "mux-2", { force: true })).toMatchObject({ announcing: 0 });
  site.ok("mux-undrained", undraining("mux-2"));
  // Lost and left MUXes announce nothing: the one that is left is the last.
  site.join("mux-3", "192.0.2.3");
  site.ok("none", { kind: "leave-mux", muxId: 3 as MuxId, incarnation: 1 });
  expect(site.refused(draining("mux-2")).code).toBe("FAILED_PRECONDITION");
  expect(drain(site, "mux-3")).toMatchObject({ changed: true, announcing: 1 });
});

test("the drain belongs to the name: it outlasts a loss, a new start and a snapshot", () => {
  const site = twoMuxes();
  drain(site, "mux-1");
  site.ok("none", { kind: "lose-mux", muxId: 1 as MuxId, incarnation: 1 });
  expect(site.machine.muxes()[0]).toMatchObject({ state: "lost", drain: { reason: "kernel" } });
  site.join("mux-1", "192.0.2.9", LARGE, "next");
  expect(isTold(site, 1)).toBe(true);
  const restored = createStateMachine();
  restored.restore(site.machine.snapshot(), site.index as LogIndex);
  expect(restored.muxes()).toEqual(site.machine.muxes());
  expect(restored.digest()).toBe(site.machine.digest());
});

test("a MUX that never joined is not known, and the answer says who is", () => {
  const site = new Site();
  site.bootstrap();
  expect(site.refused(draining("mux-1")).message).toBe("no MUX is named mux-1; no MUX ever joined");
  site.join("mux-2", "192.0.2.2");
  expect(site.refused(undraining("mux-1"))).toMatchObject({
    code: "NOT_FOUND",
    message: "no MUX is named mux-1; the MUXes are mux-2",
  });
});
