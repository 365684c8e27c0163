/**
 * What must hold in a world, looked at after every event for the process that the event was delivered to, and in full at
 * intervals. It knows the product by its public view only: a replica's status, what it applies, the tables in force on a
 * MUX or a host, and the packets that leave a host.
 */
import type { Agent } from "../../agent/agent.js";
import { formatIpv4 } from "../../core/address.js";
import { decodeFrame } from "../../dataplane/fabric-frame.js";
import type { PortBlock } from "../../fabric/control/manager-api.js";
import { rangesOf } from "../../fabric/ownership.js";
import type { Manager } from "../../manager/manager.js";
import type { CommandBatch } from "../../manager/state/commands/commands.js";
import type { InspectableStateMachine } from "../../manager/state/create-state-machine.js";
import { assertInvariants } from "../../manager/state/invariants.js";
import type { AppliedBatch } from "../../manager/state/commands/results.js";
import type { StateMachine } from "../../manager/state/state-machine.js";
import type { Mux } from "../../mux/mux.js";
import { mustBeDurableOnAQuorum } from "./durability.js";
import { hashText, hashValue } from "./trace-hash.js";
import { OwnershipLedger, rangeKey } from "./ownership-ledger.js";
import type { ClientJudge } from "./clients.js";
import { WIPED, type ManagerProcess, type Process, type SimSite, type SiteObserver } from "./site.js";
import { Violation, mustHold } from "./violation.js";

/** What is remembered of a replica from look to look. */
interface SeenManager {
  readonly process: ManagerProcess;
  manager: Manager;
  /** After a restart at least the term it last led: a leader's own vote is durable. A term that it only had in memory may go. */
  term: number;
  ledTerm: number;
  commitIndex: number;
  appliedIndex: number;
}

interface SeenTables {
  index: number;
  generation: number;
  /** Ranges in force, by (VIP id, protocol, range). */
  ranges: ReadonlySet<string>;
}

const FULL_CHECK_MS = 4_000;

export class Watch implements SiteObserver, ClientJudge {
  readonly ledger = new OwnershipLedger();
  /** Digest of the MUX view by applied index; only where an entry carried commands. */
  private readonly muxDigests = new Map<number, string>();
  /** Hash of what each entry was and did. */
  private readonly entries = new Map<number, number>();
  private newestIndex = 0;
  private readonly leaders = new Map<number, string>();
  private readonly managers = new Map<string, SeenManager>();
  private readonly muxes = new Map<string, { readonly process: Process<Mux>; readonly mux: Mux; seen: SeenTables }>();
  private readonly agents = new Map<
    string,
    { readonly process: Process<Agent>; readonly agent: Agent; seen: SeenTables }
  >();
  private readonly touchedNames = new Set<string>();
  private readonly vipOf = new Map<string, string>();
  private nextFullMs = FULL_CHECK_MS;
  private newestState: StateMachine | null = null;
  site: SimSite | null = null;
  /** Times each invariant was looked at. */
  checks = 0;
  fullChecks = 0;
  packets = 0;

  // ---- what the site tells ----

  managerStarted(process: ManagerProcess, manager: Manager): void {
    const known = this.managers.get(process.name);
    this.managers.set(process.name, {
      process,
      manager,
      term: known?.ledTerm ?? 0,
      ledTerm: known?.ledTerm ?? 0,
      commitIndex: 0,
      appliedIndex: 0,
    });
    const state = manager.state as { applying: StateMachine["applying"] } & StateMachine;
    const applying = state.applying.bind(state);
    const seen = (batch: CommandBatch, applied: AppliedBatch): void =>
      this.guarded(() => this.applied(process.name, batch, applied, state));
    state.applying = function* (batch, index, finishNow) {
      const applied = yield* applying(batch, index, finishNow);
      seen(batch, applied);
      return applied;
    };
  }

