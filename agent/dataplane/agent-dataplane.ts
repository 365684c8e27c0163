/**
 * A Host Agent's data plane in TypeScript: the parts put together behind the contract of `dataplane/contract.ts`, and what
 * the agent's control side asks of SNAT.
 *
 *     items --> HostTables --+--> SnatPorts
 *                            +--> HostPipeline --> packets to VMs and to the router
 *     packets ---------------+ <--> NatState, HeldPackets
 *
 * Giving a range back: `releasableRanges` says which have been unused, `stopRange` makes sure that no flow starts on one;
 * only then may control ask the Manager to take it. The delta that removes it ends the matter; `resumeRange` takes the stop
 * back if the Manager refuses.
 */
import type { DipId, IpAddress } from "../../core/brands.js";
import type { Random } from "../../core/random.js";
import type { FlowRecord, Flows, PacketProcessor, Tables, Telemetry } from "../../dataplane/contract.js";
import { dropsByReason } from "../../dataplane/drop-reasons.js";
import { EventRing } from "../../dataplane/event-ring.js";
import type { HostChange, HostItem } from "../../dataplane/host-items.js";
import {
  FABRIC_MTU_BYTES,
  HOST_LAYOUT,
  NAT_TIMEOUTS,
  type HostLayout,
  type NatTimeouts,
} from "../../dataplane/layouts.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import { PacketBatch, WIRE_LINK } from "../../dataplane/packet-batch.js";
import { PathMtus } from "../../dataplane/path-mtu.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { PROTOCOL_TCP } from "../../packet/ipv4.js";
import { createPacketHeader } from "../../packet/header.js";
import { Addresses } from "./addresses.js";
import { HostCounters } from "./counters.js";
import { DirectFlows } from "./direct-flows.js";
import { DrainedFlows } from "./drained-flows.js";
import { EndpointMappings } from "./snat/endpoint-mappings.js";
import { explainHostFlow, findEntry, natRecord, type HostExplanation } from "./explain.js";
import type { FastpathCounts } from "./fastpath.js";
import { HeldPackets } from "./snat/held-packets.js";
import { sendResets } from "./idle-answers.js";
import {
  END_DIP_GONE,
  END_DRAINED,
  END_OPERATOR,
  END_RANGE_GONE,
  FLOW_ENDS,
  LastWords,
  type EndedFlow,
  type FlowEnd,
} from "./last-words.js";
import { NatState } from "./nat-state.js";
import { HostPipeline } from "./pipeline.js";
import { portLedger, type DestinationPorts } from "./snat/port-ledger.js";
import { portsInUse } from "./snat/ports-in-use.js";
import { SnatPorts, type PortUse, type RangeRef, type SnatDemand } from "./snat/snat-ports.js";
import type { SecondChanceCounts } from "./second-chance.js";
import type { ProbedHost } from "./probed-host.js";
import { ReservedAddresses } from "./reserved.js";
import { HostTables } from "./tables.js";

export interface AgentDataplaneOptions {
  /** For ports and for the key of the NAT tables' hash. The data plane takes it over. */
  readonly random: Random;
  readonly layout?: Partial<HostLayout>;
  readonly timeouts?: Partial<NatTimeouts>;
  /** Default 1,500; the MSS is clamped to what fits with an outer header: 1,440, for IPv6 in IPv6 1,400. */
  readonly fabricMtuBytes?: number;
}

export interface AgentDataplane extends PacketProcessor, ProbedHost {
  readonly tables: Tables<HostItem, HostChange>;
  readonly flows: Flows;
  readonly telemetry: Telemetry;
  /** Every packet of the batch came from the wire. `process` tells sides apart by the packets' links instead. */
  processFromWire(batch: PacketBatch, nowMs: number, out: PacketBatch): void;
  /** Every packet of the batch came from the machine of this DIP. */
  processFromVm(dipId: DipId, batch: PacketBatch, nowMs: number, out: PacketBatch): void;
  /** Of every DIP that may leave by a VIP, for TCP and UDP. Call about once a second, and after a "snat-miss". */
  snatDemand(nowMs: number): readonly SnatDemand[];
  /** Ranges without a flow for `idleMs`, longest idle first. */
  releasableRanges(nowMs: number, idleMs: number): readonly RangeRef[];
  /** Ranges that the Managers want back, and whose flows are over. */
  returnableRanges(): readonly RangeRef[];
  /** True when the range has no flow and will get none. */
  stopRange(vip: IpAddress, protocol: PortProtocol, range: number): boolean;
  resumeRange(vip: IpAddress, protocol: PortProtocol, range: number): void;
  stoppedRanges(): readonly RangeRef[];
  /** Flows that ended since the start, by how. */
  endedFlowCounts(): ReadonlyMap<FlowEnd, number>;
  /** How flows ended, newest first. */
  endedFlows(limit: number, matches?: (flow: EndedFlow) => boolean): readonly EndedFlow[];
  /** Ports in use and on hold by destination, fullest first: who exhausts what. Walks all flows. */
  portLedger(limit: number, nowMs: number): readonly DestinationPorts[];
  /** Ports in use and on hold of each DIP at each VIP. Walks all flows. */
  portsInUse(): readonly PortUse[];
  fastpath(): FastpathCounts;
  /** Before the first tick: this host had an agent before, so its machines may have flows that nobody here knows. */
  restarted(): void;
  /** Segments without state, passed on between hosts. */
  secondChance(): SecondChanceCounts;
  /** Packets of inbound flows that were served without a NAT entry, for want of room, since the start. */
  untracked(): number;
  /** Routers' words about the MTU of a path that were believed, since the start. */
  pathMtusLearned(): number;
  explain(tuple: FiveTuple, options: { readonly nowMs: number }): HostExplanation;
}

