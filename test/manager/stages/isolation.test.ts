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
  /** Whatever is decided is committed at once. */
  answers = true;
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
      if (this.answers) this.isolation.committed(nowMs);
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

describe("while a withdrawal waits for its commit", () => {
  // A leader without a quorum, say: its proposals wait until their deadline.
  it("no other is decided, of the same VIP or of another, however long it takes", () => {
    const world = new World();
    world.answers = false;
    world.vips = 100;
    const two = report(true, [talker(1, 9_000, 900), talker(2, 4_000, 900)]);
    expect(world.run([two], 0, 20_000)).toEqual(["1 at 2000 for 60 s by mux-1"]);
  });

  it("the back-off does not grow, and its time counts from the commit", () => {
    const world = new World();
    world.answers = false;
    world.run([flood], 0, 10_000);
    world.isolation.committed(10_000);
    world.run([calm], 10_500, 60_000);
    world.answers = true;
    expect(world.run([flood], 70_000, 72_000)).toEqual(["1 at 72000 for 120 s by mux-1"]);
    world.run([calm], 72_500, 72_500);
    // Forgotten an hour after its end, 192,000.
    expect(world.run([flood], 3_789_500, 3_791_500)).toEqual(["1 at 3791500 for 240 s by mux-1"]);
  });

  it("the next one comes only when its effect could show", () => {
    const world = new World();
    world.answers = false;
    world.vips = 100;
    const two = report(true, [talker(1, 9_000, 900), talker(2, 4_000, 900)]);
    world.run([two], 0, 9_500);
    world.isolation.committed(9_600);
    world.neverWithdrawn.add(1); // it is withdrawn
    expect(world.run([two], 10_000, 12_000)).toEqual(["2 at 12000 for 60 s by mux-1"]);
  });
});

it("a withdrawal that was refused does not make the next one longer, which takes its time all the same", () => {
  const world = new World();
  world.answers = false;
  expect(world.run([flood], 0, 2_000)).toEqual(["1 at 2000 for 60 s by mux-1"]);
  world.isolation.refused(12_000);
  world.answers = true;
  expect(world.run([flood], 12_000, 14_500)).toEqual(["1 at 14000 for 60 s by mux-1"]);
});

it("a refusal after a withdrawal leaves the back-off where it was", () => {
  const world = new World();
  world.run([flood], 0, 2_000);
  world.run([calm], 2_500, 2_500);
  world.answers = false;
  expect(world.run([flood], 70_000, 72_000)).toEqual(["1 at 72000 for 120 s by mux-1"]);
  world.isolation.refused(72_000);
  world.answers = true;
  expect(world.run([flood], 72_500, 74_500)).toEqual(["1 at 74000 for 120 s by mux-1"]);
});