  muxStarted(process: Process<Mux>, mux: Mux): void {
    this.muxes.set(process.name, { process, mux, seen: NOTHING_SEEN });
  }

  agentStarted(process: Process<Agent>, agent: Agent): void {
    this.agents.set(process.name, { process, agent, seen: NOTHING_SEEN });
  }

  touched(name: string): void {
    this.touchedNames.add(name);
  }

  /** No packet leaves a host from a range that its DIP does not own. */
  hostSends(host: string, bytes: Uint8Array): void {
    const frame = decodeFrame(bytes);
    if (frame?.kind !== "packet" || frame.packet.length < 28) return;
    const { packet } = frame;
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const protocol = view.getUint8(9);
    if (protocol !== 6 && protocol !== 17) return;
    const source = formatIpv4(view.getUint32(12) as Parameters<typeof formatIpv4>[0]);
    const port = view.getUint16((view.getUint8(0) & 15) * 4);
    if (!source.startsWith("203.0.113.") || port < 1_024) return; // a rule's port: the way back of an inbound flow
    this.packets++;
    this.guarded(() => {
      const key = rangeKey(source, protocol, port >> 3);
      const owner = this.ledger.owner(key);
      const dips = this.newestState?.hostByName(host)?.dips ?? [];
      mustHold(
        owner !== null && dips.includes(owner),
        "packets leave from owned ranges only",
        () =>
          `${host} sends from ${source}:${port} (${key}), which is ${owner === null ? "nobody's" : `DIP ${owner}'s`}`,
      );
    });
  }

  // ---- what clients tell ----

  granted(dip: string, blocks: readonly PortBlock[]): void {
    for (const block of blocks) {
      const protocol = block.protocol === "udp" ? 17 : 6;
      for (const range of rangesOf(block)) {
        const key = rangeKey(block.vip, protocol, range);
        const owner = this.ledger.owner(key);
        const address = owner === null ? null : (this.newestState?.dip(owner)?.address ?? null);
        mustHold(
          address === dip,
          "an acknowledged grant is committed",
          () => `${key} was promised to ${dip}; by the log it is ${address ?? "nobody"}'s`,
        );
        this.inForceOnMuxes(block.vip, protocol, range, `promised to ${dip}`);
      }
    }
  }

  // ---- after each event ----

  afterEvent(): void {
    if (this.touchedNames.size > 0) {
      for (const name of this.touchedNames) this.look(name);
      this.touchedNames.clear();
    }
    if (this.site === null) return;
    if (this.site.violation !== null) throw this.site.violation;
    if (this.site.world.nowMs >= this.nextFullMs) {
      this.nextFullMs = this.site.world.nowMs + FULL_CHECK_MS;
      this.fullCheck();
    }
  }

  private look(name: string): void {
    const manager = this.managers.get(name);
    if (manager !== undefined) this.lookAtManager(manager);
    const mux = this.muxes.get(name);
    if (mux?.process.unit === mux?.mux && mux !== undefined) this.lookAtMux(name, mux);
    const agent = this.agents.get(name);
    if (agent !== undefined && agent.process.ready && agent.process.unit === agent.agent) this.lookAtAgent(name, agent);
  }

