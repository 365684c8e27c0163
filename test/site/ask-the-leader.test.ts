/**
 * Hosts ask the leader itself for ports: one of their two streams is led to it after each election, in their own time, and until
 * then any replica takes their requests there. A whole site of real Managers; each leader is killed in turn.
 */
import { expect, it } from "vitest";
import { SERVER_PORT } from "../../fabric/site.js";
import { Call } from "./call.js";
import { destination, poolObject, vipObject, WholeSite } from "./whole-site.js";

const VIP = "203.0.113.10";

it("one stream of every host follows each change of leader; connections that need new ports never wait for that", async () => {
  const site = await WholeSite.start(
    { name: "ask the leader", hosts: [["10.0.1.1"], ["10.0.2.1"], ["10.0.3.1"]] },
    poolObject("web", ["10.0.1.1", "10.0.2.1", "10.0.3.1"]),
    vipObject("web", VIP, { outbound: { pools: ["web"] } }),
  );
  const { world, managers } = site;
  const atLeader = (): number => {
    const id = managers.leader();
    const leader = id === null ? "nobody leads" : managers.manager(id).address;
    return site.agents.filter((agent) => {
      const { activeReplica, standbyReplica } = agent.status();
      return activeReplica === leader || standbyReplica === leader;
    }).length;
  };
  await world.runUntil(() => atLeader() === 3, 10_000, "a stream of every host to the first leader");

  for (let round = 1; round <= 3; round++) {
    const leader = managers.leader();
    if (leader === null) throw new Error("nobody leads");
    managers.kill(leader);
    // To one destination every connection needs a port of its own: more than the reserve has, so the leader is asked.
    const calls = [1, 2, 3].flatMap((host) =>
      Array.from(
        { length: 100 },
        () => new Call(site, site.machine(host), destination(site.servers[0]!.address, SERVER_PORT)),
      ),
    );
    await world.runUntil(() => calls.every(({ end }) => end === "closed"), 10_000, `all calls of round ${round}`);
    expect(new Set(calls.map(({ text }) => /saw=(\S+)/.exec(text)?.[1])).size, "a port for each").toBe(300);
    await world.runUntil(() => atLeader() === 3, 20_000, `a stream of every host to leader ${round + 1}`);
    await managers.restart(leader);
  }
  await site.stop();
});
