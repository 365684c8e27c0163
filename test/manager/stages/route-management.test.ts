import { describe, expect, test } from "vitest";
import type { HostId, LogIndex } from "../../../core/brands.js";
import { RouteManagement } from "../../../manager/stages/route-management.js";
import { virtualTime } from "../../kit/virtual-time.js";

const HOSTS = [1 as HostId, 2 as HostId];

function scene() {
  const { time, clock } = virtualTime();
  let pending: { readonly upToIndex: LogIndex; readonly hosts: readonly HostId[] } | null = null;
  const known = new Map<HostId, LogIndex>();
  const asked: number[] = [];
  const routes = new RouteManagement({
    clock,
    state: { pendingActivation: () => pending },
    hostIndex: (host) => known.get(host) ?? (0 as LogIndex),
    activate: (upToIndex) => asked.push(upToIndex),
  });
  const prepare = (index: number, hosts: readonly HostId[] = HOSTS): void => {
    pending = { upToIndex: index as LogIndex, hosts };
    routes.consider();
  };
  const acknowledge = (host: number, index: number): void => {
    known.set(host as HostId, index as LogIndex);
    routes.consider();
  };
  const activated = (): void => {
    pending = null;
    routes.consider();
  };
  return { time, routes, prepare, acknowledge, activated, asked };
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
