/** Projection updates of the MUX scope, from the wire's form to ours. Every field is checked: a bad one ends the stream. */
import { parseIpAddress } from "../../core/address.js";
import type { DipId, HostId, IpAddress, LogIndex, MuxId, PoolId, VipId } from "../../core/brands.js";
import { given } from "../../core/present.js";
import { AnantaError } from "../../core/errors.js";
import type { Distribution } from "../../dataplane/flow-hash.js";
import {
  MEMBER_ENDED,
  type MemberState,
  type MuxItem,
  type PortProtocol,
  type RuleProtocol,
} from "../../dataplane/mux-items.js";
import type { ProjectionStep } from "../../dataplane/projection-receiver.js";
import type { ananta } from "../../proto/gen/wire.js";

/** Throws INVALID_ARGUMENT when an item is not what the schema says. */
export function muxStep(update: ananta.v1.ProjectionUpdate.$Properties): ProjectionStep<MuxItem> {
  return {
    clusterEpoch: update.clusterEpoch ?? 0,
    index: (update.index ?? 0) as LogIndex,
    snapshot: update.snapshot ?? false,
    last: update.last ?? false,
    upserts: (update.muxItems ?? []).map(muxItem),
    removedKeys: update.removedKeys ?? [],
    digest: update.digest ?? "",
  };
}

function muxItem(wire: ananta.v1.MuxItem.$Properties): MuxItem {
  const { vip, rule, nat, pool, dip, snat, mux, site } = wire;
  if (snat) {
    return {
      kind: "snat",
      vipId: id(snat.vipId),
      protocol: protocol(snat.protocol),
      range: snat.range ?? 0,
      dipId: id(snat.dipId),
    };
  }
  if (vip)
    return {
      kind: "vip",
      vipId: id(vip.vipId),
      address: address(vip.address),
      announced: vip.announced ?? false,
      ...given({ weight: vip.weight || undefined }),
    };
  if (rule) {
    return {
      kind: "rule",
      vipId: id(rule.vipId),
      protocol: ruleProtocol(rule.protocol, rule.port ?? 0),
      port: port(rule.port),
      poolId: id(rule.poolId),
      ...given({
        distribution: distribution(rule.distribution),
        idleTimeoutMs: rule.idleTimeoutMs || undefined,
        fastpath: rule.noFastpath === true ? (false as const) : undefined,
      }),
    };
  }
  if (nat) {
    return {
      kind: "nat",
      vipId: id(nat.vipId),
      protocol: protocol(nat.protocol),
      port: port(nat.port),
      dipId: id(nat.dipId),
    };
  }
  if (pool) {
    const members = (pool.members ?? []).map((member) => ({
      dipId: id<DipId>(member.dipId),
      weight: member.weight ?? 0,
      ...given({ state: memberState(member.state), backup: member.backup === true ? (true as const) : undefined }),
    }));
    return {
      kind: "pool",
      poolId: id<PoolId>(pool.poolId),
      maxMembers: pool.maxMembers ?? 0,
      members,
      ...given({
        failoverPermille: pool.failoverPermille || undefined,
        failOpen: pool.failOpen === true ? (true as const) : undefined,
        resetOnProbeDown: pool.resetOnProbeDown === true ? (true as const) : undefined,
      }),
    };
  }
  if (dip) {
    const hostId = (dip.hostId || undefined) as HostId | undefined;
    return { kind: "dip", dipId: id(dip.dipId), locator: address(dip.locator), ...given({ hostId }) };
  }
  if (mux) {
    return {
      kind: "mux",
      muxId: id<MuxId>(mux.muxId),
      name: mux.name ?? "",
      incarnation: mux.incarnation ?? 0,
      address: address(mux.address),
      bootId: mux.bootId ?? "",
      joinedIndex: (mux.joinedIndex ?? 0) as LogIndex,
      ...given({ drained: mux.drained === true ? (true as const) : undefined }),
    };
  }
  if (site) {
    // The wire's bytes are a view on a buffer that is used again.
    const muxKey = site.muxKey?.length ? Uint8Array.from(site.muxKey) : undefined;
    return { kind: "site", hashKey: Uint8Array.from(site.hashKey ?? []), ...given({ muxKey }) };
  }
  throw new AnantaError(
    "INVALID_ARGUMENT",
    "mux_items: an item of an unknown kind; this MUX is too old for its Managers",
  );
}

function id<Id extends VipId | DipId | PoolId | MuxId>(value: number | null | undefined): Id {
  if (value === null || value === undefined || value < 1)
    throw new AnantaError("INVALID_ARGUMENT", "mux_items: ids count from 1");
  return value as Id;
}

function protocol(value: number | null | undefined): PortProtocol {
  if (value === 6 || value === 17) return value;
  throw new AnantaError("INVALID_ARGUMENT", `mux_items: protocol ${value ?? 0} has no ports to balance by`);
}

function ruleProtocol(value: number | null | undefined, ofPort: number): RuleProtocol {
  return (value ?? 0) === 0 && ofPort === 0 ? 0 : protocol(value);
}

function port(value: number | null | undefined): number {
  if ((value ?? 0) <= 65_535) return value ?? 0;
  throw new AnantaError("INVALID_ARGUMENT", `mux_items: ${value ?? 0} is no port`);
}

function distribution(value: number | null | undefined): Exclude<Distribution, 0> | undefined {
  if ((value ?? 0) <= 2) return (value || undefined) as Exclude<Distribution, 0> | undefined;
  throw new AnantaError("INVALID_ARGUMENT", `mux_items: distribution ${value ?? 0} is not known to this MUX`);
}

function memberState(value: number | null | undefined): Exclude<MemberState, 0> | undefined {
  if ((value ?? 0) <= MEMBER_ENDED) return (value || undefined) as Exclude<MemberState, 0> | undefined;
  throw new AnantaError("INVALID_ARGUMENT", `mux_items: member state ${value ?? 0} is not known to this MUX`);
}

function address(text: string | null | undefined): IpAddress {
  const parsed = parseIpAddress(text ?? "");
  if (parsed === null) throw new AnantaError("INVALID_ARGUMENT", `mux_items: "${text ?? ""}" is not an IP address`);
  return parsed;
}
