/** The host scope between the wire's form and ours. Every field is checked: a bad one ends the stream. */
import { parseIpAddress } from "../../core/address.js";
import type { DipId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
import { given } from "../../core/present.js";
import { MAGLEV_SIZE_MAX } from "../../dataplane/maglev.js";
import type { HostItem } from "../../dataplane/host-items.js";
import type { PortProtocol } from "../../dataplane/mux-items.js";
import type { ProjectionStep } from "../../dataplane/projection-receiver.js";
import type { ananta } from "../../proto/gen/wire.js";
import { heldBlocks, type HeldBlock, type HeldRange } from "./held-range.js";

/** Throws INVALID_ARGUMENT when an item is not what the schema says. */
export function hostStep(update: ananta.v1.ProjectionUpdate.$Properties): ProjectionStep<HostItem> {
  return {
    clusterEpoch: update.clusterEpoch ?? 0,
    index: (update.index ?? 0) as LogIndex,
    snapshot: update.snapshot ?? false,
    last: update.last ?? false,
    upserts: (update.hostItems ?? []).map(hostItem),
    removedKeys: update.removedKeys ?? [],
    digest: update.digest ?? "",
  };
}

function hostItem(wire: ananta.v1.HostItem.$Properties): HostItem {
  const { dip, endpoint, outbound, range, mux, internal, site, probe, group, rule, table, owner, recall } = wire;
  if (range) {
    const { vipId, vip, protocol: number, range: at, dipId } = range;
    return {
      kind: "range",
      vipId: id(vipId),
      vip: address(vip),
      protocol: protocol(number),
      range: at ?? 0,
      dipId: id(dipId),
    };
  }
  if (dip) {
    return {
      kind: "dip",
      dipId: id(dip.dipId),
      address: address(dip.address),
      locator: address(dip.locator),
      tenant: dip.tenant ?? "",
      // The wire's bytes are a view on a buffer that is used again.
      ...given({
        groups: listed(dip.groups),
        fastpathKey: dip.fastpathKey?.length ? Uint8Array.from(dip.fastpathKey) : undefined,
      }),
    };
  }
  if (endpoint) {
    return {
      kind: "endpoint",
      vipId: id(endpoint.vipId),
      vip: address(endpoint.vip),
      protocol: protocol(endpoint.protocol),
      port: endpoint.port ?? 0,
      dipId: id(endpoint.dipId),
      dipPort: endpoint.dipPort ?? 0,
      ...given({
        floating: endpoint.floating === true ? (true as const) : undefined,
        hairpin: oneOf(endpoint.hairpin, ["drop"]),
        idleSeconds: endpoint.idleSeconds,
        idleReset: endpoint.idleReset === false ? (false as const) : undefined,
        fastpath: endpoint.fastpath === false ? (false as const) : undefined,
        ended: endpoint.ended === true ? (true as const) : undefined,
        groups: listed(endpoint.groups),
      }),
    };
  }
  if (probe) {
    return {
      kind: "probe",
      poolId: id(probe.poolId),
      dipId: id(probe.dipId),
      protocol: required(probe.protocol, ["tcp", "http", "https", "udp"]),
      port: probe.port ?? 0,
      intervalSeconds: probe.intervalSeconds ?? 0,
      timeoutSeconds: probe.timeoutSeconds ?? 0,
      healthyThreshold: probe.healthyThreshold ?? 0,
      unhealthyThreshold: probe.unhealthyThreshold ?? 0,
      ...given({
        path: probe.path,
        host: probe.host,
        expectedStatus: listed(probe.expectedStatus),
        send: probe.send,
        expect: probe.expect,
      }),
    };
  }
  if (group) {
    const rules = (group.rules ?? []).map((rule) => ({
      direction: required(rule.direction, ["in", "out"]),
      protocol: required(rule.protocol, ["tcp", "udp", "icmp", "all"]),
      ports: rule.ports ?? [],
      peer: rule.peer ?? "",
      action: required(rule.action, ["allow", "deny"]),
      priority: rule.priority ?? 0,
    }));
    return { kind: "group", group: group.group ?? "", rules };
  }
  if (outbound) {
    return {
      kind: "outbound",
      dipId: id(outbound.dipId),
      vipId: id(outbound.vipId),
      vip: address(outbound.vip),
      ...given({
        selection: oneOf(outbound.selection, ["paired"]),
        udpMapping: oneOf(outbound.udpMapping, ["endpointIndependent"]),
        tcpIdleSeconds: outbound.tcpIdleSeconds,
        udpIdleSeconds: outbound.udpIdleSeconds,
        idleReset: outbound.idleReset === false ? (false as const) : undefined,
        onExhaustion: oneOf(outbound.onExhaustion, ["drop"]),
        queueSeconds: outbound.queueSeconds,
      }),
    };
  }
  if (mux) {
    const addressIpv6 = mux.addressIpv6 ? address(mux.addressIpv6) : undefined;
    return { kind: "mux", muxId: id(mux.muxId), address: address(mux.address), ...given({ addressIpv6 }) };
  }
  if (internal) return { kind: "internal", prefix: internal.prefix ?? "", ...given({ tenant: internal.tenant }) };
  if (rule) {
    return {
      kind: "rule",
      poolId: id(rule.poolId),
      vipId: id(rule.vipId),
      vip: address(rule.vip),
      port: port(rule.port),
      ...given({ distribution: distribution(rule.distribution) }),
    };
  }
  if (table) return tableItem(table);
  if (owner)
    return { kind: "owner", poolId: id(owner.poolId), dipId: id(owner.dipId), locator: address(owner.locator) };
  if (recall) {
    return {
      kind: "recall",
      dipId: id(recall.dipId),
      vipId: id(recall.vipId),
      vip: address(recall.vip),
      protocol: protocol(recall.protocol),
      ranges: [...(recall.ranges ?? [])],
      ...((recall.surplus ?? 0) > 0 ? { surplus: recall.surplus ?? 0 } : {}),
    };
  }
  // The wire's bytes are a view on a buffer that is used again.
  if (site) return { kind: "site", hashKey: Uint8Array.from(site.hashKey ?? []) };
  throw new AnantaError(
    "INVALID_ARGUMENT",
    "host_items: an item of an unknown kind; this agent is too old for its Managers",
  );
}

function tableItem({ poolId, revision, maxMembers, members }: ananta.v1.HostTable.$Properties): HostItem {
  const listed = (members ?? []).map(({ dipId, weight }) => ({ dipId: id<DipId>(dipId), weight: weight ?? 0 }));
  const size = maxMembers ?? 0;
  if (size < 1 || size > MAGLEV_SIZE_MAX || listed.length > size || listed.some(({ weight }) => weight < 1))
    throw new AnantaError("INVALID_ARGUMENT", "host_items: a table has 1 to max_members members of weight above 0");
  return { kind: "table", poolId: id(poolId), revision: revision ?? 0, maxMembers: size, members: listed };
}

/** Ranges of a block, one by one. Null when the block is not what the schema says. */
export function rangesOf(
  block: ananta.v1.RangeBlock.$Properties | null | undefined,
): readonly { readonly vip: IpAddress; readonly protocol: PortProtocol; readonly range: number }[] | null {
  const vip = parseIpAddress(block?.vip ?? "");
  const number = block?.protocol;
  const first = block?.range ?? 0;
  const count = block?.count ?? 0;
  if (vip === null || (number !== 6 && number !== 17) || first < 128 || first + count > 8_192) return null;
  return Array.from({ length: count }, (_, offset) => ({ vip, protocol: number, range: first + offset }));
}

export const wireBlocks = (ranges: Iterable<HeldRange>): ananta.v1.RangeBlock.$Properties[] =>
  heldBlocks(ranges).map(wireBlock);

export const wireOwnedBlock = (held: HeldBlock): ananta.v1.OwnedBlock.$Properties => ({
  block: wireBlock(held),
  tenant: held.tenant,
  dip: held.dip,
});

const wireBlock = ({ vip, protocol: number, range, count }: HeldBlock): ananta.v1.RangeBlock.$Properties => ({
  vip,
  protocol: number,
  range,
  count,
});

/** An empty list is not sent, and means absent. */
const listed = (list: readonly string[] | null | undefined): readonly string[] | undefined =>
  list === null || list === undefined || list.length === 0 ? undefined : list;

function oneOf<const Value extends string>(
  text: string | null | undefined,
  known: readonly Value[],
): Value | undefined {
  return text === null || text === undefined ? undefined : required(text, known);
}

function required<const Value extends string>(text: string | null | undefined, known: readonly Value[]): Value {
  const value = known.find((candidate) => candidate === text);
  if (value !== undefined) return value;
  throw new AnantaError(
    "INVALID_ARGUMENT",
    `host_items: "${text ?? ""}" is not known; this agent is too old for its Managers`,
  );
}

function id<Id extends VipId | DipId | MuxId | PoolId>(value: number | null | undefined): Id {
  if (value === null || value === undefined || value < 1)
    throw new AnantaError("INVALID_ARGUMENT", "host_items: ids count from 1");
  return value as Id;
}

function protocol(value: number | null | undefined): PortProtocol {
  if (value === 6 || value === 17) return value;
  throw new AnantaError("INVALID_ARGUMENT", `host_items: protocol ${value ?? 0} has no ports`);
}

function port(value: number | null | undefined): number {
  const number = value ?? 0;
  if (number > 65_535) throw new AnantaError("INVALID_ARGUMENT", `host_items: ${number} is no port`);
  return number;
}

function distribution(value: number | null | undefined): 1 | 2 | undefined {
  if (value === null || value === undefined || value === 0) return undefined;
  if (value === 1 || value === 2) return value;
  throw new AnantaError(
    "INVALID_ARGUMENT",
    `host_items: distribution ${value} is not known; this agent is too old for its Managers`,
  );
}

function address(text: string | null | undefined): IpAddress {
  const parsed = parseIpAddress(text ?? "");
  if (parsed === null) throw new AnantaError("INVALID_ARGUMENT", `host_items: "${text ?? ""}" is not an IP address`);
  return parsed;
}
