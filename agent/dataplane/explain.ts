/** What the agent would do with a packet of a flow, and why; changes nothing. */
import type { DipId, VipId } from "../../core/brands.js";
import type { FlowRecord } from "../../dataplane/contract.js";
import type { DropReason } from "../../dataplane/drop-reasons.js";
import { RANGE_SHIFT } from "../../dataplane/layouts.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { NO_ADDRESS } from "./addresses.js";
import type { HostCounters } from "./counters.js";
import type { DirectFlows } from "./direct-flows.js";
import { INBOUND, type NatState } from "./nat-state.js";
import type { SnatPorts } from "./snat/snat-ports.js";
import type { HostTables } from "./tables.js";

export interface HostExplanation {
  readonly tuple: FiveTuple;
  /** "from-vm" when the source is a DIP of this host, else "from-wire" (as inside the MUX's outer header). */
  readonly side: "from-vm" | "from-wire";
  readonly dipId: DipId | null;
  readonly flow: FlowRecord | null;
  /** The tuple after translation; null when the packet does not get that far. */
  readonly translated: FiveTuple | null;
  readonly drop: DropReason | null;
  /** One sentence. */
  readonly why: string;
}

interface Parts {
  readonly tables: HostTables;
  readonly nat: NatState;
  readonly direct: DirectFlows;
  readonly ports: SnatPorts;
  readonly counters: HostCounters;
}

/** Entry as people see it, in the direction of its first packet as the outside sees it. */
export function natRecord({ tables, nat, counters }: Parts, entry: number, nowMs: number): FlowRecord {
  const [remote, remotePort, vip, vipPort] = [
    nat.remote(entry),
    nat.remotePort(entry),
    nat.vip(entry),
    nat.vipPort(entry),
  ];
  const protocol = nat.protocol(entry);
  return {
    tuple:
      nat.direction[entry] === INBOUND
        ? tables.addresses.tuple(protocol, remote, remotePort, vip, vipPort)
        : tables.addresses.tuple(protocol, vip, vipPort, remote, remotePort),
    vipId: counters.vipId(nat.counter[entry]!),
    dipId: tables.dipId(nat.dipSlot(entry)),
    state: nat.stateName(entry),
    idleMs: nat.queues.idleMs(entry, nowMs),
  };
}

/** Why a packet of the entry goes where it goes. */
function whyByEntry({ direct }: Parts, entry: number, state: string, nowMs: number): string {
  const peer = direct.peerOf(entry, nowMs);
  return `NAT state has it: ${state}${peer === null ? "" : `; straight to the host of ${peer} (FastPath)`}`;
}

/** Entry that a packet of this tuple would find, from whichever side, or `NOT_FOUND`. */
export function findEntry({ tables, nat }: Parts, tuple: FiveTuple): number {
  const source = tables.addresses.find(tuple.source);
  const destination = tables.addresses.find(tuple.destination);
  if (source === NO_ADDRESS || destination === NO_ADDRESS) return NOT_FOUND;
  const { protocol, sourcePort, destinationPort } = tuple;
  for (const slot of tables.dipSlots()) {
    if (tables.address[slot] === source) {
      const inside = nat.findInside(source, destination, sourcePort, destinationPort, protocol, slot);
      if (inside !== NOT_FOUND) return inside;
    }
    const outside = nat.findOutside(source, destination, sourcePort, destinationPort, protocol, slot);
    if (outside !== NOT_FOUND) return outside;
    // A SNAT flow by the tuple that the outside sees.
    const reverse = nat.findOutside(destination, source, destinationPort, sourcePort, protocol, slot);
    if (reverse !== NOT_FOUND) return reverse;
  }
  return NOT_FOUND;
}

