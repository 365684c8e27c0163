/** 1 to 1,000 DIPs behind at most 16 agent streams that ask for ports in a closed loop, and the ledger of what they got. */
import { assert } from "../../core/assert.js";
import { hex } from "../../core/hex.js";
import { type ApiObject } from "../../fabric/control/manager-api.js";
import type { Channel } from "../../runtime/env.js";
import { closedLoop, type LoopResult } from "../measure/closed-loop.js";
import { cpuMicros } from "../measure/cpu.js";
import { AgentStream, type Block } from "./agent-stream.js";
import type { ManagerSite } from "../measure/manager-site.js";

export const STREAMS = 16;
export const DIPS_PER_STREAM = 64;
/** DIPs that share VIPs: the pools of a site are many and small. */
export const DIPS_PER_POOL = 16;
const VIPS_PER_POOL = 2;
export const POOLS = (STREAMS * DIPS_PER_STREAM) / DIPS_PER_POOL;
const RANGES_PER_SPACE = 8_064;
/** What one run may be granted at most. */
export const STOCK = POOLS * VIPS_PER_POOL * 2 * RANGES_PER_SPACE;
export const PORTS = 8;
const TCP = 6;
const UDP = 17;

export const dipAddress = (stream: number, dip: number): string => `10.${100 + stream}.0.${dip + 1}`;

/** Pools and VIPs for all requesters. */
export function snatObjects(): readonly ApiObject[] {
  const dips = Array.from({ length: STREAMS * DIPS_PER_STREAM }, (_, at) =>
    dipAddress(Math.floor(at / DIPS_PER_STREAM), at % DIPS_PER_STREAM),
  );
  return Array.from({ length: POOLS }, (_, pool) => {
    const name = `pool-${pool}`;
    const members = dips.slice(pool * DIPS_PER_POOL, (pool + 1) * DIPS_PER_POOL).map((dip) => ({ dip }));
    const vips = Array.from({ length: VIPS_PER_POOL }, (__, at) => ({
      metadata: { tenant: "default", name: `vip-${pool}-${at}` },
      vip: { address: `203.0.${pool}.${at + 1}`, outbound: { pools: [name], maxPorts: 64_512 } },
    }));
    return [{ metadata: { tenant: "default", name }, backendPool: { members, maxMembers: DIPS_PER_POOL } }, ...vips];
  }).flat();
}

/** Position of a requester's DIP on its stream: requesters lie in different pools as long as there are enough of them. */
export const requesterDip = (id: number): number => {
  const turn = Math.floor(id / STREAMS);
  return ((turn * DIPS_PER_POOL) % DIPS_PER_STREAM) + Math.floor((turn * DIPS_PER_POOL) / DIPS_PER_STREAM);
};

export interface GrantResult extends LoopResult {
  /** Of all processes, this one included, per grant of the measured time. */
  readonly cpuMicros: number;
}

export class Agents {
  readonly #site: ManagerSite;
  #streams: readonly AgentStream[] = [];
  #channels: readonly Channel[] = [];
  /** (VIP, protocol, range) of every grant. */
  readonly #owned = new Map<string, Uint8Array>();
  granted = 0;
  readonly hosts: readonly { readonly name: string; readonly bootId: string }[];

  static async start(site: ManagerSite): Promise<Agents> {
    const agents = new Agents(site);
    await agents.connect();
    return agents;
  }

  private constructor(site: ManagerSite) {
    this.#site = site;
    this.hosts = Array.from({ length: STREAMS }, (_, stream) => ({
      name: `bench-${stream}`,
      bootId: hex(site.env.entropy(16)),
    }));
  }

  /** One stream per host, to the leader, where Host Agents ask too. Again after another leads. */
  async connect(): Promise<void> {
    this.stop();
    const { leader } = await this.#site.leadership();
    const address = this.#site.api.endpoints[leader]!; // in range
    this.#channels = this.hosts.map(() => this.#site.env.network.connect(address, { reconnectMaxMs: 100 }));
    this.#streams = await Promise.all(
      this.hosts.map(({ name, bootId }, stream) =>
        AgentStream.start({
          channel: this.#channels[stream]!, // as many
          clusterId: this.#site.clusterId,
          host: name,
          bootId,
          newSession: () => hex(this.#site.env.entropy(16)),
          dips: Array.from({ length: DIPS_PER_STREAM }, (__, dip) => dipAddress(stream, dip)),
        }),
      ),
    );
  }

  /** `requesters` DIPs spread over the streams, each with one request open. */
  async run(loop: {
    readonly requesters: number;
    readonly warmUpMs: number;
    readonly measureMs: number;
  }): Promise<GrantResult> {
    const pids = [process.pid, ...this.#site.processes().map(({ pid }) => pid)];
    const before = pids.map(cpuMicros);
    const grantedBefore = this.granted;
    const result = await closedLoop({
      ...loop,
      request: async (id, round) => {
        const stream = this.#streams[id % STREAMS]!; // in range
        this.note(await stream.allocate(requesterDip(id), round % 2 === 0 ? TCP : UDP, PORTS));
      },
    });
    const used = pids.reduce((sum, pid, at) => sum + cpuMicros(pid) - before[at]!, 0); // same length
    return { ...result, cpuMicros: used / (this.granted - grantedBefore) };
  }

  /** Each answer is one range that nobody had. */
  note(blocks: readonly Block[]): void {
    const [block] = blocks;
    assert(block !== undefined && blocks.length === 1 && block.count === 1, "a request for 8 ports gets one range");
    const space = `${block.vip ?? ""}/${block.protocol ?? 0}`;
    let marks = this.#owned.get(space);
    if (marks === undefined) this.#owned.set(space, (marks = new Uint8Array(8_192)));
    const range = block.range ?? 0;
    assert(marks[range] === 0, `${space} range ${range} was granted once`);
    marks[range] = 1;
    this.granted++;
  }

  /** What the Managers say is owned is what was answered. */
  async verify(): Promise<void> {
    const vips = await this.#site.api.vips();
    const owned = vips.reduce((sum, vip) => sum + vip.ownedRanges, 0);
    assert(owned === this.granted, `the Managers count ${owned} owned ranges, the agents were granted ${this.granted}`);
  }

  stop(): void {
    for (const stream of this.#streams) stream.close();
    for (const channel of this.#channels) channel.close();
  }
}
