import { describe, expect, test } from "vitest";
import type { IpAddress, LogIndex, MuxId } from "../../../core/brands.js";
import { MUX_TIMINGS, MuxPoolManagement } from "../../../manager/stages/mux-pool-management.js";
import type { Mux } from "../../../manager/state/state-machine.js";
import { virtualTime } from "../../kit/virtual-time.js";
import { silentLog } from "../../kit/silent-log.js";

const at = (index: number): LogIndex => index as LogIndex;
/** lease + withdrawal + margin: what the leader waits before it calls a MUX lost. */
const PATIENCE_MS = 3_500;

function mux(id: number, options: Partial<Mux> = {}): Mux {
  return {
    muxId: id as MuxId,
    name: `mux-${id}`,
    incarnation: 1,
    bootId: `boot-${id}`,
    formerBootIds: [],
    address: `10.255.0.${id}` as IpAddress,
    capacity: { rules: 1, snatRanges: 1 },
    state: "live",
    joinedIndex: at(1),
    ...options,
  };
}

function scene(muxes: Mux[]) {
  const { time, clock } = virtualTime();
  const state = { appliedIndex: at(100), muxes: () => muxes };
  const lost: string[] = [];
  const pool = new MuxPoolManagement({
    clock,
    log: silentLog,
    state,
    timings: MUX_TIMINGS,
    lose: (muxId, incarnation) => lost.push(`${muxId}/${incarnation}`),
  });
  const report = (
    id: number,
    index: number,
    options: { readonly bootId?: string; readonly renewal?: number } = {},
  ): void =>
    pool.report({
      name: `mux-${id}`,
      bootId: options.bootId ?? `boot-${id}`,
      index: at(index),
      renewal: options.renewal ?? 1,
    });
  /** Housekeeping every 100 ms, as the pipeline does; `each` runs before every check. */
  const elapse = async (ms: number, each: () => void = () => undefined): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      await time.advance(100);
      each();
      pool.check(100);
    }
  };
  return { time, pool, report, elapse, lost, muxes };
}

describe("muxSafeIndex", () => {
  test("is the smallest index in force over all live MUXes", () => {
    const { pool, report } = scene([mux(1), mux(2), mux(3, { state: "lost" })]);
    pool.takeOffice();
    report(1, 90);
    report(2, 70);
    expect(pool.safeIndex()).toBe(70);
  });

  test("is unknown to a new leader until every live MUX has reported to it", () => {
    const { pool, report } = scene([mux(1), mux(2)]);
    pool.takeOffice();
    report(1, 90);
    expect(pool.safeIndex()).toBeNull();
  });

  test("takes no account of what an earlier start of a MUX had in force", () => {
    const { pool, report } = scene([mux(1, { bootId: "second-boot" })]);
    pool.takeOffice();
    report(1, 90, { bootId: "first-boot" });
    expect(pool.safeIndex()).toBeNull();
    report(1, 40, { bootId: "second-boot" });
    expect(pool.safeIndex()).toBe(40);
  });

  test("is never beyond what this replica has applied, even when a MUX fed by another replica is", () => {
    const { pool, report } = scene([mux(1)]);
    pool.takeOffice();
    report(1, 120);
    expect(pool.safeIndex()).toBe(100);
  });

  test("is the applied index while no MUX is live: there is nobody to wait for", () => {
    const { pool } = scene([mux(1, { state: "left" })]);
    pool.takeOffice();
    expect(pool.safeIndex()).toBe(100);
  });

  test("reports that overtake one another on two streams do not take it back", () => {
    const { pool, report } = scene([mux(1)]);
    pool.takeOffice();
    report(1, 90, { renewal: 7 });
    report(1, 80, { renewal: 6 });
    expect(pool.safeIndex()).toBe(90);
    expect(pool.confirmations()[0]?.renewal).toBe(7);
  });
});

describe("the loss of a MUX", () => {
  test("is proposed once, and only lease + withdrawal + margin after it was last heard", async () => {
    const { pool, report, elapse, lost } = scene([mux(1), mux(2)]);
    pool.takeOffice();
    await elapse(PATIENCE_MS + 1_000, () => {
      report(1, 90);
      report(2, 90);
    });
    await elapse(PATIENCE_MS - 200, () => report(1, 90));
    expect(lost).toEqual([]);
    await elapse(1_000, () => report(1, 90));
    expect(lost).toEqual(["2/1"]);
  });

  test("is not proposed by a leader that has been in office for a shorter time: the MUX may have talked to the last one", async () => {
    const { pool, report, elapse, lost } = scene([mux(1), mux(2)]);
    await elapse(10_000);
    pool.takeOffice();
    await elapse(PATIENCE_MS - 200, () => report(1, 90));
    expect(lost).toEqual([]);
  });

  test("is not proposed after a stall of our own event loop: we did not listen", async () => {
    const { time, pool, report, elapse, lost } = scene([mux(1), mux(2)]);
    pool.takeOffice();
    await elapse(PATIENCE_MS + 500, () => {
      report(1, 90);
      report(2, 90);
    });
    await time.advance(60_000); // paused
    pool.check(100);
    await elapse(PATIENCE_MS - 200, () => report(1, 90));
    expect(lost).toEqual([]);
    await elapse(500, () => report(1, 90));
    expect(lost).toEqual(["2/1"]);
  });

  test("is not brought about by a late report of the MUX's earlier process", async () => {
    const { pool, report, elapse, lost } = scene([mux(1, { bootId: "new" }), mux(2)]);
    pool.takeOffice();
    await elapse(PATIENCE_MS + 1_000, () => {
      report(1, 90, { bootId: "new" });
      report(1, 95, { bootId: "old" }); // a half-open stream at some follower
      report(2, 90);
    });
    expect(lost).toEqual([]);
    expect(pool.safeIndex()).toBe(90);
  });

  test("once proposed, the MUX's renewals are confirmed no more: it must not go on announcing without being waited for", async () => {
    const { pool, report, elapse, lost } = scene([mux(1), mux(2)]);
    pool.takeOffice();
    await elapse(PATIENCE_MS + 500, () => report(1, 90));
    expect(lost).toEqual(["2/1"]);
    report(2, 90, { renewal: 5 });
    expect(pool.confirmations().map(({ name }) => name)).toEqual(["mux-1"]);
    pool.notLost(2 as MuxId, 1);
    expect(pool.confirmations().map(({ name }) => name)).toEqual(["mux-1", "mux-2"]);
  });

  test("is never proposed for the last one", async () => {
    const { pool, elapse, lost } = scene([mux(1), mux(2, { state: "lost" })]);
    pool.takeOffice();
    await elapse(20_000);
    expect(lost).toEqual([]);
  });
});