const PROTOCOLS: readonly PortProtocol[] = [6, 17];

/** IPv6 and TCP headers without options are 60. */
const RESET_BYTES_MAX = 64;

/** Room for every IPv6 address that anything may keep, and those of the packets at hand: it never fills (A1). */
const addressCapacity = (layout: HostLayout): number =>
  2 * (layout.flows + layout.dips + layout.held + layout.events + layout.lastWords) +
  layout.endpoints +
  layout.outbounds +
  layout.ranges +
  2 * layout.muxes +
  layout.rules +
  layout.owners +
  ReservedAddresses.count;

export function createAgentDataplane(options: AgentDataplaneOptions): AgentDataplane {
  const layout: HostLayout = { ...HOST_LAYOUT, ...options.layout };
  const timeouts: NatTimeouts = { ...NAT_TIMEOUTS, ...options.timeouts };
  const { random } = options;
  let lastMs = 0;
  const hashKey = Uint8Array.from({ length: 8 }, () => random.below(256));
  const addresses = new Addresses(addressCapacity(layout), hashKey);
  const nat = new NatState(layout.flows, timeouts, hashKey, addresses);
  const direct = new DirectFlows(layout.flows);
  const ports = new SnatPorts(layout.ranges, layout.flows, random, addresses);
  const counters = new HostCounters(layout.dips, layout.vips);
  const events = new EventRing(layout.events, addresses);
  const lastWords = new LastWords(layout.lastWords, addresses);
  const held = new HeldPackets(layout, timeouts.holdMs, addresses);
  const tables: HostTables = new HostTables(
    layout,
    addresses,
    ports,
    () => lastMs,
    (dipSlots, ranges, ended) => {
      const drained = new DrainedFlows(ended, { nat, addresses, tables });
      const matching: number[] = [];
      for (let entry = 0; entry < nat.capacity; entry++) {
        if (!nat.isLive(entry)) continue;
        if (dipSlots.has(nat.dipSlot(entry))) pipeline.endFlow(entry, END_DIP_GONE, lastMs);
        else if (nat.hasPort(entry) && ranges.has(nat.range[entry]!)) pipeline.endFlow(entry, END_RANGE_GONE, lastMs);
        else if (drained.has(entry)) matching.push(entry);
      }
      resetFlows(matching, END_DRAINED);
      for (let record = held.oldest(); record !== NOT_FOUND;) {
        const next = held.newer(record);
        if (dipSlots.has(held.dipSlot[record]!)) held.remove(record);
        record = next;
      }
    },
  );
  const fabricMtuBytes = options.fabricMtuBytes ?? FABRIC_MTU_BYTES;
  const pipelineParts = {
    addresses,
    reserved: new ReservedAddresses(addresses),
    tables,
    nat,
    direct,
    ports,
    mappings: new EndpointMappings(layout.flows, ports),
    held,
    counters,
    events,
    lastWords,
    header: createPacketHeader(),
    fabricMtuBytes,
    paths: new PathMtus(layout.pathMtus, fabricMtuBytes),
  };
  const pipeline = new HostPipeline(pipelineParts, { layout, hashKey, holdMs: timeouts.holdMs });
  const parts = { tables, nat, direct, ports, counters };
  const process = (batch: PacketBatch, link: number, nowMs: number, out: PacketBatch): void => {
    lastMs = nowMs;
    pipeline.process(batch, link, nowMs, out);
  };

  /** Of flows that were reset: they leave with the next ticks. */
  const dueResets: { readonly resets: PacketBatch; next: number }[] = [];
  const resetFlows = (entries: readonly number[], end: number): void => {
    if (entries.length === 0) return;
    const count = 2 * entries.length;
    const resets = new PacketBatch({ packets: count, bytes: count * RESET_BYTES_MAX });
    for (const entry of entries) {
      if (nat.protocol(entry) === PROTOCOL_TCP) sendResets(pipelineParts, entry, resets);
      pipeline.endFlow(entry, end, lastMs);
    }
    dueResets.push({ resets, next: 0 });
  };
  const sendDueResets = (out: PacketBatch): void => {
    for (let due = dueResets[0]; due !== undefined; due = dueResets[0]) {
      for (; due.next < due.resets.count; due.next++)
        if (!out.append(due.resets.packet(due.next), due.resets.links[due.next])) return;
      dueResets.shift();
    }
  };

  const flows: Flows = {
    lookUp: (tuple, nowMs, answer) => {
      const entry = findEntry(parts, tuple);
      answer(entry === NOT_FOUND ? null : natRecord(parts, entry, nowMs));
    },
    list: (cursor, limit, nowMs, answer) => {
      const records: FlowRecord[] = [];
      let entry = cursor;
      for (; entry < nat.capacity && records.length < limit; entry++) {
        if (nat.isLive(entry)) records.push(natRecord(parts, entry, nowMs));
      }
      answer(records, entry < nat.capacity ? entry : null);
    },
    reset: (filter, answer) => {
      const matching: number[] = [];
      for (let entry = 0; entry < nat.capacity; entry++) {
        if (!nat.isLive(entry)) continue;
        if (filter.vipId !== undefined && filter.vipId !== counters.vipId(nat.counter[entry]!)) continue; // of a live entry
        if (filter.dipId !== undefined && filter.dipId !== tables.dipId(nat.dipSlot(entry))) continue;
        if (filter.protocol !== undefined && filter.protocol !== nat.protocol(entry)) continue;
        matching.push(entry);
      }
      resetFlows(matching, END_OPERATOR);
      answer(matching.length);
    },
  };

  const telemetry: Telemetry = {
    counters: () => ({
      received: { packets: counters.receivedPackets, bytes: counters.receivedBytes },
      sent: { packets: counters.sentPackets, bytes: counters.sentBytes },
      drops: dropsByReason(counters.drops),
      vips: counters.vipTraffic(),
      dips: new Map(
        tables
          .dipSlots()
          .map((slot) => [
            tables.dipId(slot),
            { packets: counters.dipPackets[slot]!, bytes: counters.dipBytes[slot]! },
          ]),
      ),
      eventsLost: events.lost,
    }),
    gauges: () => ({
      flows: nat.size,
      flowCapacity: nat.capacity,
      entries: {
        "held-packets": held.size,
        fragments: pipeline.fragments.size,
        "fragments-held": pipeline.fragments.heldCount,
        dips: tables.count("dip"),
        endpoints: tables.count("endpoint"),
        ranges: ports.rangeCount,
        "slot-tables": tables.owners.tableCount,
        "path-mtus": pipelineParts.paths.size,
      },
    }),
    drainEvents: (limit) => ({ events: events.drain(limit), lost: events.lost }),
  };

  return {
    tables,
    flows,
    telemetry,
    probesVersion: () => tables.probesVersion,
    probes: () => tables.probes(),
    addressOf: (dipId) => {
      const slot = tables.findDip(dipId);
      return slot === NOT_FOUND ? null : addresses.format(tables.address[slot]!);
    },
    udpTraffic: (dipId, dipPort) => nat.udpTraffic(tables.findDip(dipId), dipPort),
    processFromHost: (batch, nowMs, out) => {
      lastMs = nowMs;
      pipeline.processFromHost(batch, out);
    },
    process: (batch, nowMs, out) => process(batch, -1, nowMs, out),
    processFromWire: (batch, nowMs, out) => process(batch, WIRE_LINK, nowMs, out),
    processFromVm: (dipId, batch, nowMs, out) => process(batch, dipId, nowMs, out),
    tick: (nowMs, out) => {
      lastMs = nowMs;
      pipeline.tick(nowMs, out);
      sendDueResets(out);
    },
    snatDemand: (nowMs) => {
      const slots = tables.dipSlots().filter((slot) => tables.outboundVips(tables.dipId(slot)).length > 0);
      const pairs = slots.flatMap((slot) => PROTOCOLS.map((protocol) => ({ dipId: tables.dipId(slot), protocol })));
      return ports.demand(pairs, nowMs).map((demand) => ({
        ...demand,
        waiting: held.waiting(tables.findDip(demand.dipId), demand.protocol),
      }));
    },
    releasableRanges: (nowMs, idleMs) => ports.releasable(nowMs, idleMs),
    returnableRanges: () => ports.returnable(),
    stopRange: (vip, protocol, range) => {
      return ports.stop(addresses.find(vip), protocol, range);
    },
    resumeRange: (vip, protocol, range) => {
      ports.resume(addresses.find(vip), protocol, range);
    },
    stoppedRanges: () => ports.stopped(),
    endedFlowCounts: () => new Map(FLOW_ENDS.map((end, place) => [end, lastWords.counts[place]!])), // one count per end
    endedFlows: (limit, matches) => lastWords.list(limit, matches),
    portLedger: (limit, nowMs) => portLedger({ tables, nat, ports }, limit, nowMs),
    portsInUse: () => portsInUse(nat, ports),
    fastpath: () => pipeline.fastpath.counts(),
    restarted: () => pipeline.chance.restarted(),
    secondChance: () => pipeline.chance.counts(),
    untracked: () => counters.untracked,
    pathMtusLearned: () => pipelineParts.paths.learned,
    explain: (tuple, { nowMs }) => explainHostFlow(parts, tuple, nowMs),
  };
}
