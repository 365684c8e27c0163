import { beforeEach, describe, expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import { ManagerApi } from "../../fabric/control/manager-api.js";
import { GrantWorkload } from "../../fabric/grant-workload.js";
import * as methods from "../../manager/api/methods.js";
import { unary, type Handler } from "../../runtime/env.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";

/** Three replicas that share one table of answers, as a replicated state machine would; each may be told to misbehave. */
class Replicas {
  readonly seen: { readonly replica: number; readonly sequence: number }[] = [];
  readonly mood: ("answers" | "refuses" | "silent")[] = ["answers", "answers", "answers"];
  private readonly answers = new Map<string, number>();
  private nextRange = 128;

  handlers(replica: number): readonly Handler[] {
    return [
      unary(methods.SNAT_REGISTER, () => Promise.resolve({ hostId: 1, incarnation: 1, index: 1 })),
      unary(methods.SNAT_ALLOCATE, async (request) => {
        const { session = "", sequence = 0 } = request.origin ?? {};
        this.seen.push({ replica, sequence: sequence ?? 0 });
        if (this.mood[replica] === "silent") await new Promise(() => undefined);
        if (this.mood[replica] === "refuses") throw new AnantaError("UNAVAILABLE", "no leader is known");
        const key = `${session ?? ""}/${sequence ?? 0}`;
        const range = this.answers.get(key) ?? this.nextRange++;
        this.answers.set(key, range);
        return { blocks: [{ vip: "203.0.113.11", protocol: request.protocol ?? 6, range, count: 1 }], index: range };
      }),
      unary(methods.SNAT_RELEASE, () => Promise.resolve({ ranges: 1, index: 1 })),
    ];
  }
}

const wanted = { host: "h", incarnation: 1, dip: "10.9.0.1", protocol: "tcp", ports: 8 } as const;
const ADDRESSES = ["manager-1:7401", "manager-2:7402", "manager-3:7403"] as const;

describe("client of the public API", () => {
  let world: VirtualWorld;
  let replicas: Replicas;
  let api: ManagerApi;
  beforeEach(async () => {
    world = new VirtualWorld({ seed: testSeed("manager-api") });
    replicas = new Replicas();
    for (const [index, address] of ADDRESSES.entries()) {
      await world.run(world.env(`manager-${index + 1}`).network.serve(address, replicas.handlers(index)));
    }
    api = new ManagerApi(world.env("client"), ADDRESSES);
  });

  it("goes on to the next replica when one refuses, is gone, or is silent, always with the same origin", async () => {
    replicas.mood[0] = "refuses";
    world.crash("manager-2");
    const session = api.newSession();
    const limits = { deadlineMs: 5_000, hedgeMs: 200, first: 0 };
    const blocks = await world.run(api.allocate(session, wanted, limits));
    expect(blocks).toEqual([{ vip: "203.0.113.11", protocol: "tcp", range: 128, count: 1 }]);
    replicas.mood[0] = "silent";
    await world.run(api.allocate(session, wanted, limits));
    expect(replicas.seen).toEqual([
      { replica: 0, sequence: 1 },
      { replica: 2, sequence: 1 },
      { replica: 0, sequence: 2 },
      { replica: 2, sequence: 2 },
    ]);
    api.close();
  });

  it("gives up at its deadline with the last reason", async () => {
    replicas.mood.fill("refuses");
    const startMs = world.nowMs;
    const call = api.allocate(api.newSession(), wanted, { deadlineMs: 1_000, hedgeMs: 200, first: 1 });
    await expect(world.run(call)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(world.nowMs - startMs).toBeLessThan(1_300);
    api.close();
  });

  it("keeps granting to all requesters while one replica is dead, and its ledger agrees with what was granted", async () => {
    const grants = new GrantWorkload(world.env("client"), api, {
      host: "h",
      dips: ["10.9.0.1", "10.9.0.2", "10.9.0.3"],
      periodMs: 60,
      blocksKept: 4,
    });
    await world.run(grants.start());
    await world.advance(1_000);
    world.crash("manager-1");
    await world.advance(2_000);
    await world.run(grants.stop());
    expect(grants.ledger.grants).toBeGreaterThan(100);
    expect(grants.ledger.releases).toBeGreaterThan(80);
    expect(grants.ledger.conflicts).toEqual([]);
    expect(grants.refusals.size).toBe(0);
    expect(grants.answeredMs).toHaveLength(grants.ledger.grants);
    api.close();
  });
});