  private lookAtManager(seen: SeenManager): void {
    const { process, manager } = seen;
    if (!process.ready || process.unit !== manager) return;
    const status = manager.raftStatus();
    const { term, commitIndex, appliedIndex, lastIndex } = status;
    const of = (): string =>
      `${process.name}: term ${seen.term} -> ${term}, commit ${seen.commitIndex} -> ${commitIndex}, applied ${seen.appliedIndex} -> ${appliedIndex}, last ${lastIndex}`;
    this.checks++;
    mustHold(term >= seen.term || process.damaged !== null, "terms never go back", of);
    mustHold(commitIndex >= seen.commitIndex, "the commit index never goes back", of);
    mustHold(
      appliedIndex >= seen.appliedIndex && appliedIndex <= commitIndex && commitIndex <= lastIndex,
      "applied <= commit <= last",
      of,
    );
    mustHold(
      status.role === "follower" || process.damaged !== WIPED,
      "who has lost its vote does not campaign",
      () => `${process.name} is ${status.role} of term ${term}, and its disk was wiped`,
    );
    if (status.role === "leader") {
      const before = this.leaders.get(term);
      mustHold(
        before === undefined || before === process.name,
        "one leader per term",
        () => `${process.name} leads term ${term}, as ${String(before)} does`,
      );
      if (before === undefined) {
        this.leaders.set(term, process.name);
        mustHold(
          lastIndex >= this.newestIndex,
          "a leader holds every committed entry",
          () => `${process.name} leads term ${term} with ${lastIndex} entries; ${this.newestIndex} are committed`,
        );
      }
    }
    Object.assign(seen, { term, commitIndex, appliedIndex });
    if (status.role === "leader") seen.ledTerm = term;
    if (manager.pipeline.inOffice) this.queueBounds(process.name, manager);
  }

  private queueBounds(name: string, manager: Manager): void {
    for (const { name: stage, queued } of manager.pipeline.queued()) {
      const bound = QUEUE_BOUNDS.get(stage);
      mustHold(bound === undefined || queued <= bound, "queues are bounded", () => `${name}: ${stage} holds ${queued}`);
    }
  }

  private applied(name: string, batch: CommandBatch, applied: AppliedBatch, state: StateMachine): void {
    const { index } = applied;
    const hash = hashText(state.muxDigest(), hashValue(applied.results, hashValue(batch)));
    const known = this.entries.get(index);
    this.checks++;
    if (known !== undefined) {
      mustHold(
        known === hash,
        "all replicas apply the same",
        () => `entry ${index} is another one, or did something else, on ${name}`,
      );
      return;
    }
    mustHold(
      index > this.newestIndex,
      "all replicas apply the same",
      () => `${name} applies entry ${index}, which others left out; they are at ${this.newestIndex}`,
    );
    const status = this.managers.get(name)?.manager.raftStatus();
    if (this.site !== null && status !== undefined) mustBeDurableOnAQuorum(this.site, index, status);
    this.entries.set(index, hash);
    this.newestIndex = index;
    this.newestState = state;
    this.muxDigests.set(index, state.muxDigest());
    for (const change of applied.muxChanges)
      if (change.op === "upsert" && change.item.kind === "vip")
        this.vipOf.set(change.item.address, String(change.item.vipId));
    this.ledger.entry(batch, applied, state);
  }

  // ---- what is in force ----

  private lookAtMux(name: string, watched: { readonly mux: Mux; seen: SeenTables }): void {
    const { tables } = watched.mux.dataplane;
    const generation = tables.generation();
    if (generation === watched.seen.generation) return;
    const index = tables.index();
    this.checks++;
    mustHold(
      index >= watched.seen.index,
      "an index in force never goes back",
      () => `${name}: ${watched.seen.index} -> ${index}`,
    );
    const digest = this.digestAt(index);
    mustHold(
      digest === null || digest === tables.digest(),
      "equal index means equal digest",
      () => `${name} at ${index}: ${tables.digest()}, the Managers ${String(digest)}`,
    );
    const ranges = new Set<string>();
    for (const item of tables.items())
      if (item.kind === "snat") ranges.add(`${item.vipId}/${item.protocol}/${item.range}`);
    watched.seen = { index, generation, ranges };
  }

  private digestAt(index: number): string | null {
    for (let at = index; at > 0 && at > index - 64; at--) {
      const digest = this.muxDigests.get(at);
      if (digest !== undefined) return digest;
    }
    return null;
  }

