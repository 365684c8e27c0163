/** Managers and Host Agents on virtual time. */
import { createAgent, type Agent } from "../../../agent/agent.js";
import { agentConfig, type AgentTimings } from "../../../agent/config.js";
import type { IpAddress } from "../../../core/brands.js";
import type { AnantaError } from "../../../core/errors.js";
import type { Env } from "../../../runtime/env.js";
import { testSeed, VirtualWorld } from "../../kit/virtual-world.js";
import { CLUSTER_ID, FakeCluster, FakeReplica } from "./fake-managers.js";

export interface AgentWorld {
  readonly world: VirtualWorld;
  readonly cluster: FakeCluster;
  readonly replicas: readonly FakeReplica[];
  readonly agent: Agent;
  readonly failures: readonly AnantaError[];
  active(): FakeReplica;
  standby(): FakeReplica;
}

export async function managers(
  title: string,
  count = 3,
): Promise<{ world: VirtualWorld; cluster: FakeCluster; replicas: readonly FakeReplica[] }> {
  const world = new VirtualWorld({ seed: testSeed(title) });
  const cluster = new FakeCluster();
  const replicas: FakeReplica[] = [];
  for (let n = 1; n <= count; n++) {
    const replica = new FakeReplica(world.env(`manager-${n}`), `manager-${n}:7000`, cluster);
    await world.run(replica.start());
    replicas.push(replica);
  }
  return { world, cluster, replicas };
}

export interface MakeAgent {
  readonly name?: string;
  readonly dip?: string;
  readonly timings?: Partial<AgentTimings>;
}

export function makeAgent(
  env: Env,
  machine: string,
  { name = machine, dip = "10.1.1.1", timings = {} }: MakeAgent = {},
): { agent: Agent; failures: AnantaError[] } {
  const failures: AnantaError[] = [];
  const config = agentConfig({
    name,
    clusterId: CLUSTER_ID,
    managers: ["manager-1:7000", "manager-2:7000", "manager-3:7000"],
    dataFolder: "/data",
    dips: [{ address: dip as IpAddress, nic: `${machine}:9001` }],
    io: { kind: "fabric", listen: `${machine}:4000`, router: "router:4000", vmListen: `${machine}:5000` },
    timings,
  });
  return { agent: createAgent(env, config, { failed: (error) => failures.push(error) }), failures };
}

export async function startAgent(title: string, options: MakeAgent = {}): Promise<AgentWorld> {
  const { world, cluster, replicas } = await managers(title);
  const { agent, failures } = makeAgent(world.env("host-1"), "host-1", options);
  await world.run(agent.start());
  const at = (address: string | null): FakeReplica => {
    const found = replicas.find((replica) => replica.address === address);
    if (found === undefined) throw new Error(`no replica at ${String(address)}`);
    return found;
  };
  return {
    world,
    cluster,
    replicas,
    agent,
    failures,
    active: () => at(agent.status().activeReplica),
    standby: () => at(agent.status().standbyReplica),
  };
}

/** Until the base reserve of TCP and UDP is in force. */
export const hasReserve = ({ world, agent }: Pick<AgentWorld, "world" | "agent">): Promise<number> =>
  world.runUntil(
    () => agent.status().rangesInForce >= 8 && agent.status().openRequests === 0,
    5_000,
    "the base reserve",
  );
