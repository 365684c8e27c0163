/** The host scope between the wire's form and ours. Every field is checked: a bad one ends the stream. */
import { parseIpAddress } from "../../core/address.js";
import type { DipId, IpAddress, LogIndex, MuxId, VipId } from "../../core/brands.js";
import { AnantaError } from "../../core/errors.js";
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
  const { dip, endpoint, outbound, range, mux, internal, site } = wire;
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
    };
  }
  if (outbound)
    return { kind: "outbound", dipId: id(outbound.dipId), vipId: id(outbound.vipId), vip: address(outbound.vip) };
  if (mux) return { kind: "mux", muxId: id(mux.muxId), address: address(mux.address) };
  if (internal) return { kind: "internal", prefix: internal.prefix ?? "" };
  // The wire's bytes are a view on a buffer that is used again.
  if (site) return { kind: "site", hashKey: Uint8Array.from(site.hashKey ?? []) };
  throw new AnantaError(
    "INVALID_ARGUMENT",
    "host_items: an item of an unknown kind; this agent is too old for its Managers",
  );
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

function id<Id extends VipId | DipId | MuxId>(value: number | null | undefined): Id {
  if (value === null || value === undefined || value < 1)
    throw new AnantaError("INVALID_ARGUMENT", "host_items: ids count from 1");
  return value as Id;
}

function protocol(value: number | null | undefined): PortProtocol {
  if (value === 6 || value === 17) return value;
  throw new AnantaError("INVALID_ARGUMENT", `host_items: protocol ${value ?? 0} has no ports`);
}

function address(text: string | null | undefined): IpAddress {
  const parsed = parseIpAddress(text ?? "");
  if (parsed === null) throw new AnantaError("INVALID_ARGUMENT", `host_items: "${text ?? ""}" is not an IP address`);
  return parsed;
}
