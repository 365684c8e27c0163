/** What the MUX would do with a packet of a flow, and why; changes nothing. For `flow explain` and for tests. */
import { formatIpv4, parseIpv4 } from "../../core/address.js";
import type { DipId, IpAddress, Ipv4, PoolId, VipId } from "../../core/brands.js";
import type { FlowRecord } from "../../dataplane/contract.js";
import type { DropReason } from "../../dataplane/drop-reasons.js";
import { DISTRIBUTION_FIVE_TUPLE } from "../../dataplane/flow-hash.js";
import { RANGE_SHIFT } from "../../dataplane/layouts.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { ipv4FiveTuple, type FiveTuple } from "../../packet/five-tuple.js";
import type { FlowTable } from "./flow-table.js";
import type { MuxTables } from "./tables.js";

export interface MuxExplanation {
  readonly tuple: FiveTuple;
  readonly vipId: VipId | null;
  /** Pool of the exact rule. */
  readonly poolId: PoolId | null;
  /** Number of the SNAT range that the destination port is in, when a DIP owns it and no rule comes first. */
  readonly snatRange: number | null;
  /** Entry of the flow table; a stale one (its DIP is gone) is not shown. */
  readonly flow: FlowRecord | null;
  readonly dipId: DipId | null;
  /** Outer destination. */
  readonly locator: IpAddress | null;
  readonly drop: DropReason | null;
  /** One sentence. */
  readonly why: string;
}

export interface ExplainOptions {
  readonly nowMs: number;
  /** The packet is a SYN: goes to the map whatever the flow table says. Default false. */
  readonly syn?: boolean;
}

/** Entry of the flow as people see it. */
export function flowRecord(tables: MuxTables, flows: FlowTable, entry: number, nowMs: number): FlowRecord {
  const destination = flows.keyWord(entry, 1);
  const ports = flows.keyWord(entry, 2);
  const vipSlot = tables.vips.find(destination);
  const dipSlot = flows.dipSlot[entry]!;
  const isStale = flows.dipGeneration[entry] !== tables.dips.generation[dipSlot];
  return {
    tuple: ipv4FiveTuple(flows.keyWord(entry, 3), flows.keyWord(entry, 0), ports >>> 16, destination, ports & 0xffff),
    vipId: vipSlot === NOT_FOUND ? (0 as VipId) : tables.vips.vipId(vipSlot),
    dipId: isStale ? (0 as DipId) : tables.dips.dipId(dipSlot),
    state: isStale ? "stale" : flows.isTrusted(entry) ? "trusted" : "untrusted",
    idleMs: flows.idleMs(entry, nowMs),
  };
}

/** Entry of a flow by its five-tuple, or `NOT_FOUND`. */
export function findFlow(tables: MuxTables, flows: FlowTable, tuple: FiveTuple): number {
  const source = parseIpv4(tuple.source);
  const destination = parseIpv4(tuple.destination);
  if (tables.hasher === null || source === null || destination === null) return NOT_FOUND;
  const ports = (tuple.sourcePort << 16) | tuple.destinationPort;
  const hash = tables.hasher.ipv4(source, destination, ports, tuple.protocol, DISTRIBUTION_FIVE_TUPLE);
  return flows.find(hash, source, destination, ports, tuple.protocol);
}

export function explainFlow(
  tables: MuxTables,
  flows: FlowTable,
  tuple: FiveTuple,
  options: ExplainOptions,
): MuxExplanation {
  const nothing = { tuple, vipId: null, poolId: null, snatRange: null, flow: null, dipId: null, locator: null };
  if (tables.hasher === null) return { ...nothing, drop: "not_ready", why: "no hash key has been received yet" };
  const source = parseIpv4(tuple.source);
  const destination = parseIpv4(tuple.destination);
  if (source === null || destination === null) {
    return { ...nothing, drop: "unsupported_family", why: "this MUX forwards IPv4 only" };
  }
  const vipSlot = tables.vips.find(destination);
  if (vipSlot === NOT_FOUND) return { ...nothing, drop: "no_vip", why: `${tuple.destination} is no VIP` };
  const vipId = tables.vips.vipId(vipSlot);
  const poolId = tables.rules.find(vipId, tuple.protocol, tuple.destinationPort);
  const located = (dipId: number): { dipId: DipId | null; locator: IpAddress | null } => {
    const slot = tables.dips.find(dipId);
    const locator = slot === NOT_FOUND ? null : formatIpv4(tables.dips.locator[slot]! as Ipv4);
    return { dipId: dipId === 0 ? null : (dipId as DipId), locator };
  };
  if (poolId === 0) {
    const dipId = tables.snat.find(vipId, tuple.protocol, tuple.destinationPort);
    if (dipId === 0) {
      const why = `neither a rule nor a SNAT range of the VIP has port ${tuple.destinationPort}`;
      return { ...nothing, vipId, drop: "no_rule", why };
    }
    const at = located(dipId);
    const snatRange = tuple.destinationPort >>> RANGE_SHIFT;
    if (at.locator === null) {
      return { ...nothing, ...at, vipId, snatRange, drop: "no_dip", why: `the locator of DIP ${dipId} is not known` };
    }
    return { ...nothing, ...at, vipId, snatRange, drop: null, why: `DIP ${dipId} owns SNAT range ${snatRange}` };
  }
  const entry = findFlow(tables, flows, tuple);
  const found = entry === NOT_FOUND ? null : flowRecord(tables, flows, entry, options.nowMs);
  const flow = found === null || found.state === "stale" ? null : found;
  const base = { ...nothing, vipId, poolId: poolId as PoolId, flow };
  if (flow !== null && options.syn !== true) {
    return { ...base, ...located(flow.dipId), drop: null, why: `the flow table has it, ${flow.state}` };
  }
  const ports = (tuple.sourcePort << 16) | tuple.destinationPort;
  const hash = tables.hasher.ipv4(source, destination, ports, tuple.protocol, DISTRIBUTION_FIVE_TUPLE);
  const dipId = tables.pools.select(poolId, hash);
  if (dipId === 0) return { ...base, drop: "no_dip", why: `pool ${poolId} has no member that takes new flows` };
  const at = located(dipId);
  if (at.locator === null) return { ...base, ...at, drop: "no_dip", why: `the locator of DIP ${dipId} is not known` };
  const because = options.syn === true ? "a SYN goes to the map" : "the flow table does not have it";
  return { ...base, ...at, drop: null, why: `${because}: hash ${hash} of pool ${poolId} is DIP ${dipId}` };
}
