/** Five Manager replicas in a virtual world, and a client that calls them as any client would. */
import { nodeId, type NodeId } from "../../core/brands.js";
import type { AnantaError } from "../../core/errors.js";
import { managerConfig, type ManagerOptions, type ReplicaAddresses } from "../../manager/config.js";
import { createManager, type Manager } from "../../manager/manager.js";
import type { Method } from "../../runtime/env.js";
import type { VirtualWorld } from "../kit/virtual-world.js";

export const CLUSTER_ID = "c1".padEnd(32, "0");

export const replicaName = (id: number): string => `manager-${id}`;

export class VirtualManagers {
  readonly world: VirtualWorld;
  readonly replicas: readonly ReplicaAddresses[];
  readonly #managers = new Map<number, Manager>();
  readonly #overrides: Partial<ManagerOptions>;
  /** What ended a replica by itself: must stay empty. */
  readonly failures: string[] = [];

  constructor(
    world: VirtualWorld,
    options: { readonly count?: number; readonly overrides?: Partial<ManagerOptions> } = {},
  ) {
    this.world = world;
    this.#overrides = options.overrides ?? {};
    this.replicas = Array.from({ length: options.count ?? 5 }, (_, position) => {
      return addressesOf(position + 1);
    });
  }

  get apiAddresses(): readonly string[] {
    return this.replicas.map(({ apiAddress }) => apiAddress);
  }

  manager(id: number): Manager {
    const manager = this.#managers.get(id);
    if (manager === undefined) throw new Error(`replica ${id} does not run`);
    return manager;
  }

  get running(): readonly Manager[] {
    return [...this.#managers.values()];
  }

  async startAll(): Promise<void> {
    await Promise.all(this.replicas.map(({ nodeId: id }) => this.start(id, { bootstrap: true })));
    await this.world.runUntil(() => this.leader() !== null, 5_000, "a leader");
  }

  async start(id: number, settings: Partial<ManagerOptions> = {}): Promise<void> {
    const env = this.world.env(replicaName(id));
    const manager = createManager(
      env,
      managerConfig({
        nodeId: nodeId(id),
        clusterId: CLUSTER_ID,
        dataFolder: `/data/${replicaName(id)}`,
        replicas: this.replicas,
        ...this.#overrides,
        ...settings,
      }),
      {
        version: "test",
        pid: id,
        failed: (error) => this.failures.push(`${replicaName(id)}: ${error.stack ?? error.message}`),
      },
    );
    this.#managers.set(id, manager);
    await this.world.run(manager.start());
  }

  /** A further replica, not among the founders: joins the running cluster once it is taken on. */
  async startJoining(id: number): Promise<ReplicaAddresses> {
    const own = addressesOf(id);
    const settings = { join: true, bootstrap: false, replicas: [...this.replicas, own] };
    await this.start(id, settings);
    return own;
  }

  kill(id: number): void {
    this.#managers.delete(id);
    this.world.crash(replicaName(id), { disk: "process" });
  }

  async restart(id: number): Promise<void> {
    this.world.restart(replicaName(id), { disk: "process" });
    await this.start(id);
  }

  async stopAll(): Promise<void> {
    for (const manager of [...this.#managers.values()].reverse()) await this.world.run(manager.stop());
    this.#managers.clear();
  }

  /** The replica that may serve as leader now, in the highest term; null when there is none. */
  leader(): NodeId | null {
    let best: { readonly id: NodeId; readonly term: number } | null = null;
    for (const manager of this.#managers.values()) {
      const { id, role, term } = manager.raftStatus();
      if (role === "leader" && manager.pipeline.inOffice && term > (best?.term ?? -1)) best = { id, term };
    }
    return best?.id ?? null;
  }

  /** One call to one replica from the machine "client". Rejects with the server's AnantaError. */
  call<Request, Response>(
    id: number,
    method: Method<Request, Response>,
    request: Request,
    deadlineMs = 5_000,
  ): Promise<Response> {
    const channel = this.world.env("client").network.connect(`${replicaName(id)}:7400`);
    return this.world.run(
      channel.call(method, request, { deadlineMs }).finally(() => channel.close()),
      deadlineMs + 1_000,
    );
  }

  /** The code that the call is refused with. */
  async refusal<Request, Response>(
    id: number,
    method: Method<Request, Response>,
    request: Request,
    deadlineMs = 5_000,
  ): Promise<AnantaError> {
    try {
      await this.call(id, method, request, deadlineMs);
    } catch (caught) {
      return caught as AnantaError;
    }
    throw new Error("the call succeeded; it should have been refused");
  }
}

const addressesOf = (id: number): ReplicaAddresses => ({
  nodeId: nodeId(id),
  raftAddress: `${replicaName(id)}:7100`,
  apiAddress: `${replicaName(id)}:7400`,
});
