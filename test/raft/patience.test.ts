/** On a busy machine a live leader is silent for a while now and then: no reason to elect another one, which is as busy. */
import { describe, expect, test } from "vitest";
import { nodeId } from "../../core/brands.js";
import { append, One, OTHER } from "./one-core.js";

const MIN_TICKS = 15;
const MAX_TICKS = 25;

/** Hears its leader after so many ticks of silence. */
function hear(one: One, silenceTicks: number): void {
  one.tick(silenceTicks);
  one.step(append(1, [0, 0], []));
}

/** Ticks of silence after which it asks for the leader's place. */
function patience(one: One): number {
  let ticks = 0;
  for (; one.core.state.role.kind === "follower" && ticks < 200; ticks++) one.tick(1);
  return ticks;
}

describe("a follower", () => {
  test("of a leader that is heard in time has the timeout that is configured", () => {
    const one = new One({ term: 1 });
    for (let beat = 0; beat < 50; beat++) hear(one, 7);
    const ticks = patience(one);
    expect(ticks).toBeGreaterThanOrEqual(MIN_TICKS);
    expect(ticks).toBeLessThan(MAX_TICKS);
  });

  test("bears twice the silence that it has seen end, up to three times the shortest timeout", () => {
    for (const [silence, least] of [
      [12, 24],
      [14, 28],
    ] as const) {
      const one = new One({ term: 1 });
      hear(one, 3);
      hear(one, silence);
      expect(patience(one)).toBeGreaterThanOrEqual(least);
    }
    const one = new One({ term: 1 });
    hear(one, 3);
    for (const silence of [14, 28, 44]) hear(one, silence);
    const ticks = patience(one);
    expect(ticks).toBeGreaterThanOrEqual(3 * MIN_TICKS);
    expect(ticks).toBeLessThan(3 * MIN_TICKS + (MAX_TICKS - MIN_TICKS));
  });

  test("forgets within seconds that its leader was slow", () => {
    const one = new One({ term: 1 });
    hear(one, 3);
    hear(one, 14);
    for (let beat = 0; beat < 300; beat++) hear(one, 3);
    for (let beat = 0; beat < 300; beat++) hear(one, 3);
    const ticks = patience(one);
    expect(ticks).toBeLessThan(MAX_TICKS);
  });

  test("does not take the time without any leader for the silence of one", () => {
    const one = new One({ term: 1 });
    hear(one, 3);
    one.tick(100); // it asks for votes, in vain
    one.step(append(2, [0, 0], [])); // another leader's first word
    expect(patience(one)).toBeLessThan(MAX_TICKS);
  });

  test("waits its turn and no longer when the process of a slow leader has ended", () => {
    const one = new One({ size: 5, term: 1, config: { id: nodeId(3) } });
    one.step(append(1, [0, 0], []));
    for (const silence of [14, 28, 44]) hear(one, silence);
    one.core.leaderUnreachable(OTHER);
    expect(patience(one), "ticks until it asks for votes").toBeLessThanOrEqual(5);
  });

  test("is patient again with a leader whose connections broke and who is heard again", () => {
    const one = new One({ size: 5, term: 1, config: { id: nodeId(3) } });
    for (const silence of [3, 14, 28]) hear(one, silence);
    one.core.leaderUnreachable(OTHER);
    hear(one, 1);
    expect(patience(one)).toBeGreaterThanOrEqual(3 * MIN_TICKS);
  });

  test("forgets a cut of an hour within seconds", () => {
    const one = new One({ term: 1 });
    hear(one, 3);
    one.core.tick(1); // it asks for pre-votes all the time, and gets none
    hear(one, 30_000);
    for (let beat = 0; beat < 600; beat++) hear(one, 3);
    expect(patience(one)).toBeLessThan(MAX_TICKS);
  });
});
