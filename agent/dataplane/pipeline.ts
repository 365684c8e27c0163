/**
 * The life of a packet in a Host Agent (Ananta §3.4): where it came from decides which way it takes.
 *
 *     from the wire  (from-wire.ts)   decapsulate, DNAT                           -> to a VM
 *     from a VM      (from-vm.ts)     reverse NAT, or SNAT (outbound.ts)          -> to the wire
 *     from the host  (here)           its probes                                  -> to a VM
 *
 * Replies go straight to the router, not through a MUX: direct server return (Ananta §3.4.1).
 *
 * Invariants
 *  (P1) Nothing leaves for the outside with a DIP as its source: a packet without translation is held or dropped.
 *  (P2) A packet from a VM has the VM's own address as its source (or a VIP that it holds, with floating IP), and is no
 *       encapsulation of the VM's making.
 *  (P3) Only MUXes that the control plane named may encapsulate to us; the host that a MUX named as the other end of a flow, packets of
 *       this flow alone (`fastpath.ts`); and owners of the slots of our pools, what they have no state for (`second-chance.ts`).
 *  (P4) A new flow has passed the security groups of its VIP and of its DIP; packets of flows are not asked again.
 */
import { DROP } from "../../dataplane/drop-reasons.js";
import type { HostLayout } from "../../dataplane/layouts.js";
import { type PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { NO_FAULT } from "../../packet/fault.js";
import { parseIpPacket } from "../../packet/parse.js";
import { NO_ADDRESS } from "./addresses.js";
import { EchoNat } from "./snat/echo-nat.js";
import { HostFastpath } from "./fastpath.js";
import { FlowLife } from "./flow-life.js";
import { HostFragments } from "./fragments.js";
import { FromVm } from "./from-vm.js";
import { FromWire } from "./from-wire.js";
import { HELD, type HostParts } from "./host-parts.js";
import { IcmpErrors } from "./icmp-errors.js";
import { NatState } from "./nat-state.js";
import { Outbound } from "./snat/outbound.js";
import { SecondChance } from "./second-chance.js";
import { WayOut } from "./way-out.js";

export interface HostPipelineOptions {
  readonly layout: HostLayout;
  /** Of fragments, 8 bytes. */
  readonly hashKey: Uint8Array;
  /** How long a first packet waits for a port when its VIP says nothing, and its later fragments with it. */
  readonly holdMs: number;
}

export class HostPipeline {
  readonly fastpath: HostFastpath;
  readonly fragments: HostFragments;
  readonly chance: SecondChance;
  readonly #parts: HostParts;
  readonly #wayOut: WayOut;
  readonly #life: FlowLife;
  readonly #outbound: Outbound;
  readonly #fromWire: FromWire;
  readonly #fromVm: FromVm;
  #generation = 0;

  constructor(parts: HostParts, { layout, hashKey, holdMs }: HostPipelineOptions) {
    this.#parts = parts;
    const wayOut = new WayOut(parts);
    const life = new FlowLife(parts);
    this.chance = new SecondChance(parts, life);
    const icmp = new IcmpErrors(parts, wayOut, this.chance);
    const echo = new EchoNat(parts, wayOut, life);
    const outbound = new Outbound(parts, wayOut, life);
    this.fastpath = new HostFastpath(parts, wayOut);
    const fragments = new HostFragments(parts, wayOut, layout, hashKey, holdMs);
    this.fragments = fragments;
    this.#wayOut = wayOut;
    this.#life = life;
    this.#outbound = outbound;
    this.#fromWire = new FromWire(parts, {
      wayOut,
      life,
      icmp,
      echo,
      fastpath: this.fastpath,
      fragments,
      chance: this.chance,
    });
    this.#fromVm = new FromVm(parts, { wayOut, life, icmp, echo, outbound, fastpath: this.fastpath, fragments });
  }

  /** `link`: where all packets came from; -1: each from its own link in the batch. */
  process(batch: PacketBatch, link: number, nowMs: number, out: PacketBatch): void {
    const { tables, counters } = this.#parts;
    if (this.#generation !== tables.generation()) this.#retryHeld(nowMs, out);
    const count = batch.count;
    for (let i = 0; i < count; i++) {
      const offset = batch.offsets[i]!; // i < count
      const length = batch.lengths[i]!;
      counters.receivedPackets++;
      counters.receivedBytes += length;
      const from = link < 0 ? batch.links[i]! : link;
      const result =
        from === WIRE_LINK
          ? this.#fromWire.process(batch, offset, length, nowMs, out)
          : this.#fromVm.process(batch, offset, length, from, true, nowMs, out);
      if (result >= 0) counters.drops[result]!++;
    }
  }

  /** The host's own packets, each for the machine of its link: probes. They count as received from nobody. */
  processFromHost(batch: PacketBatch, out: PacketBatch): void {
    const { counters } = this.#parts;
    for (let i = 0; i < batch.count; i++) {
      const result = this.#probe(batch, i, out);
      if (result >= 0) counters.drops[result]!++;
    }
  }

  tick(nowMs: number, out: PacketBatch): void {
    const { nat, held } = this.#parts;
    for (let budget = NatState.expireMax; budget > 0; budget--) {
      const entry = nat.nextExpired(nowMs);
      if (entry === NOT_FOUND) break;
      this.#life.expired(entry, nowMs, out);
    }
    // What has waited its time is given up, even if a port came free just now: its sender has counted on the answer.
    for (let record = held.expired(nowMs); record !== NOT_FOUND; record = held.expired(nowMs)) {
      this.#outbound.giveUp(record, out);
    }
    this.#retryHeld(nowMs, out);
    this.fragments.tick(nowMs);
    this.#parts.paths.expire(nowMs);
    this.#parts.tables.owners.tick();
    this.chance.tick(nowMs);
  }

  /** Removes a NAT entry for a reason from outside the packet path, see `FLOW_ENDS`. */
  endFlow(entry: number, end: number, nowMs: number): void {
    this.#life.end(entry, end, nowMs);
  }

  #probe(batch: PacketBatch, i: number, out: PacketBatch): number {
    const { tables, header } = this.#parts;
    const dipId = batch.links[i]!; // i < count, as below
    const slot = tables.findDip(dipId);
    if (slot === NOT_FOUND) return DROP.unknown_link;
    const fault = parseIpPacket(batch.view, batch.offsets[i]!, batch.lengths[i]!, header);
    if (fault !== NO_FAULT) return fault;
    const { protocol, destinationPort: port } = header;
    const flow = { direction: "in", protocol, port, peer: NO_ADDRESS, through: [], isProbe: true } as const;
    if (!tables.security.allows(tables.groupsOf(slot), flow)) return DROP.security_group;
    return this.#wayOut.copy(batch, dipId, out) < 0 ? DROP.output_full : NO_FAULT;
  }

  /** Sends what found a port meanwhile, oldest first. */
  #retryHeld(nowMs: number, out: PacketBatch): void {
    const { tables, held, counters } = this.#parts;
    this.#generation = tables.generation();
    let record = held.oldest();
    while (record !== NOT_FOUND) {
      const next = held.newer(record);
      const link = tables.dipId(held.dipSlot[record]!);
      const result = this.#fromVm.process(
        held.store,
        held.offset(record),
        held.lengths[record]!,
        link,
        false,
        nowMs,
        out,
      );
      if (result !== HELD) {
        if (result >= 0) counters.drops[result]!++;
        held.remove(record);
      }
      record = next;
    }
  }
}
