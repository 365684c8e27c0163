/** What it takes to withdraw a VIP for overload, and for how long. */
import { describe, expect, it } from "vitest";
import type { VipId } from "../../../core/brands.js";
import { Isolation, type IsolationFacts, type OverloadReport } from "../../../manager/stages/isolation.js";

const talker = (vipId: number, packetsPerSecond: number, share: number): OverloadReport["topTalkers"][number] => ({
  vipId: vipId as VipId,
  packetsPerSecond,
  share,
});
const report = (isOverloaded: boolean, topTalkers: OverloadReport["topTalkers"], mux = "mux-1"): OverloadReport => ({
  mux,
  bootId: "1".repeat(32),
  isOverloaded,
  packetsPerSecond: 10_000,
  capacity: 1_000,
  topTalkers,
});
const flood = report(true, [talker(1, 9_000, 900), talker(2, 100, 100)]);
const calm = report(false, [talker(2, 100, 100)]);

class World {
  readonly isolation = new Isolation();
  readonly neverWithdrawn = new Set<number>();
  withdrawn = 0;
  vips = 4;
  readonly #facts: IsolationFacts;

  constructor() {
    const facts = { restoreAfterSeconds: (vipId: VipId) => (this.neverWithdrawn.has(vipId) ? null : 60) };
    this.#facts = Object.defineProperties(facts, {
      vips: { get: () => this.vips },
      withdrawn: { get: () => this.withdrawn },
    }) as IsolationFacts;
  }

  /** Steps of 500 ms from `fromMs` up to and with `toMs`: what is withdrawn, at which time, for how long. */
  run(reports: readonly OverloadReport[], fromMs: number, toMs: number): readonly string[] {
    const done: string[] = [];
    for (let nowMs = fromMs; nowMs <= toMs; nowMs += 500) {
      const decision = this.isolation.step(reports, this.#facts, nowMs);
      if (decision === null) continue;
      done.push(`${decision.vipId} at ${nowMs} for ${decision.forSeconds} s by ${decision.muxes.join()}`);
    }
    return done;
  }
}

describe("a VIP that overloads MUXes", () => {
  it("is withdrawn after two seconds, for as long as its overload policy says", () => {
    expect(new World().run([flood, calm], 0, 2_000)).toEqual(["1 at 2000 for 60 s by mux-1"]);
  });

  it("is withdrawn for twice as long each time that it comes back within the hour, and then for a minute again", () => {
    const world = new World();
    const times = [0, 70_000, 200_000].map((fromMs) => {
      const withdrawn = world.run([flood], fromMs, fromMs + 2_000);
      world.run([calm], fromMs + 2_500, fromMs + 2_500);
      return withdrawn;
    });
    expect(times.flat()).toEqual([
      "1 at 2000 for 60 s by mux-1",
      "1 at 72000 for 120 s by mux-1",
      "1 at 202000 for 240 s by mux-1",
    ]);
    expect(world.run([flood], 4_050_000, 4_052_000)).toEqual(["1 at 4052000 for 60 s by mux-1"]);
  });

  it("is named by every overloaded MUX that sees it", () => {
    const other = report(true, [talker(1, 9_000, 900)], "mux-2");
    expect(new World().run([flood, other], 0, 2_000)).toEqual(["1 at 2000 for 60 s by mux-1,mux-2"]);
  });

  it("goes before one with less excess, and the next one only when its effect could show", () => {
    const world = new World();
    world.vips = 100;
    const two = report(true, [talker(1, 9_000, 900), talker(2, 4_000, 900)]);
    expect(world.run([two], 0, 2_000)).toEqual(["1 at 2000 for 60 s by mux-1"]);
    world.neverWithdrawn.add(1); // it is withdrawn
    expect(world.run([two], 2_500, 5_000)).toEqual(["2 at 4000 for 60 s by mux-1"]);
  });
});

describe("a VIP stays", () => {
  it("when the overload lasts a moment, or is one of other VIPs", () => {
    const world = new World();
    expect(world.run([flood], 0, 1_500)).toEqual([]);
    expect(world.run([calm], 2_000, 2_000)).toEqual([]);
    expect(world.run([report(true, [talker(3, 9_000, 900)])], 2_500, 4_000)).toEqual([]);
    expect(world.run([flood], 4_500, 6_000)).toEqual([]);
  });

  it("within twice its share, and on a MUX that is not overloaded", () => {
    const busy = report(true, [talker(1, 1_500, 900)]);
    const fast = report(false, [talker(1, 9_000, 900)]);
    expect(new World().run([busy, fast], 0, 10_000)).toEqual([]);
  });

  it("when its policy says so", () => {
    const world = new World();
    world.neverWithdrawn.add(1);
    expect(world.run([flood], 0, 10_000)).toEqual([]);
  });

  it("when a tenth of the VIPs is withdrawn already", () => {
    const world = new World();
    world.vips = 30;
    world.withdrawn = 3;
    expect(world.run([flood], 0, 10_000)).toEqual([]);
    world.withdrawn = 2;
    expect(world.run([flood], 10_500, 10_500)).toEqual(["1 at 10500 for 60 s by mux-1"]);
  });
});

it("a withdrawal that was not committed does not make the next one longer", () => {
  const world = new World();
  expect(world.run([flood], 0, 2_000)).toEqual(["1 at 2000 for 60 s by mux-1"]);
  const refused = { vipId: 1 as VipId, forSeconds: 60, muxes: [], packetsPerSecond: 0, share: 0 };
  world.isolation.refused(refused, 60);
  expect(world.run([flood], 2_500, 4_500)).toEqual(["1 at 4500 for 60 s by mux-1"]);
});
