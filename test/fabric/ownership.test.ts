import { describe, expect, it } from "vitest";
import type { OwnedPorts, PortBlock } from "../../fabric/control/manager-api.js";
import { changedOwners, doublyOwned, GrantLedger, longestGapMs } from "../../fabric/ownership.js";

const block = (range: number, count = 1): PortBlock => ({ vip: "203.0.113.10", protocol: "tcp", range, count });
const owned = (dip: string, range: number, count = 1, state: OwnedPorts["state"] = "owned"): OwnedPorts => ({
  ...block(range, count),
  tenant: "default",
  host: "",
  dip,
  state,
});

describe("the judge of ownership", () => {
  it("finds a range that overlapping blocks give to two DIPs", () => {
    expect(doublyOwned([owned("10.1.1.1", 128, 4), owned("10.1.1.2", 132, 4)])).toEqual([]);
    expect(doublyOwned([owned("10.1.1.1", 128, 4), owned("10.1.1.2", 131, 2)])).toEqual([
      "203.0.113.10/tcp/131: 10.1.1.1 and 10.1.1.2",
    ]);
  });

  it("accepts an owner that released, but not another owner nor none", () => {
    const before = [owned("10.1.1.1", 128, 3)];
    expect(changedOwners(before, [owned("10.1.1.1", 128, 2), owned("10.1.1.1", 130, 1, "quarantined")])).toEqual([]);
    expect(changedOwners(before, [owned("10.1.1.1", 128), owned("10.1.1.2", 129)])).toEqual([
      "203.0.113.10/tcp/129: 10.1.1.1 before, 10.1.1.2 after",
      "203.0.113.10/tcp/130: 10.1.1.1 before, nobody after",
    ]);
  });

  it("calls an acknowledged grant lost when the listing no longer has it, unless its release was asked for", () => {
    const ledger = new GrantLedger(120_000);
    ledger.granted("10.9.0.1", [block(128, 3)], 0);
    ledger.releasing([block(130)]);
    expect(ledger.lost([owned("10.9.0.1", 128, 2)])).toEqual([]);
    expect(ledger.lost([owned("10.9.0.1", 128), owned("10.9.0.1", 129, 1, "quarantined")])).toHaveLength(1);
    expect(ledger.lost([])).toHaveLength(2);
  });

  it("sees two holders of a range, and a range that did not rest", () => {
    const ledger = new GrantLedger(120_000);
    ledger.granted("10.9.0.1", [block(128)], 0);
    ledger.granted("10.9.0.2", [block(128)], 1);
    expect(ledger.conflicts).toHaveLength(1);
    ledger.releasing([block(128)]);
    ledger.released("10.9.0.2", [block(128)], 10_000);
    ledger.granted("10.9.0.3", [block(128)], 129_000);
    expect(ledger.conflicts).toHaveLength(2);
    ledger.releasing([block(128)]);
    ledger.released("10.9.0.3", [block(128)], 130_000);
    ledger.granted("10.9.0.4", [block(128)], 250_000);
    expect(ledger.conflicts).toHaveLength(2);
  });

  it("measures the longest time without a grant, ends included", () => {
    expect(longestGapMs([10, 20, 140, 150], 0, 160)).toBe(120);
    expect(longestGapMs([], 0, 160)).toBe(160);
    expect(longestGapMs([5, 300], 100, 350)).toBe(200);
  });
});
