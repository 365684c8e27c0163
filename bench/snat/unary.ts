/** The same requesters by unary calls, as a third-party client makes them: one call per request. */
import { assert } from "../../core/assert.js";
import { hex } from "../../core/hex.js";
import { SNAT_ALLOCATE, SNAT_REGISTER } from "../../manager/api/methods.js";
import type { Channel } from "../../runtime/env.js";
import { closedLoop } from "../measure/closed-loop.js";
import { cpuMicros } from "../measure/cpu.js";
import type { Agents, GrantResult } from "./grants.js";
import { dipAddress, PORTS, requesterDip, STREAMS } from "./grants.js";
import type { ManagerSite } from "../measure/manager-site.js";

const DEADLINE_MS = 20_000;

export class UnaryClients {
  readonly #site: ManagerSite;
  readonly #agents: Agents;
  readonly #channels: readonly Channel[];
  readonly #hosts: readonly { readonly name: string; readonly incarnation: number }[];

  /** The agents' streams stay open and idle; their hosts ask by unary calls, which the same boot id allows. */
  static async start(site: ManagerSite, agents: Agents): Promise<UnaryClients> {
    const channels = site.api.endpoints.map((address) => site.env.network.connect(address, { reconnectMaxMs: 100 }));
    const hosts = await Promise.all(
      agents.hosts.map(async ({ name, bootId }, at) => {
        const request = { host: name, bootId, dips: [], heldRanges: [], origin: newOrigin(site) };
        const { incarnation } = await channels[at % channels.length]!.call(SNAT_REGISTER, request, {
          deadlineMs: DEADLINE_MS,
        }); // in range
        return { name, incarnation: incarnation ?? 0 };
      }),
    );
    return new UnaryClients(site, agents, channels, hosts);
  }

  private constructor(
    site: ManagerSite,
    agents: Agents,
    channels: readonly Channel[],
    hosts: readonly { readonly name: string; readonly incarnation: number }[],
  ) {
    this.#site = site;
    this.#agents = agents;
    this.#channels = channels;
    this.#hosts = hosts;
  }

  async run(loop: {
    readonly requesters: number;
    readonly warmUpMs: number;
    readonly measureMs: number;
  }): Promise<GrantResult> {
    const pids = [process.pid, ...this.#site.processes().map(({ pid }) => pid)];
    const before = pids.map(cpuMicros);
    const sessions = Array.from({ length: loop.requesters }, () => hex(this.#site.env.entropy(16)));
    const result = await closedLoop({
      ...loop,
      request: async (id, round) => {
        const stream = id % STREAMS;
        const host = this.#hosts[stream]!; // in range
        const response = await this.#channels[stream % this.#channels.length]!.call(
          SNAT_ALLOCATE,
          {
            origin: { session: sessions[id]!, sequence: round + 1 },
            host: host.name,
            incarnation: host.incarnation,
            tenant: "default",
            dip: dipAddress(stream, requesterDip(id)),
            protocol: round % 2 === 0 ? 6 : 17,
            ports: PORTS,
          },
          { deadlineMs: DEADLINE_MS },
        );
        assert(response.blocks !== undefined && response.blocks !== null, "a call is answered with blocks");
        this.#agents.note(response.blocks);
      },
    });
    const used = pids.reduce((sum, pid, at) => sum + cpuMicros(pid) - before[at]!, 0); // same length
    return { ...result, cpuMicros: used / result.total };
  }

  stop(): void {
    for (const channel of this.#channels) channel.close();
  }
}

const newOrigin = (site: ManagerSite) => ({ session: hex(site.env.entropy(16)), sequence: 1 });