export function explainHostFlow(parts: Parts, tuple: FiveTuple, nowMs: number): HostExplanation {
  const { tables } = parts;
  const source = tables.addresses.take(tuple.source);
  const destination = tables.addresses.take(tuple.destination);
  try {
    if (source === NO_ADDRESS || destination === NO_ADDRESS) {
      const nothing = { tuple, side: "from-wire", dipId: null, flow: null, translated: null } as const;
      return { ...nothing, drop: "bad_ip_address", why: "no packet may have these addresses" };
    }
    const slot = tables.dipSlots().find((candidate) => tables.address[candidate] === source);
    return slot === undefined
      ? explainFromWire(parts, tuple, source, destination, nowMs)
      : explainFromVm(parts, tuple, slot, destination, nowMs);
  } finally {
    for (const number of [source, destination]) if (number !== NO_ADDRESS) tables.addresses.release(number);
  }
}

function explainFromWire(
  parts: Parts,
  tuple: FiveTuple,
  source: number,
  destination: number,
  nowMs: number,
): HostExplanation {
  const { tables, nat, ports } = parts;
  const { protocol, sourcePort, destinationPort } = tuple;
  const base = { tuple, side: "from-wire", flow: null, translated: null } as const;
  const toDip = (slot: number, port: number): FiveTuple => ({
    ...tuple,
    destination: tables.addresses.format(tables.address[slot]!),
    destinationPort: port,
  });
  for (const slot of tables.dipSlots()) {
    const entry = nat.findOutside(source, destination, sourcePort, destinationPort, protocol, slot);
    if (entry === NOT_FOUND) continue;
    const flow = natRecord(parts, entry, nowMs);
    const translated = toDip(slot, nat.dipPort(entry));
    return {
      ...base,
      dipId: flow.dipId,
      flow,
      translated,
      drop: null,
      why: whyByEntry(parts, entry, flow.state, nowMs),
    };
  }
  for (const slot of tables.dipSlots()) {
    const dipId = tables.dipId(slot);
    const endpoint = tables.endpoints.find(destination, protocol, destinationPort, dipId);
    if (endpoint === NOT_FOUND) continue;
    const translated = toDip(slot, tables.endpoints.dipPortFor(endpoint, destinationPort));
    return {
      ...base,
      dipId,
      translated,
      drop: null,
      why: `a new flow to an endpoint of DIP ${dipId}, if a MUX sends it here`,
    };
  }
  const range = ports.findRange(destination, protocol, destinationPort >>> RANGE_SHIFT);
  if (range === NOT_FOUND) {
    return {
      ...base,
      dipId: null,
      drop: "no_endpoint",
      why: "no endpoint and no SNAT range of this host has the port",
    };
  }
  const dipId = ports.ownerOf(range);
  return { ...base, dipId, drop: "no_snat_flow", why: `DIP ${dipId} owns the port but has no flow with this remote` };
}

function explainFromVm(
  parts: Parts,
  tuple: FiveTuple,
  slot: number,
  destination: number,
  nowMs: number,
): HostExplanation {
  const { tables, nat } = parts;
  const dipId = tables.dipId(slot);
  const { protocol, sourcePort, destinationPort } = tuple;
  const base = { tuple, side: "from-vm", dipId, flow: null, translated: null } as const;
  const entry = nat.findInside(tables.address[slot]!, destination, sourcePort, destinationPort, protocol, slot);
  if (entry !== NOT_FOUND) {
    const flow = natRecord(parts, entry, nowMs);
    const translated = { ...tuple, source: tables.addresses.format(nat.vip(entry)), sourcePort: nat.vipPort(entry) };
    return { ...base, flow, translated, drop: null, why: whyByEntry(parts, entry, flow.state, nowMs) };
  }
  if (tables.isInternal(destination, slot)) {
    return { ...base, translated: tuple, drop: null, why: "the destination is internal: not translated" };
  }
  const vips: readonly { readonly vipId: VipId }[] = tables.outboundVips(dipId);
  if (vips.length === 0) return { ...base, drop: "no_outbound_vip", why: `DIP ${dipId} has no VIP to leave by` };
  return {
    ...base,
    drop: null,
    why: `a new flow: it gets a SNAT port of VIP ${vips.map((vip) => vip.vipId).join(" or ")}`,
  };
}
