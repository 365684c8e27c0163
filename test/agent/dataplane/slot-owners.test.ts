// Who owned a slot: the agent's tables against the plain rule, and what happens when they are many.
import { describe, expect, it } from "vitest";
import type { DipId, IpAddress, PoolId, VipId } from "../../../core/brands.js";
import { createRandom } from "../../../core/random.js";
import type { HostOwnerItem, HostRuleItem, HostTableItem } from "../../../dataplane/host-items.js";
import { HOST_LAYOUT, type HostLayout } from "../../../dataplane/layouts.js";
import { buildMaglevTable, maglevMember, maglevSize } from "../../../dataplane/maglev.js";
import { NOT_FOUND } from "../../../dataplane/word-index.js";
import { Addresses, NO_ADDRESS } from "../../../agent/dataplane/addresses.js";
import { SlotOwners } from "../../../agent/dataplane/slot-owners.js";
import { SEED } from "../../packet/packet-kit.js";

const POOL = 1 as PoolId;
const KEY = new Uint8Array(8);
const table = (revision: number, ...dipIds: readonly number[]): HostTableItem => ({
  kind: "table",
  poolId: POOL,
  revision,
  maxMembers: 20,
  members: dipIds.map((dipId) => ({ dipId: dipId as DipId, weight: 1 })),
});
const owner = (dipId: number, poolId = POOL): HostOwnerItem => ({
  kind: "owner",
  poolId,
  dipId: dipId as DipId,
  locator: (dipId < 100 ? `10.0.0.${dipId}` : `fd00::${dipId}`) as IpAddress,
});
const rule = (poolId: number, port: number): HostRuleItem => ({
  kind: "rule",
  poolId: poolId as PoolId,
  vipId: 1 as VipId,
  vip: "2001:db8:f::10" as IpAddress,
  port,
});

function slotOwners(layout: Partial<HostLayout> = {}): { readonly owners: SlotOwners; readonly addresses: Addresses } {
  const addresses = new Addresses(64, KEY);
  return {
    addresses,
    owners: new SlotOwners({ ...HOST_LAYOUT, rules: 4, owners: 64, ...layout }, addresses),
  };
}
const found = (owners: SlotOwners, hash: number): number[] => [...owners.owners.slice(0, owners.lookUp(POOL, hash))];

describe("owners of a slot", () => {
  it("are the distinct members that it belonged to, newest first, as by the plain rule", () => {
    const random = createRandom(SEED);
    const { owners } = slotOwners();
    const known = new Map<number, HostTableItem>();
    const placed = new Set<number>();
    for (let step = 1; step <= 60; step++) {
      const chosen = Array.from({ length: 12 }, (_, i) => i + 1).filter(() => random.below(2) === 0);
      const item = table(step, ...(chosen.length === 0 ? [1] : chosen));
      known.set(step, item);
      owners.putTable(item);
      const gone = [...known.keys()][random.below(known.size)]!;
      if (known.size > 6) {
        owners.removeTable(known.get(gone)!);
        known.delete(gone);
      }
      const dipId = 1 + random.below(12);
      if (placed.delete(dipId)) owners.removeOwner(owner(dipId));
      else {
        placed.add(dipId);
        owners.putOwner(owner(dipId));
      }
      if (random.below(3) === 0) owners.tick();
      for (let i = 0; i < 20; i++) {
        const hash = random.below(0x1_0000_0000) | 0;
        const plain = [...known.values()]
          .sort((a, b) => b.revision - a.revision)
          .map(({ members }) => maglevMember(buildMaglevTable(maglevSize(20), members), hash))
          .filter((member, at, all) => all.indexOf(member) === at && placed.has(member));
        expect(found(owners, hash)).toEqual(plain.slice(0, 8));
      }
    }
    expect(owners.tableCount).toBe(known.size);
  });

  it("are eight at most, and what is left out is counted", () => {
    const { owners } = slotOwners();
    for (let dipId = 1; dipId <= 10; dipId++) {
      owners.putOwner(owner(dipId));
      owners.putTable(table(dipId, dipId));
    }
    expect(found(owners, 5)).toEqual([10, 9, 8, 7, 6, 5, 4, 3]);
    expect(owners.overflowed).toBe(1);
  });

  it("lose the oldest tables when slots run out, and are never refused", () => {
    const { owners } = slotOwners({ tableSlots: 3 * maglevSize(20) });
    for (let dipId = 1; dipId <= 5; dipId++) {
      owners.putOwner(owner(dipId));
      owners.putTable(table(dipId, dipId));
    }
    owners.tick();
    expect(found(owners, 5)).toEqual([5, 4, 3]);
    expect(owners.forgotten).toBe(2);
    owners.removeTable(table(1, 1)); // forgotten before
    owners.removeTable(table(5, 5));
    expect(found(owners, 5)).toEqual([4, 3]);
  });

  it("give their addresses back, those of two pools and of rules that move, too", () => {
    const { owners, addresses } = slotOwners();
    const other = 2 as PoolId;
    for (const item of [owner(100), owner(101), owner(100, other)]) owners.putOwner(item);
    owners.putRule(rule(1, 80));
    owners.removeRule(rule(1, 80)); // in one delta what goes comes first
    owners.putRule(rule(2, 80));
    const vip = addresses.find("2001:db8:f::10");
    expect(owners.poolId(owners.findRule(vip, 80))).toBe(2);
    owners.removeRule(rule(1, 80)); // the other pool's by now
    expect(owners.findRule(vip, 80)).not.toBe(NOT_FOUND);
    owners.removeOwner(owner(100));
    expect(owners.dipAt(addresses.find("fd00::100"))).toBe(100);
    expect(owners.locatorOf(POOL, 100)).toBe(NO_ADDRESS);
    owners.removeOwner(owner(100, other));
    owners.removeOwner(owner(101));
    owners.removeRule(rule(2, 80));
    expect(addresses.size).toBe(0);
  });
});
