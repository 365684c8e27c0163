import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.js";
import { testSeed } from "./virtual-world.js";
import { VirtualClock } from "./virtual-clock.js";

describe("the virtual clock", () => {
  it("runs events in the order of time, then of scheduling", async () => {
    const clock = new VirtualClock();
    const random = createRandom(testSeed("clock order"));
    const ran: { at: number; sequence: number }[] = [];
    for (let sequence = 0; sequence < 500; sequence++) {
      const at = random.below(50);
      const event = clock.schedule(at, () => ran.push({ at, sequence }));
      if (random.below(5) === 0) {
        event.cancel();
        event.cancel();
      }
    }
    await clock.advance(100);
    expect(clock.nowMs).toBe(100);
    expect(clock.pendingCount).toBe(0);
    expect(ran).toEqual([...ran].sort((a, b) => a.at - b.at || a.sequence - b.sequence));
  });

  it("finishes all promise work between two events of one instant", async () => {
    const clock = new VirtualClock();
    const story: string[] = [];
    clock.schedule(1, () => {
      story.push("first");
      const chain = async (): Promise<void> => {
        for (let i = 0; i < 20; i++) await Promise.resolve();
        await new Promise<void>((resolve) => queueMicrotask(resolve));
        story.push("its promises");
      };
      void chain();
    });
    clock.schedule(1, () => void story.push("second"));
    await clock.advance(1);
    expect(story).toEqual(["first", "its promises", "second"]);
  });

  it("stops at the moment a predicate holds, or at the limit", async () => {
    const clock = new VirtualClock();
    let count = 0;
    const tick = (): void => {
      count++;
      clock.schedule(10, tick);
    };
    tick();
    expect(await clock.runUntil(() => count === 4, 1_000)).toBe(30);
    expect(await clock.runUntil(() => false, 25)).toBeNull();
    expect(clock.nowMs).toBe(55);
  });

  it("forgets cancelled timers", async () => {
    const clock = new VirtualClock();
    for (let i = 0; i < 10_000; i++) clock.schedule(1_000, () => {}).cancel();
    expect(clock.pendingCount).toBe(0);
    expect(await clock.step()).toBe(false);
  });

  it("fails the run when an event throws", async () => {
    const clock = new VirtualClock();
    clock.schedule(1, () => {
      throw new Error("a defect");
    });
    await expect(clock.advance(5)).rejects.toThrow("a defect");
  });
});
