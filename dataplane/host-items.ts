/**
 * What the control plane tells a Host Agent, item by item: a projection of the replicated state at one log index, cut to
 * what concerns this host's own DIPs. Same rules as for a MUX, see `mux-items.ts`.
 */
import type { DipId, IpAddress, MuxId, VipId } from "../core/brands.js";
import { assertNever } from "../core/assert.js";
import type { PortProtocol } from "./mux-items.js";

export type HostItem =
  HostDipItem | HostEndpointItem | HostOutboundItem | HostRangeItem | HostMuxItem | HostInternalItem | HostSiteItem;

/** A DIP that lives on this host. */
export interface HostDipItem {
  readonly kind: "dip";
  readonly dipId: DipId;
  readonly address: IpAddress;
  readonly locator: IpAddress;
  readonly tenant: string;
}

/** VIP:port is translated to DIP:dipPort. Key: vip, protocol, port, dipId (a host may run several members of a pool). */
export interface HostEndpointItem {
  readonly kind: "endpoint";
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  readonly port: number;
  readonly dipId: DipId;
  readonly dipPort: number;
}

/** Flows that the DIP opens to the outside may leave as this VIP. */
export interface HostOutboundItem {
  readonly kind: "outbound";
  readonly dipId: DipId;
  readonly vipId: VipId;
  readonly vip: IpAddress;
}

/** The DIP owns ports [range * 8, range * 8 + 8) of the VIP. */
export interface HostRangeItem {
  readonly kind: "range";
  readonly vipId: VipId;
  readonly vip: IpAddress;
  readonly protocol: PortProtocol;
  /** port >> 3, integer 128..8191. */
  readonly range: number;
  readonly dipId: DipId;
}

/** Encapsulated packets are accepted from this outer source. */
export interface HostMuxItem {
  readonly kind: "mux";
  readonly muxId: MuxId;
  readonly address: IpAddress;
}

/** Destinations in this prefix are not source-NATed: other DIPs of the tenant's address spaces. */
export interface HostInternalItem {
  readonly kind: "internal";
  /** CIDR text, "10.0.0.0/8". */
  readonly prefix: string;
}

export interface HostSiteItem {
  readonly kind: "site";
  /** Key of the flow hash: 8 bytes, one for the site. */
  readonly hashKey: Uint8Array;
}

export type HostChange =
  { readonly op: "upsert"; readonly item: HostItem } | { readonly op: "remove"; readonly key: string };

/** "dip/7", "endpoint/3/6/80/7", "outbound/7/3", "range/3/6/1290", "mux/1", "internal/10.0.0.0/8", "site". */
export function hostItemKey(item: HostItem): string {
  switch (item.kind) {
    case "dip":
      return `dip/${item.dipId}`;
    case "endpoint":
      return `endpoint/${item.vipId}/${item.protocol}/${item.port}/${item.dipId}`;
    case "outbound":
      return `outbound/${item.dipId}/${item.vipId}`;
    case "range":
      return `range/${item.vipId}/${item.protocol}/${item.range}`;
    case "mux":
      return `mux/${item.muxId}`;
    case "internal":
      return `internal/${item.prefix}`;
    case "site":
      return "site";
    default:
      return assertNever(item);
  }
}
