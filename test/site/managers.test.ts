import { afterEach, describe, expect, test } from "vitest";
import {
  OPERATOR_APPLY,
  OPERATOR_CLUSTER_STATUS,
  OPERATOR_GET,
  OPERATOR_LIST,
  SNAT_ALLOCATE,
  SNAT_REGISTER,
} from "../../manager/api/methods.js";
import { VirtualWorld, testSeed } from "../kit/virtual-world.js";
import { VirtualManagers } from "./virtual-managers.js";

const SESSION = "5e55".padEnd(32, "0");

const POOL = {
  metadata: { name: "web-pool" },
  backendPool: { members: [{ dip: "10.1.1.1" }, { dip: "10.1.2.1" }], maxMembers: 10 },
};
const VIP = {
  metadata: { name: "web" },
  vip: { address: "203.0.113.10", rules: [{ name: "http", protocol: 6, port: 80, pool: "web-pool" }] },
};

async function scene(salt: string): Promise<VirtualManagers> {
  const world = new VirtualWorld({ seed: testSeed(salt), logLevel: "info" });
  const managers = new VirtualManagers(world);
  await managers.startAll();
  return managers;
}

let managers: VirtualManagers | null = null;
afterEach(async () => {
  expect(managers?.failures ?? []).toEqual([]);
  await managers?.stopAll();
  managers = null;
});

