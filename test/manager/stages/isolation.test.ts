/** What it takes to withdraw a VIP for overload; for how long is `test/manager/state/overload-backoff.test.ts`. */
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
    const facts = { mayGo: (vipId: VipId) => !this.neverWithdrawn.has(vipId), vips: 0, withdrawn: 0 };
    this.#facts = Object.defineProperties(facts, {
      vips: { get: () => this.vips },
      withdrawn: { get: () => this.withdrawn },
    });
  }

  /** Steps of 500 ms from `fromMs` up to and with `toMs`: what is withdrawn, at which time. */
  run(reports: readonly OverloadReport[], fromMs: number, toMs: number): readonly string[] {
    const done: string[] = [];
    for (let nowMs = fromMs; nowMs <= toMs; nowMs += 500) {
      const decision = this.isolation.step(reports, this.#facts, nowMs);
      if (decision === null) continue;
      if (this.answers) this.isolation.committed(nowMs);
      done.push(`${decision.vipId} at ${nowMs} by ${decision.muxes.join()}`);
    }
    return done;
  }
}

describe("a VIP that overloads MUXes", () => {
  it("is withdrawn after two seconds", () => {
    expect(new World().run([flood, calm], 0, 2_000)).toEqual(["1 at 2000 by mux-1"]);
  });

  it("is named by every overloaded MUX that sees it", () => {
    const other = report(true, [talker(1, 9_000, 900)], "mux-2");
    expect(new World().run([flood, other], 0, 2_000)).toEqual(["1 at 2000 by mux-1,mux-2"]);
  });

  it("goes before one with less excess, and the next one only when its effect could show", () => {
    const world = new World();
    world.vips = 100;
    const two = report(true, [talker(1, 9_000, 900), talker(2, 4_000, 900)]);
    expect(world.run([two], 0, 2_000)).toEqual(["1 at 2000 by mux-1"]);
    world.neverWithdrawn.add(1); // it is withdrawn
    expect(world.run([two], 2_500, 5_000)).toEqual(["2 at 4000 by mux-1"]);
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
    expect(world.run([flood], 10_500, 10_500)).toEqual(["1 at 10500 by mux-1"]);
  });
});

describe("while a withdrawal waits for its commit", () => {
  // A leader without a quorum, say: its proposals wait until their deadline.
  it("no other is decided, of the same VIP or of another, however long it takes", () => {
    const world = new World();
    world.answers = false;
    world.vips = 100;
    const two = report(true, [talker(1, 9_000, 900), talker(2, 4_000, 900)]);
    expect(world.run([two], 0, 20_000)).toEqual(["1 at 2000 by mux-1"]);
  });

  it("the next one comes only when its effect could show", () => {
    const world = new World();
    world.answers = false;
    world.vips = 100;
    const two = report(true, [talker(1, 9_000, 900), talker(2, 4_000, 900)]);
    world.run([two], 0, 9_500);
    world.isolation.committed(9_600);
    world.neverWithdrawn.add(1); // it is withdrawn
    expect(world.run([two], 10_000, 12_000)).toEqual(["2 at 12000 by mux-1"]);
  });
});

it("after a refusal, too", () => {
  const world = new World();
  world.answers = false;
  expect(world.run([flood], 0, 2_000)).toEqual(["1 at 2000 by mux-1"]);
  world.isolation.refused(12_000);
  world.answers = true;
  expect(world.run([flood], 12_000, 14_500)).toEqual(["1 at 14000 by mux-1"]);
});
