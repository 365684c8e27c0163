import { describe, expect, test } from "vitest";
import type { HostId, LogIndex } from "../../../core/brands.js";
import { RouteManagement } from "../../../manager/stages/route-management.js";
import { virtualTime } from "../../kit/virtual-time.js";

const HOSTS = [1 as HostId, 2 as HostId];

function scene() {
  const { time, clock } = virtualTime();
  const changes: LogIndex[] = [];
  let hosts: readonly HostId[] = [];
  const known = new Map<HostId, LogIndex>();
  const asked: number[] = [];
  /** Of the MUXes; agents' views end there. */
  let safe = Infinity as LogIndex;
  const routes = new RouteManagement({
    clock,
    state: {
      pendingActivation: () =>
        changes.length === 0 ? null : { fromIndex: changes[0]!, upToIndex: changes.at(-1)!, hosts },
    },
    hostIndex: (host) => known.get(host) ?? (0 as LogIndex),
    muxSafeIndex: () => safe,
    activate: (upToIndex) => asked.push(upToIndex),
  });
  const prepare = (index: number, concerned: readonly HostId[] = HOSTS): void => {
    if (changes.at(-1) !== index) changes.push(index as LogIndex);
    hosts = concerned;
    routes.consider();
  };
  const acknowledge = (host: number, index: number): void => {
    known.set(host as HostId, index as LogIndex);
    routes.consider();
  };
  const muxesHave = (index: number): void => {
    safe = index as LogIndex;
    routes.consider();
  };
  /** The log has it: what was prepared up to there is in use. */
  const activated = (index = Infinity): void => {
    changes.splice(0, changes.filter((change) => change <= index).length);
    routes.consider();
  };
  return { time, routes, prepare, acknowledge, muxesHave, activated, asked };
}

describe("the second entry of a change of configuration", () => {
  test("is proposed when all hosts concerned know of the first one", () => {
    const { prepare, acknowledge, asked } = scene();
    prepare(10);
    acknowledge(1, 10);
    expect(asked).toEqual([]);
    acknowledge(2, 12);
    expect(asked).toEqual([10]);
  });

  test("does not wait longer than 500 ms for a host that is dead", async () => {
    const { time, prepare, acknowledge, asked } = scene();
    prepare(10);
    acknowledge(1, 10);
    await time.advance(499);
    expect(asked).toEqual([]);
    await time.advance(1);
    expect(asked).toEqual([10]);
  });

  // Hosts' views end at what every MUX has: without the lagging one they are told nothing, and 500 ms would pass for nothing.
  test("waits while a MUX lags, and only then gives hosts their 500 ms", async () => {
    const { time, prepare, muxesHave, acknowledge, asked } = scene();
    muxesHave(9);
    prepare(10);
    await time.advance(2_000);
    expect(asked).toEqual([]);
    muxesHave(10);
    acknowledge(1, 10);
    await time.advance(499);
    expect(asked).toEqual([]);
    await time.advance(1);
    expect(asked).toEqual([10]);
  });

  test("is proposed as soon as the hosts know, once the lagging MUX has caught up or is lost", async () => {
    const { time, prepare, muxesHave, acknowledge, asked } = scene();
    muxesHave(9);
    prepare(10);
    await time.advance(3_500);
    muxesHave(10);
    for (const host of HOSTS) acknowledge(host, 10);
    expect(asked).toEqual([10]);
  });

  // The last MUX is never declared lost: an operator must be able to go on without it.
  test("is proposed after 10 s when the only MUX is dead", async () => {
    const { time, prepare, muxesHave, asked } = scene();
    muxesHave(9);
    prepare(10);
    await time.advance(9_999);
    expect(asked).toEqual([]);
    await time.advance(1);
    expect(asked).toEqual([10]);
  });

  test("is not put off by changes that keep coming while a host is dead", async () => {
    const { time, prepare, asked } = scene();
    for (let index = 10; index < 20; index++) {
      prepare(index);
      await time.advance(100);
    }
    expect(asked).toEqual([10, 14]);
  });

  test("of several changes is proposed up to the one that all hosts know", () => {
    const { prepare, acknowledge, activated, asked } = scene();
    for (const index of [10, 11, 12]) prepare(index);
    acknowledge(1, 12);
    acknowledge(2, 11);
    expect(asked).toEqual([11]);
    activated(11);
    expect(asked).toEqual([11]);
    acknowledge(2, 12);
    expect(asked).toEqual([11, 12]);
  });

  test("is proposed at once when no host is concerned", () => {
    const { prepare, asked } = scene();
    prepare(10, []);
    expect(asked).toEqual([10]);
  });

  test("is proposed once, and again for a change that came after", () => {
    const { prepare, activated, asked } = scene();
    prepare(10, []);
    prepare(10, []);
    activated();
    prepare(20, []);
    expect(asked).toEqual([10, 20]);
  });

  test("is proposed again when it did not reach the log", () => {
    const { routes, prepare, asked } = scene();
    prepare(10, []);
    routes.refused();
    prepare(10, []);
    expect(asked).toEqual([10, 10]);
  });
});