describe("five Manager replicas in one process on virtual time", () => {
  test("elect a leader, and a write that reached a follower is committed and read back from any other", async () => {
    managers = await scene("write");
    const leader = managers.leader() ?? 0;
    const follower = (leader % 5) + 1;
    const other = (follower % 5) + 1;
    const applied = await managers.call(follower, OPERATOR_APPLY, {
      origin: { session: SESSION, sequence: 1 },
      objects: [POOL, VIP],
    });
    expect(applied.outcomes?.map((outcome) => `${outcome.kind} ${outcome.name} ${outcome.change}`)).toEqual([
      "BackendPool web-pool created",
      "Vip web created",
    ]);
    const read = await managers.call(other, OPERATOR_GET, { ref: { kind: "Vip", name: "web" } });
    expect(read.object?.vip?.address).toBe("203.0.113.10");
  });

  test("a retry of an answered write gets the same answer and changes nothing", async () => {
    managers = await scene("retry");
    const request = { origin: { session: SESSION, sequence: 1 }, objects: [POOL] };
    const first = await managers.call(1, OPERATOR_APPLY, request);
    const second = await managers.call(2, OPERATOR_APPLY, request);
    expect(second.index).toBe(first.index);
    expect(second.outcomes).toEqual(first.outcomes);
  });

  test("a refused write names every problem, and nothing of it is applied", async () => {
    managers = await scene("refuse");
    const vip = { ...VIP, vip: { ...VIP.vip, rules: [{ name: "http", protocol: 6, port: 80, pool: "nowhere" }] } };
    const refusal = await managers.refusal(3, OPERATOR_APPLY, {
      origin: { session: SESSION, sequence: 1 },
      objects: [POOL, vip],
    });
    expect(refusal.code).toBe("INVALID_ARGUMENT");
    expect(refusal.message).toContain("nowhere");
    const pools = await managers.call(3, OPERATOR_LIST, { kind: "BackendPool" });
    expect(pools.objects ?? []).toEqual([]);
  });

  test("when the leader is killed the others go on, and it catches up when it comes back", async () => {
    managers = await scene("kill");
    const leader = managers.leader() ?? 0;
    managers.kill(leader);
    const world = managers.world;
    const survivor = (leader % 5) + 1;
    await managers.call(survivor, OPERATOR_APPLY, { origin: { session: SESSION, sequence: 1 }, objects: [POOL] });
    expect(managers.leader()).not.toBe(leader);
    await managers.restart(leader);
    const back = managers.manager(leader);
    const ahead = managers.manager(survivor);
    await world.runUntil(
      () => back.state.appliedIndex === ahead.state.appliedIndex,
      5_000,
      "the replica has caught up",
    );
    expect(back.state.digest()).toBe(ahead.state.digest());
  });

  test("with two dead it is still writable; with three, writes end in time and stale reads still answer", async () => {
    managers = await scene("majority");
    const leader = managers.leader() ?? 0;
    const others = [1, 2, 3, 4, 5].filter((id) => id !== leader);
    const [a = 0, b = 0, c = 0] = others;
    managers.kill(a);
    managers.kill(b);
    await managers.call(leader, OPERATOR_APPLY, { origin: { session: SESSION, sequence: 1 }, objects: [POOL] });
    managers.kill(c);
    const refusal = await managers.refusal(
      leader,
      OPERATOR_APPLY,
      { origin: { session: SESSION, sequence: 2 }, objects: [VIP] },
      2_000,
    );
    expect(["DEADLINE_EXCEEDED", "UNAVAILABLE"]).toContain(refusal.code);
    const linearizable = await managers.refusal(leader, OPERATOR_LIST, { kind: "BackendPool" }, 1_000);
    expect(linearizable.code).toBe("UNAVAILABLE");
    const stale = await managers.call(leader, OPERATOR_LIST, { kind: "BackendPool", stale: true });
    expect(stale.objects?.length).toBe(1);
    expect(stale.ageMs).toBeGreaterThan(1_000);
    const status = await managers.call(leader, OPERATOR_CLUSTER_STATUS, {});
    expect(status.role).not.toBe("leader");
    await managers.restart(c);
    await managers.call(leader, OPERATOR_APPLY, { origin: { session: SESSION, sequence: 3 }, objects: [VIP] });
  });

  test("cluster time keeps pace under a steady load of entries: quarantines must end", async () => {
    managers = await scene("pace");
    const { world } = managers;
    const leader = managers.leader() ?? 0;
    const { state } = managers.manager(leader);
    const change = (sequence: number): Promise<unknown> =>
      managers?.call(leader, OPERATOR_APPLY, {
        origin: { session: SESSION, sequence },
        objects: [{ ...POOL, metadata: { ...POOL.metadata, labels: { round: `r${sequence}` } } }],
      }) ?? Promise.resolve();
    await change(1);
    const began = { worldMs: world.nowMs, clusterMs: state.clusterTimeMs };
    for (let sequence = 2; sequence <= 100; sequence++) await change(sequence);
    const passedMs = world.nowMs - began.worldMs;
    expect(passedMs).toBeGreaterThan(100);
    expect(state.clusterTimeMs - began.clusterMs).toBeGreaterThan(passedMs * 0.9);
  });

  test("without a live MUX nothing is granted, and the answer says so", async () => {
    managers = await scene("no-mux");
    const vip = { ...VIP, vip: { ...VIP.vip, outbound: { pools: ["web-pool"] } } };
    await managers.call(1, OPERATOR_APPLY, { origin: { session: SESSION, sequence: 1 }, objects: [POOL, vip] });
    const bootId = "b0".padEnd(32, "0");
    const host = await managers.call(2, SNAT_REGISTER, {
      origin: { session: SESSION, sequence: 2 },
      host: "third-party",
      bootId,
      dips: [{ address: "10.1.1.1" }],
    });
    const ask = { host: "third-party", incarnation: host.incarnation ?? 0, dip: "10.1.1.1", protocol: 6, ports: 8 };
    const refusal = await managers.refusal(3, SNAT_ALLOCATE, { origin: { session: SESSION, sequence: 3 }, ...ask });
    expect(refusal.code).toBe("NO_LIVE_MUX");
    const foreign = await managers.refusal(4, SNAT_ALLOCATE, {
      origin: { session: SESSION, sequence: 4 },
      ...ask,
      dip: "10.1.2.1",
    });
    expect(foreign.code).toBe("PERMISSION_DENIED");
  });
});
