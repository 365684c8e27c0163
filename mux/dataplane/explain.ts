/** What the MUX would do with a packet of a flow, and why; changes nothing. For `flow explain` and for tests. */
import type { DipId, IpAddress, PoolId, VipId } from "../../core/brands.js";
import type { FlowRecord } from "../../dataplane/contract.js";
import type { DropReason } from "../../dataplane/drop-reasons.js";
import { DISTRIBUTION_FIVE_TUPLE, distributionPorts, distributionProtocol } from "../../dataplane/flow-hash.js";
import { RANGE_SHIFT } from "../../dataplane/layouts.js";
import { NOT_FOUND } from "../../dataplane/word-index.js";
import { addressWords, formatWords } from "../../packet/address-words.js";
import type { FiveTuple } from "../../packet/five-tuple.js";
import { createPacketHeader, type PacketHeader } from "../../packet/header.js";
import type { FlowTable } from "./flow-table.js";
import type { MuxTables } from "./tables.js";

export interface MuxExplanation {
  readonly tuple: FiveTuple;
  readonly vipId: VipId | null;
  /** Pool of the rule. */
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
  const { source, ports, protocol, vipId } = flows.key(entry);
  const vipSlot = tables.vips.findId(vipId);
  const vip = vipSlot === NOT_FOUND ? null : tables.vips.address(vipSlot);
  const member = flows.member(entry);
  const isStale = flows.generation(entry) !== tables.members.generation(member, protocol);
  return {
    tuple: {
      protocol,
      source: formatWords(...source),
      sourcePort: ports >>> 16,
      destination: vip === null ? ("0.0.0.0" as IpAddress) : formatWords(vip[0]!, vip[1]!, vip[2]!, vip[3]!),
      destinationPort: ports & 0xffff,
    },
    vipId: vip === null ? (0 as VipId) : (vipId as VipId),
    dipId: isStale ? (0 as DipId) : (tables.members.dipId(member) as DipId),
    state: isStale ? "stale" : flows.isTrusted(entry) ? "trusted" : "untrusted",
    idleMs: flows.idleMs(entry, nowMs | 0),
  };
}

/** The tuple as a parsed packet has it; null when an address is none. */
function headerOf(tuple: FiveTuple): PacketHeader | null {
  const [source, destination] = [addressWords(tuple.source), addressWords(tuple.destination)];
  if (source === null || destination === null) return null;
  const header = createPacketHeader();
  type Words = readonly [number, number, number, number];
  [header.source0, header.source1, header.source2, header.source3] = source as unknown as Words;
  [header.destination0, header.destination1, header.destination2, header.destination3] =
    destination as unknown as Words;
  header.protocol = tuple.protocol;
  header.sourcePort = tuple.sourcePort;
  header.destinationPort = tuple.destinationPort;
  return header;
}

const portsOf = (tuple: FiveTuple): number => (tuple.sourcePort << 16) | tuple.destinationPort;

const vipOf = (tables: MuxTables, header: PacketHeader): number =>
  tables.vips.find(header.destination0, header.destination1, header.destination2, header.destination3);

/** Entry of a flow by its five-tuple, or `NOT_FOUND`. */
export function findFlow(tables: MuxTables, flows: FlowTable, tuple: FiveTuple): number {
  const header = headerOf(tuple);
  if (tables.hasher === null || header === null) return NOT_FOUND;
  const vipSlot = vipOf(tables, header);
  if (vipSlot === NOT_FOUND) return NOT_FOUND;
  const hash = tables.hasher.header(header, portsOf(tuple), tuple.protocol, DISTRIBUTION_FIVE_TUPLE);
  return flows.find(hash, header, tables.vips.vipId(vipSlot), portsOf(tuple), tuple.protocol);
}

export function explainFlow(
  tables: MuxTables,
  flows: FlowTable,
  tuple: FiveTuple,
  options: ExplainOptions,
): MuxExplanation {
  const nothing = { tuple, vipId: null, poolId: null, snatRange: null, flow: null, dipId: null, locator: null };
  const { hasher } = tables;
  if (hasher === null) return { ...nothing, drop: "not_ready", why: "no hash key has been received yet" };
  const header = headerOf(tuple);
  if (header === null) return { ...nothing, drop: "bad_ip_address", why: "the flow's addresses are none" };
  const vipSlot = vipOf(tables, header);
  if (vipSlot === NOT_FOUND) return { ...nothing, drop: "no_vip", why: `${tuple.destination} is no VIP` };
  const vipId = tables.vips.vipId(vipSlot);
  const { protocol, destinationPort } = tuple;
  const to = (dipId: number, base: Partial<MuxExplanation>, why: string): MuxExplanation => {
    const slot = tables.dips.find(dipId);
    const at = { ...nothing, vipId, dipId: dipId as DipId, ...base };
    if (slot === NOT_FOUND) return { ...at, drop: "no_dip", why: `the locator of DIP ${dipId} is not known` };
    const words = tables.dips.locators.subarray(slot * 4, slot * 4 + 4);
    return { ...at, locator: formatWords(words[0]!, words[1]!, words[2]!, words[3]!), drop: null, why };
  };
  let rule = tables.rules.find(vipId, protocol, destinationPort);
  const isExact = rule !== NOT_FOUND;
  if (!isExact) {
    const nat = tables.nats.find(vipId, protocol, destinationPort);
    if (nat !== 0) return to(nat, {}, `inbound NAT of port ${destinationPort}`);
    const owner = tables.snat.find(vipId, protocol, destinationPort);
    const snatRange = destinationPort >>> RANGE_SHIFT;
    if (owner !== 0)
      return to(
        owner,
        { snatRange },
        `the DIP owns SNAT ports ${snatRange << RANGE_SHIFT} to ${((snatRange + 1) << RANGE_SHIFT) - 1}`,
      );
    rule = tables.rules.findAllPorts(vipId, protocol);
  }
  if (rule === NOT_FOUND) {
    const why = `neither a rule nor a SNAT range of the VIP has port ${destinationPort}`;
    return { ...nothing, vipId, drop: "no_rule", why };
  }
  const pool = tables.rules.pool(rule);
  const entry = findFlow(tables, flows, tuple);
  const found = entry === NOT_FOUND ? null : flowRecord(tables, flows, entry, options.nowMs);
  const flow = found === null || found.state === "stale" ? null : found;
  const base = { poolId: pool.poolId, flow };
  if (flow !== null && options.syn !== true) return to(flow.dipId, base, `the flow table has it, ${flow.state}`);
  const mode = tables.rules.distribution(rule);
  const [ports, ofProtocol] = [distributionPorts(portsOf(tuple), mode), distributionProtocol(protocol, mode)];
  const hash = hasher.header(header, ports, ofProtocol, mode);
  const member = pool.select(hash);
  if (member === NOT_FOUND) {
    const why = "the pool has no member that takes new flows";
    return { ...nothing, ...base, vipId, drop: "no_dip", why };
  }
  const dipId = tables.members.dipId(member);
  const because = options.syn === true ? "a SYN goes to the map" : "the flow table does not have it";
  const by = isExact ? "" : " by an all-port rule";
  return to(dipId, base, `${because}: hash 0x${(hash >>> 0).toString(16).padStart(8, "0")}${by}`);
}