  private lookAtAgent(name: string, watched: { readonly agent: Agent; seen: SeenTables }): void {
    const { tables } = watched.agent.dataplane;
    const generation = tables.generation();
    if (generation === watched.seen.generation) return;
    const index = tables.index();
    this.checks++;
    mustHold(
      index >= watched.seen.index,
      "an index in force never goes back",
      () => `${name}: ${watched.seen.index} -> ${index}`,
    );
    watched.seen = { index, generation, ranges: this.rangesInForce(name, watched.agent, watched.seen.ranges) };
  }

  /** The ranges in the tables; each that `known` does not name is looked for on the MUXes. */
  private rangesInForce(name: string, agent: Agent, known: ReadonlySet<string>): ReadonlySet<string> {
    const ranges = new Set<string>();
    for (const item of agent.dataplane.tables.items()) {
      if (item.kind !== "range") continue;
      const id = `${item.vipId}/${item.protocol}/${item.range}`;
      ranges.add(id);
      if (known.has(id)) continue;
      // One that was released meanwhile is only still shown: it is stopped, and packets are checked for themselves.
      if (this.ledger.owner(rangeKey(item.vip, item.protocol, item.range)) === item.dipId)
        this.inForceOnMuxes(item.vip, item.protocol, item.range, `in use on ${name}`);
    }
    return ranges;
  }

  /** Every MUX that attracts packets and holds its lease knows whose range this is (unless it knows the VIP no more). */
  private inForceOnMuxes(vip: string, protocol: number, range: number, why: string): void {
    const vipId = this.vipOf.get(vip);
    for (const [name, { process, mux, seen }] of this.muxes) {
      if (process.unit !== mux || this.site?.world.process(name).state !== "running") continue;
      if (seen.ranges.has(`${vipId ?? ""}/${protocol}/${range}`)) continue;
      const status = mux.status();
      if (status.lease !== "held" || !status.announced.some((address) => address === vip)) continue;
      throw new Violation(
        "a range in use is in force on every MUX",
        `${rangeKey(vip, protocol, range)} is ${why}, and ${name} (at ${status.inForce.index}) does not know it`,
      );
    }
  }

  // ---- at intervals ----

  fullCheck(): void {
    this.fullChecks++;
    for (const [name, { process, agent }] of this.agents)
      if (process.ready && process.unit === agent) this.rangesInForce(name, agent, NO_RANGES);
    const digests = new Map<number, { readonly name: string; readonly digest: string }>();
    for (const { name, unit } of this.site?.runningManagers ?? []) {
      const state = unit.state as InspectableStateMachine;
      const { appliedIndex } = state;
      if (state.site === null) continue;
      const digest = state.digest();
      const other = digests.get(appliedIndex);
      mustHold(
        other === undefined || other.digest === digest,
        "equal index means equal digest",
        () => `${name} and ${other?.name ?? ""} differ at ${appliedIndex}`,
      );
      digests.set(appliedIndex, { name, digest });
      if (other !== undefined) continue;
      try {
        assertInvariants(state.inspect());
      } catch (caught) {
        throw new Violation("the state machine's own invariants", `${name} at ${appliedIndex}: ${String(caught)}`);
      }
      if (appliedIndex === this.newestIndex) this.ledger.compare(state);
    }
  }

  /** Inside the product's own calls nothing may be thrown into it: the world ends after this event. */
  private guarded(check: () => void): void {
    try {
      check();
    } catch (caught) {
      if (!(caught instanceof Violation) || this.site === null) throw caught;
      this.site.violation ??= caught;
    }
  }
}

const NO_RANGES: ReadonlySet<string> = new Set();
const NOTHING_SEEN: SeenTables = { index: 0, generation: -1, ranges: NO_RANGES };

/** Sums of the limits in manager/stages/policy.ts. */
const QUEUE_BOUNDS: ReadonlyMap<string, number> = new Map([
  ["vip-validation", 1_024],
  ["vip-configuration", 1_024],
  ["route-management", 64],
  ["snat-management", 16_384 + 65_536],
  ["host-agent-management", 4_096],
  ["mux-pool-management", 256 + 64],
]);
