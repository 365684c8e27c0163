import { describe, expect, it } from "vitest";
import { finishesCleanly } from "../../kit/finishes-cleanly.js";
import { hasReserve, startAgent } from "./agent-world.js";

describe("an agent and its reserve", () => {
  it("has ports of both protocols for every outbound DIP before the first connection", async () => {
    const setup = await startAgent("base reserve");
    const { world, cluster, agent } = setup;
    await hasReserve(setup);
    expect(agent.dataplane.snatDemand(world.nowMs).map(({ protocol, portsFree }) => ({ protocol, portsFree }))).toEqual(
      [
        { protocol: 6, portsFree: 32 },
        { protocol: 17, portsFree: 32 },
      ],
    );
    expect(cluster.executed.size).toBe(2);
    await world.advance(5_000);
    expect(cluster.executed.size).toBe(2);
    await world.run(agent.stop());
    await finishesCleanly(world, ["host-1"]);
  });
});
