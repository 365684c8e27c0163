/**
 * A site in one process: the replicated state machine of the Managers, eight MUXes behind an ECMP router, a host per machine, each
 * with the product's data plane; machines with a small TCP. Entries reach everybody in the product's order: MUXes at once, agents what
 * every live MUX has in force; and what is prepared is put to use when agents could be told of it.
 */
import { expect } from "vitest";
import { formatIpv4 } from "../../core/address.js";
import type { DipId, HostId, IpAddress, Ipv4, LogIndex, Port } from "../../core/brands.js";
import { createRandom, type Random } from "../../core/random.js";
import type { HostChange } from "../../dataplane/host-items.js";
import type { MuxChange } from "../../dataplane/mux-items.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { type AgentDataplane, createAgentDataplane } from "../../agent/dataplane/agent-dataplane.js";
import { RouterModel } from "../../fabric/router-model.js";
import type { AppliedBatch } from "../../manager/state/commands/results.js";
import { createMuxDataplane, type MuxDataplane } from "../../mux/dataplane/mux-dataplane.js";
import { IPV4_DESTINATION, IPV4_HEADER_BYTES, IPV4_SOURCE } from "../../packet/ipv4.js";
import { TCP_FLAGS, TCP_SYN } from "../../packet/tcp.js";
import { pool, Site as State, vip } from "../manager/state/fixture.js";
import { probeSpec } from "../manager/state/specs.js";
import { packetsOf, SEED, tcp } from "../packet/packet-kit.js";

const VIP = "203.0.113.10" as IpAddress;
const MUXES = 8;
/** Machines that there are; those of the pool are among them. */
const MACHINES = 40;
const PORT = 8_080 as Port;
const TCP_FLAGS_AT = IPV4_HEADER_BYTES + TCP_FLAGS;

export interface SiteOptions {
  /** Of the MUXes; without it hosts get no table of the pool either: so it was before there was a second chance. */
  readonly secondChance: boolean;
}

interface Flow {
  readonly client: string;
  broken: boolean;
}

