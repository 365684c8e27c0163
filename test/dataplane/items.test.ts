import { describe, expect, it } from "vitest";
import type { DipId, IpAddress, PoolId, VipId } from "../../core/brands.js";
import { createRandom } from "../../core/random.js";
import { digestOf, EMPTY_DIGEST, formatDigest, sameItem, xorDigests } from "../../dataplane/digest.js";
import { hostItemKey, type HostItem } from "../../dataplane/host-items.js";
import { MEMBER_DRAINING, muxItemKey, type MuxItem, type MuxPoolMember } from "../../dataplane/mux-items.js";
import { ProjectionStore } from "../../dataplane/projection-store.js";
import { SEED } from "../packet/packet-kit.js";

const vip = (vipId: number, address = `203.0.113.${vipId}`): MuxItem => ({
  kind: "vip",
  vipId: vipId as VipId,
  address: address as IpAddress,
  announced: true,
});

describe("keys of items", () => {
  it("name kind and identity", () => {
    const snat: MuxItem = { kind: "snat", vipId: 3 as VipId, protocol: 6, range: 1_290, dipId: 9 as DipId };
    const range: HostItem = { ...snat, kind: "range", vip: "203.0.113.3" as IpAddress };
    expect([vip(3), snat].map(muxItemKey)).toEqual(["vip/3", "snat/3/6/1290"]);
    expect(hostItemKey(range)).toBe("range/3/6/1290");
  });
});

describe("digests", () => {
  it("do not depend on the order of items, fields or pool members", () => {
    const [a, b] = [vip(1), vip(2)];
    const digest = (items: readonly MuxItem[]): string =>
      formatDigest(items.reduce((sum, item) => xorDigests(sum, digestOf(muxItemKey(item), item)), EMPTY_DIGEST));
    expect(digest([a, b])).toBe(digest([b, a]));
    const members = [1, 2, 10].map((dipId) => ({ dipId: dipId as DipId, weight: dipId }));
    const pool: MuxItem = { kind: "pool", poolId: 1 as PoolId, maxMembers: 10, members };
    const turned: MuxItem = { members: [...members].reverse(), maxMembers: 10, poolId: 1 as PoolId, kind: "pool" };
    expect(digest([pool])).toBe(digest([turned]));
    expect(sameItem(pool, turned)).toBe(true);
    expect(digest([pool])).not.toBe(digest([{ ...pool, members: members.slice(1) }]));
  });

  // Managers, MUXes and agents of different releases compare them.
  it("are the same in every release", () => {
    const endpoint: HostItem = {
      ...{ kind: "endpoint", vipId: 3 as VipId, vip: "203.0.113.3" as IpAddress, protocol: 6, port: 80 },
      ...{ dipId: 9 as DipId, dipPort: 8_080, fastpath: false, groups: ["a/web", "a/db"] },
    };
    const members: readonly MuxPoolMember[] = [
      { dipId: 2 as DipId, weight: 100 },
      { dipId: 10 as DipId, weight: 50, state: MEMBER_DRAINING, backup: true },
    ];
    const pool: MuxItem = { kind: "pool", poolId: 1 as PoolId, maxMembers: 10, members };
    const probe: HostItem = {
      ...{ kind: "probe", poolId: 1 as PoolId, dipId: 2 as DipId, protocol: "http", port: 80, intervalSeconds: 5 },
      ...{ timeoutSeconds: 2, healthyThreshold: 1, unhealthyThreshold: 2, path: '/a"b\\cü' },
      expectedStatus: ["200-299", "301"],
    };
    expect([endpoint, probe].map((item) => formatDigest(digestOf(hostItemKey(item), item)))).toEqual([
      "f8ea7214edce836e",
      "902950e76f5f2d6e",
    ]);
    expect(formatDigest(digestOf(muxItemKey(pool), pool))).toBe("2197134fcf10e0e9");
  });

  it("differ for all of many similar port ranges, at a MUX and at a host, also when two change places", () => {
    const seen = new Set<string>();
    let count = 0;
    const add = (digest: ReturnType<typeof digestOf>): void => {
      seen.add(formatDigest(digest));
      count++;
    };
    for (const vipId of [1, 2, 3, 256] as VipId[])
      for (const protocol of [6, 17] as const)
        for (let range = 128; range < 8_192; range++) {
          const dipId = (range % 7) as DipId;
          const snat: MuxItem = { kind: "snat", vipId, protocol, range, dipId };
          const host: HostItem = { ...snat, kind: "range", vip: "203.0.113.3" as IpAddress };
          add(digestOf(muxItemKey(snat), snat));
          add(digestOf(hostItemKey(host), host));
          const next: MuxItem = { ...snat, range: range + 1, dipId: (dipId + 1) as DipId };
          add(xorDigests(digestOf(muxItemKey(snat), snat), digestOf(muxItemKey(next), next)));
        }
    expect(seen.size).toBe(count);
    const host: HostItem = {
      kind: "range",
      vipId: 1 as VipId,
      vip: "203.0.113.3" as IpAddress,
      protocol: 6,
      range: 128,
      dipId: 1 as DipId,
    };
    const moved: HostItem = { ...host, vip: "203.0.113.4" as IpAddress };
    expect(digestOf(hostItemKey(host), host)).not.toEqual(digestOf(hostItemKey(moved), moved));
    expect([sameItem(host, { ...host }), sameItem(host, moved), sameItem(host, { ...host, range: 129 })]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("a projection store", () => {
  it("holds what a Map would, by changes and by snapshots, with the same digest", () => {
    const random = createRandom(SEED);
    const store = new ProjectionStore<MuxItem>(muxItemKey);
    const model = new Map<string, MuxItem>();
    for (let round = 0; round < 300; round++) {
      const some = Array.from({ length: random.below(6) }, () => vip(random.below(20), `10.0.0.${random.below(3)}`));
      if (random.below(10) === 0) {
        model.clear();
        for (const item of some) model.set(muxItemKey(item), item);
        store.commit(store.plan({ kind: "snapshot", items: some }));
      } else {
        const changes = some.map((item) =>
          random.below(3) === 0
            ? ({ op: "remove", key: muxItemKey(item) } as const)
            : ({ op: "upsert", item } as const),
        );
        for (const change of changes) {
          if (change.op === "remove") model.delete(change.key);
          else model.set(muxItemKey(change.item), change.item);
        }
        store.commit(store.plan({ kind: "changes", changes }));
      }
      const digest = [...model].reduce((sum, [key, item]) => xorDigests(sum, digestOf(key, item)), EMPTY_DIGEST);
      expect(store.digest(), `seed ${SEED} round ${round}`).toBe(formatDigest(digest));
      expect(store.countAfter("vip", [])).toBe(model.size);
    }
  });

  it("plans nothing for a snapshot that is already in force", () => {
    const store = new ProjectionStore<MuxItem>(muxItemKey);
    store.commit(store.plan({ kind: "snapshot", items: [vip(1), vip(2)] }));
    expect(store.plan({ kind: "snapshot", items: [vip(2), vip(1)] })).toEqual([]);
  });
});
