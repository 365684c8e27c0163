/** What the leader does about overloaded MUXes: what it asks of the log, what it counts, and what it looks at. */
import { beforeEach, describe, expect, it } from "vitest";
import type { IpAddress, LogIndex, MuxId, VipId } from "../../../core/brands.js";
import { OverloadManagement } from "../../../manager/stages/overload-management.js";
import type { WithdrawVipCommand } from "../../../manager/state/commands/commands.js";
import type { Mux } from "../../../manager/state/state-machine.js";
import type { VipObject } from "../../../manager/state/vip-map.js";
import type { Clock, Log } from "../../../runtime/env.js";
import { vipSpec } from "../state/specs.js";

const BOOT = "1".repeat(32);
const mux: Mux = {
  muxId: 1 as MuxId,
  name: "mux-1",
  incarnation: 1,
  bootId: BOOT,
  formerBootIds: [],
  address: "192.0.2.1" as IpAddress,
  capacity: { rules: 1, snatRanges: 1, ipv6: true },
  state: "live",
  joinedIndex: 1 as LogIndex,
};
const vip = (vipId: VipId): VipObject => ({
  ref: { kind: "Vip", tenant: "default", name: `web-${vipId}` },
  vipId,
  natPorts: [],
  labels: {},
  spec: vipSpec({ address: "198.51.100.1" as IpAddress, rules: [], outbound: null }),
  active: null,
  generation: 1,
  createdIndex: 1 as LogIndex,
  updatedIndex: 1 as LogIndex,
  activeIndex: 1 as LogIndex,
  deleting: false,
});

let nowMs = 0;
let asked: { readonly command: WithdrawVipCommand; readonly answered: (isCommitted: boolean) => void }[] = [];
let looked: VipId[] = [];
let overload: OverloadManagement;

beforeEach(() => {
  [nowMs, asked, looked] = [0, [], []];
  overload = new OverloadManagement({
    clock: { nowMs: () => nowMs } as Clock,
    log: { warn: () => undefined } as unknown as Log,
    state: {
      muxes: () => [mux],
      vipCount: 30_000,
      vip: (id) => {
        looked.push(id);
        return vip(id);
      },
      withdrawal: () => null,
      overloadBackoff: () => null,
      withdrawnVips: 0,
    },
    withdraw: (command, answered) => asked.push({ command, answered }),
  });
});

/** A flood of VIP 7, reported every 500 ms until then. */
function flood(untilMs: number): void {
  for (; nowMs <= untilMs; nowMs += 500) {
    const topTalkers = [
      { vipId: 7 as VipId, packetsPerSecond: 9_000, share: 900 },
      { vipId: 8 as VipId, packetsPerSecond: 100, share: 100 },
    ];
    const load = { isOverloaded: true, packetsPerSecond: 9_100, capacity: 1_000 };
    overload.report({ mux: "mux-1", bootId: BOOT, ...load, topTalkers });
    overload.check();
  }
}

describe("a VIP that floods", () => {
  it("is withdrawn with what the MUXes said as the reason", () => {
    flood(2_000);
    expect(asked.map(({ command }) => command)).toEqual([
      {
        kind: "withdraw-vip",
        tenant: "default",
        name: "web-7",
        reason:
          "overload: 9000 packets/s on 1 overloaded MUXes, where 9100 arrive and its share is 900 of 1000 that they can forward",
        forSeconds: 0,
        isOverload: true,
      },
    ]);
  });

  it("counts once it is committed, and the count never falls", () => {
    flood(2_000);
    expect(overload.withdrawals).toBe(0);
    asked[0]?.answered(false);
    expect(overload.withdrawals).toBe(0);
    flood(6_000);
    asked[1]?.answered(true);
    expect([asked.length, overload.withdrawals]).toEqual([2, 1]);
  });

  it("is asked for once while the log does not answer", () => {
    flood(9_000);
    expect(asked).toHaveLength(1);
  });

  it("is not mixed up with an answer that comes after another term of office began", () => {
    flood(2_000);
    overload.takeOffice();
    flood(4_500);
    expect(asked).toHaveLength(2);
    asked[0]?.answered(false);
    flood(9_000);
    expect(asked).toHaveLength(2); // the second one still waits
  });
});

it("of 30,000 VIPs, those that talk too much are looked at, and no other", () => {
  flood(10_000);
  expect(new Set(looked)).toEqual(new Set([7]));
});
