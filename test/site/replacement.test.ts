/**
 * Years of maintenance in a few seconds: every replica of the Manager is replaced by a new one, on a new machine. MUXes were
 * configured with the first five only, and still follow when none of those is left.
 */
import { expect, it } from "vitest";
import { AnantaError } from "../../core/errors.js";
import {
  CLUSTER_ADD_REPLICA,
  CLUSTER_MEMBERS,
  CLUSTER_PROMOTE_REPLICA,
  CLUSTER_TRANSFER_LEADERSHIP,
  OPERATOR_APPLY,
} from "../../manager/api/methods.js";
import { muxConfig } from "../../mux/config.js";
import { createMux } from "../../mux/mux.js";
import { planSite } from "../../fabric/site.js";
import { Fabric } from "../../fabric/fabric.js";
import { finishesCleanly } from "../kit/finishes-cleanly.js";
import { testSeed, VirtualWorld } from "../kit/virtual-world.js";
import { CLUSTER_ID, VirtualManagers } from "./virtual-managers.js";

it("all five replicas are replaced, one after another, and MUXes follow the new ones", async () => {
  const world = new VirtualWorld({ seed: testSeed("replacement"), logLevel: "info" });
  const managers = new VirtualManagers(world);
  const plan = planSite(7_400);
  const fabric = await world.run(Fabric.start(world.env("fabric"), plan, { ecmp: "plain" }));
  await managers.startAll();
  const { name, wire, address } = plan.muxes[0]!;
  const mux = createMux(
    world.env(name),
    muxConfig({
      name,
      clusterId: CLUSTER_ID,
      managers: managers.apiAddresses,
      address: address,
      io: { kind: "fabric", listen: wire, router: plan.router },
    }),
  );
  await world.run(mux.start());
  await world.runUntil(() => mux.status().membership === "joined", 5_000, "the MUX has joined");

  for (let old = 1; old <= 5; old++) {
    const fresh = old + 5;
    const asked = fresh === 6 ? 2 : fresh - 1;
    const own = await managers.startJoining(fresh);
    await managers.call(asked, CLUSTER_ADD_REPLICA, own);
    await promote(managers, asked, { nodeId: fresh, replacing: old });
    const { members } = await managers.call(fresh, CLUSTER_MEMBERS, {});
    expect(members?.map((member) => member.nodeId)).not.toContain(old);
    managers.kill(old);
    await world.advance(1_000);
  }
  const { leader } = await managers.call(6, CLUSTER_TRANSFER_LEADERSHIP, { nodeId: 10 });
  expect(leader).toBe(10);

  expect(["manager-6", "manager-7", "manager-8", "manager-9", "manager-10"]).toContain(
    mux.status().activeReplica?.split(":")[0],
  );
  const applied = await managers.call(7, OPERATOR_APPLY, {
    origin: { session: "0123456789abcdef0123456789abcdef", sequence: 1 },
    objects: [{ metadata: { name: "late" }, backendPool: { members: [] } }],
  });
  const { index } = applied;
  await world.runUntil(() => mux.status().inForce.index >= (index ?? 0), 2_000, "the change in force on the MUX");

  await world.run(mux.stop());
  await managers.stopAll();
  fabric.stop();
  expect(managers.failures).toEqual([]);
  await finishesCleanly(world);
});

/** Again while the learner is still behind, as `ananta cluster promote` does. */
async function promote(
  managers: VirtualManagers,
  at: number,
  request: { readonly nodeId: number; readonly replacing: number },
): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await managers.call(at, CLUSTER_PROMOTE_REPLICA, request);
      return;
    } catch (caught) {
      const error = AnantaError.from(caught);
      if (tries === 50 || !(error.facts["retry"] === true || error.code === "NOT_LEADER")) throw error;
      await managers.world.advance(100);
    }
  }
}