/** Machine n has the address 10.0.0.n, which is its locator too, and is alone on its host n. */
export class PoolSite {
  readonly flows: Flow[] = [];
  /** Packets from host to host. */
  passes = 0;
  /** The most that one segment took. */
  passesMax = 0;
  readonly agents: readonly AgentDataplane[];
  readonly #secondChance: boolean;
  readonly #state = new State();
  readonly #router = new RouterModel({ ecmp: "plain", hashSeed: 7, holdTimeMs: 1_000, routes: new Map() });
  readonly #muxes = new Map<string, MuxDataplane>();
  readonly #laggingMuxes = new Map<string, MuxChange[]>();
  /** What each live MUX has in force. */
  readonly #indexOf = new Map<string, number>();
  /** What agents are to hear, in order, once every live MUX has it in force. */
  readonly #forAgents: {
    readonly index: number;
    readonly agent: AgentDataplane;
    readonly changes: readonly HostChange[];
  }[] = [];
  #areAgentsLagging = false;
  /** A change that MUXes do not use yet. */
  #preparedIndex: number | null = null;
  /** Flows that each machine knows. */
  readonly #known = Array.from({ length: MACHINES }, () => new Set<string>());
  #nowMs = 1_000;
  readonly #batch = new PacketBatch();
  readonly #out = new PacketBatch();

  constructor({ secondChance }: SiteOptions, members: readonly string[]) {
    this.#secondChance = secondChance;
    const random = createRandom(SEED);
    this.agents = Array.from({ length: MACHINES }, () =>
      createAgentDataplane({
        random: random.fork(),
        layout: { dips: 4, vips: 4, endpoints: 16, ranges: 8, flows: 2_048, held: 4, heldPerDip: 4, owners: 256 },
      }),
    );
    for (let mux = 1; mux <= MUXES; mux++) {
      const address = `192.0.2.${mux}` as IpAddress;
      const layout = { trustedFlows: 4_096, untrustedFlows: 4_096, vips: 8, rules: 8, pools: 8, dips: 64 };
      const small = { ...layout, snatRanges: 8, nats: 8, members: 256, fragments: 8, heldFragments: 4 };
      this.#muxes.set(`mux-${mux}`, createMuxDataplane({ address, secondChance, layout: small }));
      this.#announce(`mux-${mux}`, true);
    }
    this.#do(() => this.#state.bootstrap());
    for (let mux = 1; mux <= MUXES; mux++) this.#do(() => this.#state.join(`mux-${mux}`, `192.0.2.${mux}`));
    for (let n = 1; n <= MACHINES; n++) this.#do(() => this.#state.register(`host-${n}`, [`10.0.0.${n}`]));
    this.change(members);
    this.#do(() => this.#state.applyObjects(vip("web", VIP, { rules: [`tcp/80 -> web:${PORT}`] })));
    this.#do(() => this.#state.activate());
  }

  // ---- what operators, probes and mishaps do ----

  /**
   * The pool has these members: "10.0.0.3" or "10.0.0.3*50". MUXes use them once none lags behind the first entry of the change;
   * one may begin to lag then, before the second.
   */
  change(members: readonly string[], options: { readonly thenLags?: number } = {}): void {
    const spec = { probe: probeSpec({ protocol: "tcp", port: PORT }) };
    this.#do(() => this.#state.applyObjects(pool("web", members, { maxMembers: MACHINES, spec })));
    if (options.thenLags !== undefined) this.lag(options.thenLags);
    this.#preparedIndex = this.#state.index;
    this.#advance();
  }

  /** The Managers have waited long enough for MUXes that lag: the change is in use. */
  goOn(): void {
    this.#preparedIndex = null;
    this.#do(() => this.#state.activate());
  }

  /** The probes of machine n say so. */
  health(n: number, healthy: boolean): void {
    const poolId = [...this.#state.machine.inspect().objects.allPools()][0]!.poolId;
    const transitions = [{ poolId, dipId: this.#state.dipId(`10.0.0.${n}`), healthy, reason: "refused" }];
    const { hostId, incarnation } = this.#state.machine.hostByName(`host-${n}`)!;
    this.#do(() => this.#state.apply({ kind: "report-health", hostId, incarnation, transitions }));
  }

  /** The MUX hears of nothing for now. */
  lag(mux: number): void {
    this.#laggingMuxes.set(`mux-${mux}`, []);
  }

  catchUp(mux: number): void {
    const name = `mux-${mux}`;
    const changes = this.#laggingMuxes.get(name) ?? [];
    this.#laggingMuxes.delete(name);
    this.#tellMux(name, changes);
    this.#advance();
  }

  /** Agents hear of nothing for now: their views are cut at what all MUXes have in force, so they are behind them. */
  lagAgents(): void {
    this.#areAgentsLagging = true;
  }

  catchUpAgents(): void {
    this.#areAgentsLagging = false;
    this.#advance();
  }

  /** The MUX is dead, and the router's hold time is over: it is declared lost too. */
  kill(mux: number): void {
    const name = `mux-${mux}`;
    this.#muxes.delete(name);
    this.#laggingMuxes.delete(name);
    this.#indexOf.delete(name);
    this.#announce(name, false);
    this.#advance();
  }

  // ---- what clients do ----

  /** Opens flows; each talks once, so that its MUX trusts it. */
  open(count: number, random: Random): void {
    for (let i = 0; i < count; i++) {
      const n = this.flows.length;
      const client = `198.51.${100 + (n >> 8)}.${n & 255}:${1_024 + random.below(60_000)}`;
      const flow = { client, broken: false };
      this.flows.push(flow);
      this.#send(flow, "S");
      this.#send(flow, "A");
    }
  }

  /** Every flow sends a segment; answers how many are broken so far. */
  talk(): number {
    this.#nowMs += 1_000;
    for (const agent of this.agents) agent.tick(this.#nowMs, this.#out);
    for (const flow of this.flows) if (!flow.broken) this.#send(flow, "A");
    return this.flows.filter(({ broken }) => broken).length;
  }

  // ---- entries ----

  #do(entry: () => unknown): void {
    const before = this.#state.last;
    entry();
    const applied = this.#state.last;
    expect(applied).not.toBe(before);
    this.#follow(applied!);
  }

  #follow({ muxChanges, hostChanges }: AppliedBatch): void {
    for (const name of this.#muxes.keys()) {
      const waiting = this.#laggingMuxes.get(name);
      if (waiting === undefined) this.#tellMux(name, muxChanges);
      else waiting.push(...muxChanges);
    }
    const { index } = this.#state;
    for (const [hostId, changes] of hostChanges) this.#forAgents.push({ index, agent: this.#agentOf(hostId), changes });
    this.#advance();
  }

  /** Agents are told of what all live MUXes have in force (`muxSafeIndex`), and then MUXes use what they were told of. */
  #advance(): void {
    if (this.#areAgentsLagging) return;
    const safe = Math.min(...this.#indexOf.values());
    for (let next = this.#forAgents[0]; next !== undefined && next.index <= safe; next = this.#forAgents[0]) {
      this.#forAgents.shift();
      this.#tellAgent(next.agent, next.changes, next.index);
    }
    if (this.#preparedIndex !== null && this.#preparedIndex <= safe) this.goOn();
  }

  #tellMux(name: string, changes: readonly MuxChange[]): void {
    const index = this.#state.index as LogIndex;
    expect(this.#muxes.get(name)?.tables.apply({ kind: "changes", changes }, index)).toBe("in-force");
    this.#indexOf.set(name, index);
  }

  #tellAgent(agent: AgentDataplane, all: readonly HostChange[], index: number): void {
    const changes = this.#secondChance ? all : all.filter((change) => !isOfSecondChance(change));
    expect(agent.tables.apply({ kind: "changes", changes }, index as LogIndex)).toBe("in-force");
  }

  #agentOf(hostId: HostId): AgentDataplane {
    return this.agents[hostId - 1]!; // hosts are registered in order
  }

  #announce(mux: string, isUp: boolean): void {
    const vips = isUp ? [VIP] : [];
    this.#router.announce({ mux, address: mux, vips, holdTimeMs: 1_000, sequence: 1 }, mux, this.#nowMs);
  }

  // ---- packets ----

  #send(flow: Flow, flags: "S" | "A"): void {
    const packet = tcp(flow.client, `${VIP}:80`, flags);
    const port = this.#router.forward(packet);
    const mux = this.#muxes.get(port?.name ?? "");
    if (mux === undefined) throw new Error("the router knows a MUX that lives");
    this.#fill(packet);
    mux.process(this.#batch, this.#nowMs, this.#out);
    let passes = -1;
    let wasKnown = false;
    for (let onWire = packetsOf(this.#out)[0]; onWire !== undefined; passes++) {
      onWire = this.#atHost(onWire[IPV4_DESTINATION + 3]!, onWire, flow, (known) => (wasKnown = known)); // 10.0.0.n
    }
    this.passes += Math.max(0, passes);
    this.passesMax = Math.max(this.passesMax, passes);
    if (!wasKnown) flow.broken = true;
  }

  /** What the host sends to another host, if anything. */
  #atHost(n: number, packet: Uint8Array, flow: Flow, met: (known: boolean) => void): Uint8Array | undefined {
    const agent = this.#agentOf(n as HostId);
    const dipId = this.#state.dipId(`10.0.0.${n}`);
    const out = this.#out;
    this.#fill(packet);
    agent.processFromWire(this.#batch, this.#nowMs, out);
    const packets = packetsOf(out);
    const onWire = packets.filter((_, at) => out.links[at] === WIRE_LINK);
    if (packets.length > 1) throw new Error("a segment stays one");
    for (const segment of packets.filter((_, at) => out.links[at] === dipId)) {
      const isSyn = (segment[TCP_FLAGS_AT]! & TCP_SYN) !== 0;
      if (isSyn) this.#known[n - 1]!.add(flow.client);
      const isKnown = this.#known[n - 1]!.has(flow.client);
      met(isKnown);
      const answer = isSyn ? "SA" : isKnown ? "A" : "R";
      this.#answer(agent, dipId, tcp(`10.0.0.${n}:${PORT}`, flow.client, answer), flow);
    }
    return onWire[0];
  }

  #answer(agent: AgentDataplane, dipId: DipId, packet: Uint8Array, { client }: Flow): void {
    this.#fill(packet);
    agent.processFromVm(dipId, this.#batch, this.#nowMs, this.#out);
    const [answer] = packetsOf(this.#out);
    if (answer === undefined || formatIpv4(sourceOf(answer)) !== VIP) throw new Error(`no answer to ${client}`);
  }

  #fill(packet: Uint8Array): void {
    this.#batch.clear();
    this.#out.clear();
    this.#batch.append(packet);
  }
}

const sourceOf = (packet: Uint8Array): Ipv4 =>
  new DataView(packet.buffer, packet.byteOffset).getUint32(IPV4_SOURCE) as Ipv4;

const isOfSecondChance = (change: HostChange): boolean =>
  /^(rule|table|owner)\//.test(change.op === "remove" ? change.key : `${change.item.kind}/`);

/** Machines as members of equal weight. */
export const machines = (from: number, count: number): readonly string[] =>
  Array.from({ length: count }, (_, i) => `10.0.0.${from + i}`);
