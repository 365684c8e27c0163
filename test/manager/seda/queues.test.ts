import { describe, expect, test } from "vitest";
import { createRandom } from "../../../core/random.js";
import { DrainQueue } from "../../../manager/seda/drain-queue.js";
import { FairQueue } from "../../../manager/seda/fair-queue.js";

describe("the queue of drain tasks in the shared pool", () => {
  const task =
    (name: string): (() => Promise<string>) =>
    () =>
      Promise.resolve(name);

  test("the most urgent level goes first, and a level is first in, first out", async () => {
    const queue = new DrainQueue();
    for (const [name, priority] of [
      ["snat-1", 5],
      ["vip", 3],
      ["snat-2", 5],
      ["mux", 0],
    ] as const)
      queue.enqueue(task(name), { priority });
    const order: unknown[] = [];
    for (let run = queue.dequeue(); run !== undefined; run = queue.dequeue()) order.push(await run());
    expect(order).toEqual(["mux", "vip", "snat-1", "snat-2"]);
    expect(queue.size).toBe(0);
  });

  test("it is bounded: a stage that schedules without end is a defect that shows", () => {
    const queue = new DrainQueue();
    expect(() => {
      for (let count = 0; count < 1_000; count++) queue.enqueue(task("again"), { priority: 1 });
    }).toThrow("one drain task at a time");
  });
});

describe("a stage's fair queue", () => {
  test("where the newest counts, a key that fills the queue loses its oldest, for as long as nobody takes anything out", () => {
    const queue = new FairQueue<number>(4, { dropOldest: true });
    const dropped: (number | null)[] = [];
    for (let item = 0; item < 1_000; item++) dropped.push(queue.offer("host", item));
    expect(dropped.slice(0, 4)).toEqual([null, null, null, null]);
    expect(dropped.slice(4)).toEqual(Array.from({ length: 996 }, (_, oldest) => oldest));
    expect(Array.from({ length: queue.length }, () => queue.poll())).toEqual([996, 997, 998, 999]);
    expect(queue.poll()).toBeUndefined();
  });

  test("a key that floods delays itself, not the others", () => {
    const queue = new FairQueue<string>(100);
    for (let count = 0; count < 50; count++) queue.offer("abuser", `a${count}`);
    queue.offer("quiet", "q0");
    queue.offer("quiet", "q1");
    expect([queue.poll(), queue.poll(), queue.poll(), queue.poll()]).toEqual(["a0", "q0", "a1", "q1"]);
  });

  test("who fills the queue alone is refused, and nothing is lost or added", () => {
    const queue = new FairQueue<number>(2);
    expect([queue.offer("k", 1), queue.offer("k", 2), queue.offer("k", 3)]).toEqual([null, null, 3]);
    expect([queue.poll(), queue.poll(), queue.poll()]).toEqual([1, 2, undefined]);
    expect(queue.offer("k", 4)).toBeNull();
  });

  test("in a full queue a newcomer takes the place of the flood's newest item, until both have as much", () => {
    const queue = new FairQueue<string>(4);
    for (let count = 0; count < 4; count++) queue.offer("abuser", `a${count}`);
    expect([queue.offer("quiet", "q0"), queue.offer("quiet", "q1"), queue.offer("quiet", "q2")]).toEqual([
      "a3",
      "a2",
      "q2",
    ]);
    expect(queue.length).toBe(4);
    expect(Array.from({ length: 5 }, () => queue.poll())).toEqual(["a0", "q0", "a1", "q1", undefined]);
  });

  test("it agrees with a naive model over random offers and polls", () => {
    const seed = Number(process.env["ANANTA_TEST_SEED"] ?? 20_131);
    const random = createRandom(seed);
    const queue = new FairQueue<number>(40);
    const model = new Map<string, number[]>();
    let turns: string[] = [];
    let length = 0;
    for (let step = 0; step < 20_000; step++) {
      if (random.below(2) === 0) {
        const key = `k${random.below(5)}`;
        const own = model.get(key)?.length ?? 0;
        const most = Math.max(0, ...[...model.values()].map((lane) => lane.length));
        const longest = [...model.values()].find((lane) => lane.length === most);
        let left: number | null = null;
        if (length === 40) left = most > own + 1 ? (longest?.pop() ?? null) : step;
        expect(queue.offer(key, step), `seed ${seed} step ${step}`).toBe(left);
        if (left === step) continue;
        if (left !== null) length--;
        if (!model.has(key)) {
          model.set(key, []);
          turns.push(key);
        }
        model.get(key)?.push(step);
        length++;
      } else {
        const key = turns.shift();
        const lane = key === undefined ? undefined : model.get(key);
        const expected = lane?.shift();
        if (key !== undefined && lane !== undefined) {
          if (lane.length > 0) turns = [...turns, key];
          else model.delete(key);
          length--;
        }
        expect(queue.poll(), `seed ${seed} step ${step}`).toBe(expected);
      }
      expect(queue.length).toBe(length);
    }
  });
});
